"""The arithmetic of the head: an additive model of what the stronger model gains on a prompt.

    gain = bias + sum over features f of curve_f(standardised f) + sum over landmarks c of pull_c * k(embedding, c)

Each ``curve_f`` is piecewise linear with bends at ``KNOTS``; ``k`` is a Gaussian kernel. Being additive, every score
falls apart into what each feature and the embedding as a whole added to the average, which is what the reasons say.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Vectors = NDArray[np.float32]
# Where curves bend, in standard deviations. Below the first and above LIMIT they are flat: a prompt unlike all others
# must not get an extreme score.
KNOTS: Final = np.array([-3.0, -1.0, 0.0, 1.0])
LIMIT: Final = 3.0
# exp(-WIDTH * squared distance): on unit vectors 0.14 at a right angle. Half and twice of it did no better.
WIDTH: Final = 1.0


@dataclass(frozen=True, slots=True)
class Curves:
    """What each feature adds.

    Attributes:
        bias: the gain where all features are as usual.
        slopes: change of slope at each knot, of shape (len(KNOTS), COUNT).
        usual: what each curve gives on average, of shape (COUNT,); it is in the bias.
    """

    bias: float
    slopes: Array
    usual: Array

    def terms(self, standard: Array) -> Array:
        """Of standardised features of shape (…, COUNT), what each adds to the average; of the same shape."""
        terms: Array = (bent(standard) * self.slopes).sum(axis=-2)
        terms -= self.usual
        return terms


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of a head.

    Attributes:
        mean, scale: of each feature in training, of shape (COUNT,).
        curves: beside an embedding.
        alone: where there is no embedding; on the same scale.
        landmarks: unit vectors of shape (landmarks, dimensions).
        pull: of each landmark, of shape (landmarks,).
        usual: what the landmarks give on average; it is in the bias.
    """

    mean: Array
    scale: Array
    curves: Curves
    alone: Curves
    landmarks: Vectors
    pull: Vectors
    usual: float

    def standard(self, features: Array) -> Array:
        """Features in standard deviations from the mean."""
        standard: Array = (features - self.mean) / self.scale
        return standard

    def about(self, vector: Vectors) -> float:
        """What the embedding as a whole adds; ``vector`` is of length 1."""
        return float(kernel(vector, self.landmarks) @ self.pull) - self.usual

    def gains(self, features: Array, vectors: Vectors) -> Array:
        """The gain expected on each prompt: features (n, COUNT) and unit vectors (n, dimensions) in, (n,) out."""
        terms = self.curves.terms(self.standard(features)).sum(axis=1)
        gains: Array = self.curves.bias + terms + kernel(vectors, self.landmarks) @ self.pull - self.usual
        return gains


def bent(standard: Array) -> Array:
    """The pieces that curves are made of: standardised features (…, COUNT) to (…, len(KNOTS), COUNT)."""
    pieces: Array = np.minimum(standard, LIMIT)[..., None, :] - KNOTS[:, None]
    return np.maximum(pieces, 0, out=pieces)


def kernel(vectors: Vectors, landmarks: Vectors) -> Vectors:
    """Likeness of unit vectors (…, dimensions) to each landmark: (…, landmarks)."""
    likeness: Vectors = np.exp(np.float32(2 * WIDTH) * (vectors @ landmarks.T - np.float32(1)))
    return likeness

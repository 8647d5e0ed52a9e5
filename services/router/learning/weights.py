"""The arithmetic of the head: an additive model of what the stronger model gains on a prompt.

    gain = bias + sum over features f of curve_f(f) + sum over landmarks c of pull_c * k(embedding, c)

held within what a gain can be, -1 to 1: a sum knows no bounds. What reaches them is not told apart any more, by whoever
measures a head no more than by the router.

Each ``curve_f`` is piecewise linear; ``k`` is a Gaussian kernel. Being additive, every score
falls apart into what each feature and the embedding as a whole added to the average, which is what the reasons say.
"""

from dataclasses import dataclass
from typing import Final, Self

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
LEAST_GAIN: Final = -1.0
MOST_GAIN: Final = 1.0


@dataclass(frozen=True, slots=True)
class Bends:
    """Where curves bend, in the features' own units.

    Attributes:
        knots: of shape (len(KNOTS), COUNT).
        limit: above which a feature says no more, of shape (COUNT,).
    """

    knots: Array
    limit: Array

    @classmethod
    def at(cls, mean: Array, scale: Array) -> Self:
        """At ``KNOTS`` and ``LIMIT`` standard deviations from the mean."""
        return cls(mean + KNOTS[:, None] * scale, mean + LIMIT * scale)

    def pieces(self, features: Array) -> Array:
        """What curves are made of: features (…, COUNT) to how far each is past each knot, (…, len(KNOTS), COUNT)."""
        pieces: Array = np.minimum(features, self.limit)[..., None, :] - self.knots
        return np.maximum(pieces, 0, out=pieces)


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

    def terms(self, pieces: Array) -> Array:
        """What each feature adds to the average, of shape (…, COUNT); ``pieces`` from ``Bends``, which it uses up."""
        pieces *= self.slopes
        terms: Array = np.add.reduce(pieces, axis=-2)
        terms -= self.usual
        return terms


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of a head.

    Attributes:
        bends: of all curves.
        curves: beside an embedding.
        alone: where there is no embedding; on the same scale.
        landmarks: unit vectors of shape (landmarks, dimensions).
        pull: of each landmark, of shape (landmarks,).
        usual: what the landmarks give on average; it is in the bias.
    """

    bends: Bends
    curves: Curves
    alone: Curves
    landmarks: Vectors
    pull: Vectors
    usual: float

    def about(self, vector: Vectors) -> float:
        """What the embedding as a whole adds; ``vector`` is of length 1."""
        return float(kernel(vector, self.landmarks) @ self.pull) - self.usual

    def gains(self, features: Array, vectors: Vectors) -> Array:
        """The gain expected on each prompt: features (n, COUNT) and unit vectors (n, dimensions) in, (n,) out."""
        terms = self.curves.terms(self.bends.pieces(features)).sum(axis=1)
        gains: Array = self.curves.bias + terms + kernel(vectors, self.landmarks) @ self.pull - self.usual
        return np.clip(gains, LEAST_GAIN, MOST_GAIN, out=gains)


def kernel(vectors: Vectors, landmarks: Vectors) -> Vectors:
    """Likeness of unit vectors (…, dimensions) to each landmark: (…, landmarks)."""
    likeness: Vectors = vectors @ landmarks.T
    likeness -= 1
    likeness *= 2 * WIDTH
    return np.exp(likeness, out=likeness)

"""Fitting a head: ridge regression of the gain.

Least squares on the gain itself, -1 to 1, ranks better than a classifier of "weak fails, strong does not" does: rows on
which the strong model is the worse one count as what they are. Measured on public sets: docs/routing.md.
"""

from typing import Final

import numpy as np

from services.router.learning.features import COUNT
from services.router.learning.weights import KNOTS, Array, Bends, Curves, Vectors, Weights, kernel

# 64, 128 and 256 did equally well; fewer are quicker.
LANDMARKS: Final = 64
ROUNDS: Final = 6
# How much the weights are held back, in rows: the same for few labels and many, as a prior is. 10 to 30 did about
# as well on every set tried, 3 and 100 worse.
RIDGE: Final = 30.0
SEED: Final = 1
LEAST_ROWS: Final = 50
ALMOST_NOTHING: Final = 1e-9
# Directions in which the landmarks hardly differ hold rounding errors and little else.
LEAST_SPREAD: Final = 1e-4


def fit(features: Array, vectors: Vectors, gains: Array, ridge: float = RIDGE) -> Weights:
    """Weights for rows with features (n, COUNT), unit vectors (n, dimensions) and gains (n,). Deterministic."""
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale[scale < ALMOST_NOTHING] = 1.0
    bends = Bends.at(mean, scale)
    pieces = bends.pieces(features).reshape(len(gains), -1)
    # In standard deviations, and all curves together weigh as much as the kernel, which is 1 at most.
    evening = 1 / (np.tile(scale, len(KNOTS)) * np.sqrt(pieces.shape[1]))
    landmarks = centres(vectors, LANDMARKS)
    whitening = _whitening(landmarks)
    likeness = kernel(vectors, landmarks) @ whitening
    joint = _ridge(np.hstack((pieces * evening, likeness)), gains, ridge)
    count = pieces.shape[1]
    pull = (whitening @ joint[count:]).astype(np.float32)
    return Weights(
        bends=bends,
        curves=_curves(pieces, joint[:count] * evening, gains),
        alone=_curves(pieces, _ridge(pieces * evening, gains, ridge) * evening, gains),
        landmarks=landmarks,
        pull=pull,
        usual=float((kernel(vectors, landmarks) @ pull).mean()),
    )


def centres(vectors: Vectors, most: int) -> Vectors:
    """Unit vectors that lie where the vectors do: spherical k-means, ``most`` of them or one per distinct vector.

    Centres rather than prompts of the training set, whose embeddings would end up in the file.
    """
    distinct = np.unique(vectors, axis=0)
    rng = np.random.default_rng(SEED)
    found: Vectors = distinct[rng.choice(len(distinct), min(most, len(distinct)), replace=False)]
    # Rounded as they will be in the file, so that what is measured is what is kept.
    for _ in range(ROUNDS):
        nearest = np.argmax(vectors @ found.T, axis=1)
        sums = np.zeros_like(found)
        np.add.at(sums, nearest, vectors)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        found = np.where(lengths > 0, sums / np.maximum(lengths, ALMOST_NOTHING), found)
    return found.astype(np.float16).astype(np.float32)


def _whitening(landmarks: Vectors) -> Array:
    """Turns likeness to landmarks into coordinates whose inner product is the kernel (Nyström)."""
    values, directions = np.linalg.eigh(kernel(landmarks, landmarks).astype(np.float64))
    kept = values > LEAST_SPREAD
    coordinates: Array = directions[:, kept] / np.sqrt(values[kept])
    return coordinates


def _ridge(inputs: Array, gains: Array, ridge: float) -> Array:
    centred = inputs - inputs.mean(axis=0)
    squares = centred.T @ centred + ridge * np.eye(inputs.shape[1])
    weights: Array = np.linalg.solve(squares, centred.T @ (gains - gains.mean()))
    return weights


def _curves(pieces: Array, weights: Array, gains: Array) -> Curves:
    shape = (len(KNOTS), COUNT)
    slopes = weights.reshape(shape)
    usual: Array = (pieces.mean(axis=0).reshape(shape) * slopes).sum(axis=0)
    return Curves(bias=float(gains.mean()), slopes=slopes, usual=usual)

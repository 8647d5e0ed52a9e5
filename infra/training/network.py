"""Fits a small network to labels that know only some of the horizons.

numpy is enough: four thousand rows and half a thousand inputs take seconds.
"""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.router.freshness.classifier import Array, Network

BATCH: Final = 64
RATE: Final = 3e-3
DECAY: Final = 1e-4
CORPUS_DECAY: Final = 1e-3
# Of the beta distribution that shares are drawn from: below 1, one of the two mostly prevails.
MIXING: Final = 0.4
# Adam's, as its paper has them (Kingma and Ba, 2015).
MOMENTUM: Final = 0.9
SCALING: Final = 0.999


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a network, and how long and how gently it is trained."""

    hidden: int
    epochs: int
    dropout: float = 0.2


@dataclass(frozen=True, slots=True)
class Labelled:
    """What to learn from.

    Attributes:
        x: inputs, shape (rows, inputs), each of a spread of about 1.
        targets: how probable it is that the answer changes within each horizon, shape (rows, horizons), or NaN where
            the label does not say.
        corpus: number of the corpus of each row. Corpora have other shares of what changes for the way they were
            collected: each has an intercept of its own, which is dropped in the end.
        weights: of the rows.
    """

    x: Array
    targets: Array
    corpus: NDArray[np.intp]
    weights: Array


@contextmanager
def workers() -> Iterator[Executor]:
    """Processes to fit in, one for each core, whose linear algebra has a single thread.

    On matrices as small as these OpenBLAS's threads mostly wait for each other: two of them take four times the
    processor time of one. One thread also adds up in the same order wherever it runs.
    """
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read when numpy is loaded, which is why the processes are started anew
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def fit(rows: Labelled, shape: Shape, seed: int) -> Network:
    """Cross entropy over the known targets, by Adam with a cosine schedule, with dropout of inputs and hidden units.

    Rows are shown in mixtures of two of a corpus (mixup: Zhang et al., 2018): what lies between two prompts changes
    about as soon as they do, and a few thousand rows leave much of that open.
    """
    rng = np.random.default_rng(seed)
    known, truth = (~np.isnan(rows.targets)).astype(np.float32), np.nan_to_num(rows.targets)
    belongs = np.eye(int(rows.corpus.max()) + 1, dtype=np.float32)[rows.corpus]
    inputs, horizons = rows.x.shape[1], truth.shape[1]
    values = {
        "hidden": rng.normal(0, 1 / np.sqrt(inputs), (inputs, shape.hidden)).astype(np.float32),
        "lift": np.zeros(shape.hidden, np.float32),
        "output": rng.normal(0, 0.1, (shape.hidden, horizons)).astype(np.float32),
        "direct": np.zeros((inputs, horizons), np.float32),
        "bias": np.zeros(horizons, np.float32),
        "corpus": np.zeros((belongs.shape[1], horizons), np.float32),
    }
    adam = _Adam(values, steps=shape.epochs * -(-len(truth) // BATCH))
    order = np.arange(len(truth))
    for _ in range(shape.epochs):
        rng.shuffle(order)
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            other = batch[_partners(rng, rows.corpus[batch])]
            own = np.float32(rng.beta(MIXING, MIXING))
            x = own * rows.x[batch] + (1 - own) * rows.x[other]
            x *= _kept(rng, x.shape, shape.dropout)
            active = np.tanh(x @ values["hidden"] + values["lift"])
            kept = _kept(rng, active.shape, shape.dropout)
            logits = x @ values["direct"] + (active * kept) @ values["output"] + values["bias"]
            logits += belongs[batch] @ values["corpus"]
            aim, told = own * truth[batch] + (1 - own) * truth[other], known[batch] * known[other]
            error = (1 / (1 + np.exp(-logits)) - aim) * told * rows.weights[batch, None] / len(batch)
            back = (error @ values["output"].T) * kept * (1 - active * active)
            adam.step(
                {
                    "hidden": x.T @ back + DECAY * values["hidden"],
                    "lift": back.sum(axis=0),
                    "output": (active * kept).T @ error + DECAY * values["output"],
                    "direct": x.T @ error + DECAY * values["direct"],
                    "bias": error.sum(axis=0),
                    "corpus": belongs[batch].T @ error + CORPUS_DECAY * values["corpus"],
                }
            )
    values.pop("corpus")
    return Network(**values)


def _partners(rng: np.random.Generator, corpus: NDArray[np.intp]) -> NDArray[np.intp]:
    """For each row another one of its corpus, or itself, each of them once; shape (rows,)."""
    partners, shuffled = np.empty_like(corpus), rng.permutation(len(corpus))
    partners[np.argsort(corpus, kind="stable")] = shuffled[np.argsort(corpus[shuffled], kind="stable")]
    return partners


def _kept(rng: np.random.Generator, shape: tuple[int, ...], dropout: float) -> Array:
    return (rng.random(shape, dtype=np.float32) > dropout).astype(np.float32) / np.float32(1 - dropout)


class _Adam:
    """Adam, with a rate that falls to 0 along a cosine."""

    def __init__(self, values: dict[str, Array], *, steps: int) -> None:
        self._values = values
        self._means = {name: np.zeros_like(value) for name, value in values.items()}
        self._squares = {name: np.zeros_like(value) for name, value in values.items()}
        self._steps = steps
        self._done = 0

    def step(self, gradients: dict[str, Array]) -> None:
        """Change the values, in place."""
        self._done += 1
        rate = RATE * (1 + np.cos(np.pi * self._done / self._steps)) / 2
        for name, gradient in gradients.items():
            mean, square = self._means[name], self._squares[name]
            mean += (1 - MOMENTUM) * (gradient - mean)
            square += (1 - SCALING) * (gradient * gradient - square)
            corrected = mean / (1 - MOMENTUM**self._done)
            spread = np.sqrt(square / (1 - SCALING**self._done)) + 1e-8
            self._values[name] -= (rate * corrected / spread).astype(np.float32)

"""What a score is worth: how much of the stronger model's gain it recovers, for which share of the prompts.

Prompts are ranked by the score and the top share p goes to the strong model. PGR(p), the performance gap recovered, is
the gain of those prompts as a share of the gain of all. APGR is the area under it over p (random: 0.5), CPT(x) the
least p, in per cent, at which the running maximum of PGR reaches x per cent (random: x). From RouteLLM
(arXiv:2406.18665), section 4; the figures here are by its definitions, on 201 points, ties at random.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.errors import ForebayError

Array = NDArray[np.float64]
GRID: Final = np.linspace(0, 1, 201)
TIES: Final = 5
RESAMPLES: Final = 1000
SEED: Final = 20_261_124


class NothingToGain(ForebayError):
    """The strong model is no better on these rows than the weak one: there is no gap to recover."""

    code = "nothing_to_gain"


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure, and its 95 % percentile-bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class Worth:
    """What a score is worth on some rows; ``cpt50`` and ``cpt80`` in per cent of the prompts."""

    apgr: Interval
    cpt50: Interval
    cpt80: Interval


def recovered(scores: Array, gains: Array, rng: np.random.Generator) -> Array:
    """PGR on ``GRID``, of shape (201,); equal scores in random order.

    Raises:
        NothingToGain: the gains add up to nothing, or less.
    """
    _check(gains)
    order = _order(scores, rng)
    return _curve(np.ones(len(order)), gains[order])


def apgr(scores: Array, gains: Array) -> float:
    """The area under PGR; the mean of five orders of equal scores."""
    return float(np.mean([_area(curve) for curve in _curves(scores, gains)]))


def worth(scores: Array, gains: Array, resamples: int = RESAMPLES) -> Worth:
    """APGR, CPT50 and CPT80 with intervals. Deterministic."""
    values = np.mean([_figures(curve) for curve in _curves(scores, gains)], axis=0)
    return _worth(values, np.array([_figures(curve) for curve in _resampled(scores, gains, resamples)]))


def at_random(gains: Array, orders: int = RESAMPLES) -> Worth:
    """What a score that knows nothing is worth on these rows; the intervals say what luck alone gives."""
    rng, alike = np.random.default_rng(SEED), np.zeros(len(gains))
    drawn = np.array([_figures(recovered(alike, gains, rng)) for _ in range(orders)])
    return _worth(drawn.mean(axis=0), drawn)


def difference(scores: Array, others: Array, gains: Array, resamples: int = RESAMPLES) -> Interval:
    """APGR of one score less that of another, resampled in pairs: the same rows for both. Deterministic."""
    pairs = zip(_resampled(scores, gains, resamples), _resampled(others, gains, resamples), strict=True)
    low, high = np.percentile([_area(one) - _area(other) for one, other in pairs], [2.5, 97.5])
    return Interval(apgr(scores, gains) - apgr(others, gains), float(low), float(high))


def _worth(values: Array, drawn: Array) -> Worth:
    """Figures, of shape (3,), with the intervals of those that were drawn, (draws, 3)."""
    lows, highs = np.percentile(drawn, [2.5, 97.5], axis=0)
    return Worth(*(Interval(*map(float, one)) for one in zip(values, lows, highs, strict=True)))


def _curves(scores: Array, gains: Array) -> Iterator[Array]:
    rng = np.random.default_rng(SEED)
    for _ in range(TIES):
        yield recovered(scores, gains, rng)


def _resampled(scores: Array, gains: Array, resamples: int) -> Iterator[Array]:
    """Curves of rows drawn with replacement, the same rows for every score; draws without a gap are drawn again."""
    _check(gains)
    draws, ties = np.random.default_rng(SEED), np.random.default_rng(SEED + 1)
    count, made = len(gains), 0
    orders = [_order(scores, ties) for _ in range(TIES)]
    while made < resamples:
        times = np.bincount(draws.integers(0, count, count), minlength=count).astype(float)
        if times @ gains > 0:
            order = orders[made % TIES]
            yield _curve(times[order], gains[order])
            made += 1


def _check(gains: Array) -> None:
    if gains.sum() <= 0:
        raise NothingToGain("the strong model is no better on these rows than the weak one: no gap to recover")


def _order(scores: Array, rng: np.random.Generator) -> NDArray[np.intp]:
    """Highest first."""
    return np.lexsort((rng.random(len(scores)), -scores))


def _curve(times: Array, gains: Array) -> Array:
    """PGR on the grid, of rows in order that count so many times."""
    gained = np.concatenate(([0.0], np.cumsum(times * gains)))
    share = np.concatenate(([0.0], np.cumsum(times)))
    curve: Array = np.interp(GRID, share / share[-1], gained / gained[-1])
    return curve


def _figures(curve: Array) -> tuple[float, float, float]:
    return _area(curve), _cpt(curve, 0.5), _cpt(curve, 0.8)


def _area(curve: Array) -> float:
    return float(((curve[1:] + curve[:-1]) / 2).mean())


def _cpt(curve: Array, recovered: float) -> float:
    """In per cent; a grid point at which the gap counts as recovered always exists, as PGR(1) is 1."""
    return float(GRID[np.argmax(curve >= recovered - 1e-12)] * 100)

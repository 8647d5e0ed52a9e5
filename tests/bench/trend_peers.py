"""Two well-known rules for trending topics, small, on the same streams: what the service is compared with.

Each gets the threshold that does best on the very stream it is scored on, which no rule in use can know.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from tests.bench.trend_stream import MINUTE_S, Alarm, Counts, Score, Stream

WINDOW_MIN: Final = 3
HISTORY_MIN: Final = 180
# A topic is alarmed again only after this time without an alarm.
QUIET_MIN: Final = 15
Floats = npt.NDArray[np.float64]


def signitrend(stream: Stream, counts: Counts) -> Score:
    """SigniTrend (Schubert, Weiler, Kriegel, KDD 2014): deviations of the share from its moving mean.

    Significance (x - max(mean, bias)) / (deviation + bias), over windows of three minutes, mean and variance
    exponentially weighted with a half-life of three hours; the bias is that of a topic asked for once per window.
    """
    windows = counts[: len(counts) // WINDOW_MIN * WINDOW_MIN].reshape(-1, WINDOW_MIN, counts.shape[1]).sum(axis=1)
    share = windows / windows.sum(axis=1, keepdims=True)
    alpha = 1 - 0.5 ** (WINDOW_MIN / HISTORY_MIN)
    bias = 1 / float(windows.sum(axis=1).mean())
    mean, variance = share[0].copy(), np.zeros(share.shape[1])
    significance = np.zeros_like(share)
    for n, now in enumerate(share):
        significance[n] = (now - np.maximum(mean, bias)) / (np.sqrt(variance) + bias)
        off = now - mean
        mean += alpha * off
        variance = (1 - alpha) * (variance + alpha * off**2)
    return _best(stream, significance, WINDOW_MIN, np.geomspace(2, 60, 40))


def poisson(stream: Stream, counts: Counts) -> Score:
    """The Poisson log-likelihood ratio of the last three minutes against the three hours before, by shares."""
    totals = counts.sum(axis=1).astype(float)
    now, now_all = _sums(counts, WINDOW_MIN), _sums(totals[:, None], WINDOW_MIN)
    long, long_all = _sums(counts, HISTORY_MIN + WINDOW_MIN), _sums(totals[:, None], HISTORY_MIN + WINDOW_MIN)
    usual = np.maximum(long - now, 0.5) / np.maximum(long_all - now_all, 1) * now_all
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(now > usual, 2 * (now * np.log(now / usual) - (now - usual)), 0.0)
    return _best(stream, ratio, 1, np.geomspace(10, 80, 40))


def _sums(values: Counts | Floats, minutes: int) -> Floats:
    """Sums over the last minutes, of the same shape."""
    total = np.cumsum(values, axis=0, dtype=float)
    total[minutes:] -= total[:-minutes].copy()
    return total


def _best(stream: Stream, values: Floats, step_min: int, thresholds: Floats) -> Score:
    scores = (stream.score(list(_alarms(values, float(threshold), step_min))) for threshold in thresholds)
    return max(scores, key=lambda score: score.f1)


def _alarms(values: Floats, threshold: float, step_min: int) -> Iterator[Alarm]:
    """The first of each run of values above the threshold; a run ends after QUIET_MIN below it."""
    rows, topics = np.nonzero(values >= threshold)
    last: dict[int, int] = {}
    for row, topic in zip(rows.tolist(), topics.tolist(), strict=True):
        if topic not in last or (row - last[topic]) * step_min > QUIET_MIN:
            yield (row + 1) * step_min * MINUTE_S, topic
        last[topic] = row


def ewma(values: Sequence[float], step_s: float, threshold: float, constant_s: float = 86_400) -> list[bool]:
    """Which values of a series are more than ``threshold`` deviations above its moving mean over a day."""
    alpha = 1 - float(np.exp(-step_s / constant_s))
    mean, variance = values[0], 1.0
    flags = []
    for value in values:
        off = value - mean
        flags.append(off > threshold * variance**0.5)
        mean += alpha * off
        variance = (1 - alpha) * (variance + alpha * off**2)
    return flags

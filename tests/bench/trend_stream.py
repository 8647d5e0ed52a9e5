"""A stream of requests of which it is known exactly when which topic bursts, and how detections are scored against it.

1,500 topics with Zipf shares. The load follows a daily rhythm of +-50 %, doubles for good half way through, and each
topic has a rhythm of its own of +-25 % beside it. A burst is one of 60 topics, drawn evenly over all ranks, that gets
extra requests for 20 to 60 minutes: 1 to 10 % of the mean load (log-uniform), but no fewer than 3 a minute and 4 times
its own usual rate, rising to that over the first 3 minutes.

A burst counts as detected by the first alarm for its topic between its begin and 15 minutes after its end (that of a
window that has to be over first comes late). Every other alarm is false: one for another topic, and also a second one
for the same burst. The delay runs from the begin of the burst, before it has risen.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

TOPICS: Final = 1_500
BURSTS: Final = 60
# The service tells its counts every second; here every ten, which costs it some of the delay.
TICK_S: Final = 10
WARM_S: Final = 6 * 3600
RISE_S: Final = 180
LATE_S: Final = 900
DAY_S: Final = 86_400
MINUTE_S: Final = 60
HOUR: Final = 3600 // TICK_S  # ticks that are drawn at once

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Alarm = tuple[float, int]  # seconds, topic


@dataclass(frozen=True, slots=True)
class Burst:
    """One topic's; seconds since the begin of the stream, extra requests a minute."""

    topic: int
    begin: float
    end: float
    peak: float


@dataclass(frozen=True, slots=True)
class Score:
    """How alarms did."""

    f1: float
    recall: float
    delay_min: float
    false_per_day: float


class Stream:
    """One simulated stream; ``load`` is its mean number of requests a minute."""

    def __init__(self, seed: int, load: float, days: float) -> None:
        self._seed = seed
        random = np.random.default_rng(seed)
        self._load = load
        self.days = days
        share = 1 / np.arange(1, TOPICS + 1)
        self._share = share / share.sum()
        self._phase: Floats = random.uniform(0, 2 * np.pi, TOPICS)
        self._end_s = WARM_S + days * DAY_S
        self.bursts = [self._burst(int(topic), random) for topic in random.choice(TOPICS, BURSTS, replace=False)]

    def _burst(self, topic: int, random: np.random.Generator) -> Burst:
        begin = random.uniform(WARM_S, self._end_s - 7200)
        share = math.exp(random.uniform(math.log(0.01), math.log(0.1)))
        peak = max(3.0, share * self._load, 4 * self._share[topic] * self._load)
        return Burst(topic, begin, begin + random.uniform(20, 60) * MINUTE_S, peak)

    def ticks(self) -> Iterator[tuple[float, Counts]]:
        """The time at the end of each tick, and the requests in it, of shape (topics,); the same ones each time."""
        random = np.random.default_rng((self._seed, 1))
        for first in range(0, int(self._end_s) // TICK_S, HOUR):
            times = np.asarray((first + np.arange(HOUR)) * TICK_S, dtype=np.float64)
            for time, counts in zip(times, random.poisson(self._rates(times) * TICK_S / MINUTE_S), strict=True):
                yield float(time) + TICK_S, counts

    def _rates(self, times: Floats) -> Floats:
        """Requests a minute, of shape (times, topics)."""
        day = 2 * np.pi * times / DAY_S
        step = np.where(times >= WARM_S + self.days * DAY_S / 2, 2.0, 1.0)
        load = self._load * (1 + 0.5 * np.sin(day)) * step
        rates: Floats = load[:, None] * self._share * (1 + 0.25 * np.sin(day[:, None] + self._phase))
        for burst in self.bursts:
            since = times - burst.begin
            rates[:, burst.topic] += burst.peak * np.clip(since / RISE_S, 0, 1) * (times < burst.end)
        return rates

    def score(self, alarms: Sequence[Alarm]) -> Score:
        """How alarms did after the warm-up."""
        delays: dict[int, float] = {}
        false = 0
        for at, topic in alarms:
            if at < WARM_S:
                continue
            meant = [n for n, burst in enumerate(self.bursts) if burst.topic == topic and _covers(burst, at)]
            if meant and meant[0] not in delays:
                delays[meant[0]] = (at - self.bursts[meant[0]].begin) / MINUTE_S
            else:
                false += 1
        hit = len(delays)
        f1 = 2 * hit / (2 * hit + false + BURSTS - hit)
        return Score(f1, hit / BURSTS, float(np.median(list(delays.values()) or [math.nan])), false / self.days)


def _covers(burst: Burst, at: float) -> bool:
    return burst.begin <= at <= burst.end + LATE_S


def minutes(stream: Stream) -> Counts:
    """The whole stream as requests a minute, of shape (minutes, topics)."""
    rows: list[Any] = [counts for _, counts in stream.ticks()]
    per = MINUTE_S // TICK_S
    summed: Counts = np.stack(rows).reshape(-1, per, TOPICS).sum(axis=1)
    return summed

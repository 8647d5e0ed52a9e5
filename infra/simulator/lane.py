"""The limits of one API key, as they stand."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from infra.simulator.bucket import Bucket
from infra.simulator.scenario import Limits

MINUTE_S: Final = 60.0
Metered = Literal["requests", "tokens"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call was not taken.

    Attributes:
        over: the limit it would have broken.
        wait_s: simulated seconds until it would be taken, if nobody else came; None for never (more tokens than can be
            saved up), and for ``concurrency``, where nobody can say.
        asked: how many of what is limited it wanted.
        limit: how many there are, in a minute or at the same time.
    """

    over: Literal["requests", "tokens", "concurrency"]
    wait_s: float | None
    asked: float
    limit: float


@dataclass(frozen=True, slots=True)
class Standing:
    """How a limit per minute stands, for the headers."""

    of: str
    per_minute: float
    remaining: int
    full_in_s: float


@dataclass(frozen=True, slots=True)
class _Meter:
    of: Metered
    per_minute: float
    bucket: Bucket


class Lane:
    """Admits calls, or says why not."""

    def __init__(self, limits: Limits, now_s: float) -> None:
        self._limits = limits
        self._meters = _meters(limits, (), now_s)
        self.in_flight = 0

    @property
    def requests_per_s(self) -> float | None:
        """Calls it can take in a second in the long run, as far as their number is limited."""
        per_minute = self._limits.requests_per_minute
        return None if per_minute is None else per_minute / MINUTE_S

    def adapt(self, limits: Limits, now_s: float) -> None:
        """Go on under other limits, with what is saved up."""
        if limits != self._limits:
            self._limits = limits
            self._meters = _meters(limits, self._meters, now_s)

    def admit(self, tokens: float, now_s: float) -> Refusal | None:
        """Take a call in and charge it, or say why not; who is refused is charged nothing."""
        most = self._limits.concurrency
        if most is not None and self.in_flight >= most:
            return Refusal("concurrency", None, 1, most)
        wanted = {"requests": 1.0, "tokens": tokens}
        refusals = [
            Refusal(meter.of, wait_s, wanted[meter.of], meter.per_minute)
            for meter in self._meters
            if (wait_s := meter.bucket.wait_s(wanted[meter.of], now_s)) != 0
        ]
        if refusals:
            return max(refusals, key=lambda refusal: math.inf if refusal.wait_s is None else refusal.wait_s)
        for meter in self._meters:
            meter.bucket.take(wanted[meter.of], now_s)
        self.in_flight += 1
        return None

    def release(self) -> None:
        """A call that was taken in has ended."""
        self.in_flight -= 1

    def standing(self, now_s: float) -> list[Standing]:
        """The limits per minute there are."""
        return [
            Standing(meter.of, meter.per_minute, meter.bucket.whole(now_s), meter.bucket.full_in_s(now_s))
            for meter in self._meters
        ]


def _meters(limits: Limits, before: Iterable[_Meter], now_s: float) -> tuple[_Meter, ...]:
    buckets = {meter.of: meter.bucket for meter in before}
    per_minute: dict[Metered, float | None] = {
        "requests": limits.requests_per_minute,
        "tokens": limits.tokens_per_minute,
    }
    meters = []
    for of, limit in per_minute.items():
        if limit is None:
            continue
        per_s = limit / MINUTE_S
        bucket = buckets.get(of) or Bucket(per_s, per_s * limits.burst_s, now_s)
        bucket.resize(per_s, per_s * limits.burst_s, now_s)
        meters.append(_Meter(of, limit, bucket))
    return tuple(meters)

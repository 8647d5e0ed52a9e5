"""Which lanes are to be left alone for a while: inference says so, or whoever else watches a provider."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from shared.clock import Clock
from shared.events import LaneThrottled

# However far away the end that was announced: a signal that is never taken back must not keep a tier out for a day.
LONGEST: Final = timedelta(minutes=10)
# A lane that pauses for less is at its limit, and no trouble: its calls wait that long. One that is broken is trouble
# for however long: what it is opened for first is spread around this.
SHORTEST: Final = timedelta(seconds=2)
MOST_LANES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Unwell:
    """Why a lane is left alone, and until when."""

    reason: str
    until: datetime


class Health:
    """What was heard of each lane; two tiers that run on one are in trouble together."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._unwell: dict[str, Unwell] = {}

    def heard(self, signal: LaneThrottled) -> None:
        """A provider wants fewer calls, or none, until a time; without a time it is well again."""
        now = self._clock.now()
        if signal.until is None:
            self._unwell.pop(signal.lane, None)
            return
        until, known = min(signal.until, now + LONGEST), self._unwell.get(signal.lane)
        short = until < now + SHORTEST and not signal.broken
        if short or until <= now or (known is not None and known.until >= until):
            return  # short, late, or less than what is known
        if len(self._unwell) >= MOST_LANES:
            self._unwell = {lane: unwell for lane, unwell in self._unwell.items() if unwell.until > now}
        if signal.lane in self._unwell or len(self._unwell) < MOST_LANES:
            self._unwell[signal.lane] = Unwell(signal.reason or "no reason given", until)

    def trouble(self, lane: str) -> str | None:
        """Why a lane is to be left alone now; None where it is well."""
        unwell = self._unwell.get(lane)
        return unwell.reason if unwell is not None and self._clock.now() < unwell.until else None

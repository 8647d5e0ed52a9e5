"""Which tiers are to be left alone for a while: inference says so, or whoever else watches a provider."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.clock import Clock
from shared.events import LaneThrottled

# However far away the end that was announced: a signal that is never taken back must not keep a tier out for a day.
LONGEST = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Unwell:
    """Why a tier is left alone, and until when."""

    reason: str
    until: datetime


class Health:
    """What was last heard of each tier."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._unwell: dict[str, Unwell] = {}

    def heard(self, signal: LaneThrottled) -> None:
        """A tier's provider wants fewer calls, or none, until a time; one that is past takes it back."""
        until = min(signal.until, self._clock.now() + LONGEST)
        self._unwell[signal.tier] = Unwell(signal.reason, until)

    def trouble(self, tier: str) -> str | None:
        """Why a tier is to be left alone now; None where it is well."""
        unwell = self._unwell.get(tier)
        return unwell.reason if unwell is not None and self._clock.now() < unwell.until else None

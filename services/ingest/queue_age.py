"""How old the queue of each tier is: how long what is started there now has waited since it was accepted.

A request's own age would be no measure. It is young where it could still be helped, at the cache and the router,
however long it will wait after; and one that was put aside alone is old though others pass. So inference reports every
second how long the median of those had waited whose turn came, and the median of some seconds is the age. While
nobody's turn comes though some wait, because a provider or inference itself is away, the age grows by the clock.

Interactive requests are the measure. Bulk gives way to them, so its wait says nothing of theirs.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from shared.clock import Clock
from shared.events import QueueReport, QueueReported

# Seconds over which turns are looked at; and without any for so long nothing moves.
RECENT_S: Final = 10.0
# So many must wait: one or two, waiting or started at last, may have been put aside each for its own reason.
QUEUE: Final = 3
# A replica that was not heard of for so long holds nothing.
GONE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class _Turns:
    """Requests whose turn came at one replica, in about a second before ``at_s``."""

    at_s: float
    started: int
    waited_s: float | None


class QueueAge:
    """One tier's."""

    def __init__(self, now_s: float) -> None:
        self._turns: deque[_Turns] = deque()
        self._held: dict[UUID, tuple[float, int]] = {}  # what replicas hold that waits, and when they said so
        self._ready, self._looked_s = 0.0, now_s
        self._still_since_s = now_s
        self._then_s = 0.0  # what those had waited whose turn came last

    def reported(self, replica: UUID, report: QueueReport, now_s: float) -> None:
        """A replica of inference tells of about a second."""
        self._held = {who: held for who, held in self._held.items() if now_s - held[0] < GONE_S}
        self._held[replica] = now_s, report.waiting
        if report.started:
            self._turns.append(_Turns(now_s, report.started, report.waited_s))
            self._still_since_s, self._then_s = now_s, report.waited_s or 0.0

    def looked(self, ready: float, now_s: float) -> None:
        """So many wait in the broker for this tier."""
        self._ready, self._looked_s = ready, now_s
        if self._waiting(now_s) < QUEUE:
            self._still_since_s, self._then_s = now_s, 0.0

    def held(self, now_s: float) -> int:
        """Requests that replicas of inference took from the queue, and that wait there."""
        return sum(held for at_s, held in self._held.values() if now_s - at_s < GONE_S)

    def age_s(self, now_s: float) -> float:
        """Its age, in seconds; 0.0 while hardly anybody waits."""
        if self._waiting(now_s) < QUEUE:
            return 0.0
        return self._waited_s() if self._recent(now_s) else self._then_s + now_s - self._still_since_s

    def _waiting(self, now_s: float) -> float:
        ready = self._ready if now_s - self._looked_s < RECENT_S else 0.0  # what nobody sees makes no brownout
        return ready + self.held(now_s)

    def _recent(self, now_s: float) -> bool:
        """Whether anybody's turn came of late."""
        while self._turns and now_s - self._turns[0].at_s >= RECENT_S:
            self._turns.popleft()
        return bool(self._turns)

    def _waited_s(self) -> float:
        """The median over the turns of late, each report's median counting for all of its turns."""
        seen = sorted((turns.waited_s, turns.started) for turns in self._turns if turns.waited_s is not None)
        half, passed = sum(started for _, started in seen) / 2, 0
        for waited_s, started in seen:
            passed += started
            if passed >= half:
                return waited_s
        return 0.0


class QueueAges:
    """Those of all tiers, as one replica of ingest measures them."""

    def __init__(self, tiers: Mapping[str, object], clock: Clock) -> None:
        self._clock = clock
        self._queues = {tier: QueueAge(clock.monotonic()) for tier in tiers}

    def reported(self, event: QueueReported) -> None:
        """A replica of inference tells of its tiers: nothing waits at those it does not name."""
        now_s = self._clock.monotonic()
        for tier, queue in self._queues.items():
            queue.reported(event.replica, event.tiers.get(tier, QueueReport()), now_s)

    def looked(self, waiting: Mapping[str, float]) -> None:
        """So many wait in the broker for each tier, and before it."""
        for tier, queue in self._queues.items():
            queue.looked(waiting[tier], self._clock.monotonic())

    def held(self) -> Mapping[str, int]:
        """Requests of each tier that wait at inference."""
        now_s = self._clock.monotonic()
        return {tier: queue.held(now_s) for tier, queue in self._queues.items()}

    def ages(self) -> Mapping[str, float]:
        """In seconds by tier; a tier whose queue has no age is left out."""
        now_s = self._clock.monotonic()
        ages = {tier: round(queue.age_s(now_s), 1) for tier, queue in self._queues.items()}
        return {tier: age_s for tier, age_s in ages.items() if age_s}

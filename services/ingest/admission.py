"""Is there room for one more request, and how long will it take?

Both doors ask here. At the HTTP door a request that can't be taken is refused, with the time to come back. At the AMQP
door it was handed over already and the broker keeps it, so it waits: what keeps everybody out is waited for in place,
which leaves the rest in ``ingest.submitted``; what concerns one tenant, or bulk alone, is parked, so that it is in
nobody's way.
"""

import asyncio
import math
from collections.abc import Sequence
from itertools import chain
from typing import Final
from uuid import UUID

import structlog

from services.ingest.backlog import Backlog, Taken
from services.ingest.buckets import Buckets
from services.ingest.forecast import Forecast
from services.ingest.surge import Surge
from shared import topology
from shared.broker import Broker
from shared.clock import Clock
from shared.errors import BrokerUnavailable, NotNow, Overloaded, Park, TooManyRequests
from shared.events import AUTO, BrownoutNote, Priority, Request, ResponseCompleted, ResponseFailed
from shared.policy import Policy
from shared.telemetry import metrics
from shared.topology import Queue

log = structlog.stdlib.get_logger(__name__)
LOOK_S: Final = 1.0
SOONEST_S: Final = 1.0
LATEST_S: Final = 3600.0


class Admission:
    """What one replica of ingest knows of the load, and what it makes of it.

    Attributes:
        surge: how old the queues are.
    """

    def __init__(self, policy: Policy, broker: Broker, clock: Clock) -> None:
        self._policy = policy.admission
        self._shed = policy.brownout.shed_bulk
        self._settle = policy.brownout.settle
        self._tier_of = policy.tier_of
        self._broker = broker
        self._clock = clock
        self._forecast = Forecast(policy.tiers, clock, usual=policy.router.default)
        self._backlog = Backlog(clock, policy.tiers)
        self._buckets = Buckets(policy.admission, clock)
        self.surge = Surge(policy, broker, clock)
        self._unwritten = 0
        self._changed = asyncio.Event()
        self._before = [*_places(topology.ACCEPTED), *_places(topology.MISSED)]
        self._tiers = {tier: _places(topology.routed(tier)) for tier in policy.tiers}

    # ── who may come in ──

    def admit(self, tenant: str, priority: Priority, model: str = AUTO) -> None:
        """Take one of the tenant's tokens for a request that asks for a model.

        Raises:
            Overloaded: too many requests wait.
            TooManyRequests: the tenant has sent more than it may, or too many of its own wait.
        """
        refusal = self._closed() or self._crowded(tenant, priority) or self._browned_out(priority, model)
        if refusal is not None:
            raise refusal
        if wait_s := self._buckets.take(tenant):
            raise TooManyRequests(f"tenant {tenant} has sent more requests than it may", after_s=wait_s)

    async def admit_later(self, tenant: str, priority: Priority, stopping: asyncio.Event, model: str = AUTO) -> None:
        """Wait until there is room for a request that the broker keeps, then take one of the tenant's tokens.

        Raises:
            Park: it must wait for its own tenant, or as a bulk request, and not hold up the others meanwhile.
            Overloaded: this process stops.
        """
        if (refusal := self._closed()) is not None:
            metrics.HELD_BACK.labels(refusal.code).inc()
        while (refusal := self._closed()) is not None:
            self._changed.clear()
            await _either(self._changed, stopping)
            if stopping.is_set():
                raise refusal
        if (refusal := self._crowded(tenant, priority) or self._browned_out(priority, model)) is not None:
            metrics.HELD_BACK.labels(refusal.code).inc()
            raise Park(str(refusal), after_s=refusal.after_s)
        if self._buckets.take(tenant):
            metrics.HELD_BACK.labels(TooManyRequests.code).inc()
            raise Park(f"tenant {tenant} waits for its turn", after_s=self._buckets.turn(tenant))

    def _closed(self) -> NotNow | None:
        """Why nobody is let in."""
        policy = self._policy
        if self._unwritten >= policy.max_unwritten:
            return Overloaded("results cannot be written to the database fast enough", after_s=self._soon(1))
        queued = max(self._forecast.waiting, len(self._backlog))
        if queued >= policy.max_queued:
            after_s = self._soon(queued - policy.max_queued + 1)
            return Overloaded(f"{queued:.0f} requests wait already; {policy.max_queued} may", after_s=after_s)
        return None

    def _crowded(self, tenant: str, priority: Priority) -> NotNow | None:
        """Why this one is not let in, though others are. A replica knows of those it took itself: its share."""
        policy, replicas = self._policy, self._buckets.replicas
        own = self._backlog.of_tenant(tenant) * replicas
        if own >= policy.max_queued_per_tenant:
            message = f"{own} requests of tenant {tenant} wait already; {policy.max_queued_per_tenant} may"
            return TooManyRequests(message, after_s=self._soon(own - policy.max_queued_per_tenant + 1))
        bulk = self._backlog.of_priority(Priority.BULK) * replicas
        if priority is Priority.BULK and bulk >= policy.max_queued_bulk:
            message = f"{bulk} bulk requests wait already; {policy.max_queued_bulk} may"
            return Overloaded(message, after_s=self._soon(bulk - policy.max_queued_bulk + 1))
        return None

    def _browned_out(self, priority: Priority, model: str) -> NotNow | None:
        """Why a bulk request is not let in: what is started now has waited too long already.

        Should no more come, it is over when all that waits now has gone: until then each that is started is older.
        """
        if priority is not Priority.BULK or self._shed is None:
            return None
        note = self.surge.note("shed_bulk", self._forecast.shares(self._tier_of(model)))
        if note is None:
            return None
        metrics.BROWNOUTS.labels(note.step, note.tier).inc()
        # Where nothing is known of their number or pace, for as long as they have waited already.
        left_s = self._forecast.wait(note.tier).queued_s or note.age_s - self._settle * self._shed.from_s
        message = f"bulk requests have to wait: what is started in {note.tier} now has waited {note.age_s:.0f} s"
        return Overloaded(message, after_s=min(max(SOONEST_S, left_s), LATEST_S))

    def _soon(self, requests: float) -> float:
        """Seconds in which so many requests are finished, as far as anybody can tell."""
        return min(max(SOONEST_S, self._forecast.seconds_for(requests)), LATEST_S)

    # ── who came in, and how long it will take ──

    def took(self, request: Request) -> None:
        """A request is being taken: what it is promised now is kept, to be compared with what comes of it."""
        tier = self._tier_of(request.model)
        taken = Taken(request.tenant, request.priority, tier, self._clock.monotonic(), self._forecast.wait(tier))
        if self._backlog.get(request.id) is None:
            self._backlog.add(request.id, taken)
            self._forecast.took(tier)

    def withdrew(self, request_id: UUID) -> None:
        """It could not be taken after all, and costs its tenant nothing."""
        taken = self._backlog.remove(request_id)
        if taken is not None:
            self._forecast.withdrew(taken.tier)
            self._buckets.give_back(taken.tenant)

    def finished(self, event: ResponseCompleted | ResponseFailed) -> None:
        """A request has its result, whoever took it."""
        taken = self._backlog.remove(event.request_id)
        self._forecast.heard(event, taken.promised if taken else None)
        if taken is not None and isinstance(event, ResponseCompleted):
            error_s = taken.promised.total_s - (self._clock.monotonic() - taken.at_s)
            metrics.ESTIMATE_ERROR.labels("bought" if event.answer_of is None else "cache").observe(error_s)
        self._changed.set()

    def estimate_ms(self, request_id: UUID) -> int:
        """Milliseconds until a request has its answer: what is left of what it was promised, and where that time is
        over, or was promised elsewhere, what one can expect that is taken now.
        """
        taken = self._backlog.get(request_id)
        if taken is not None:
            left_s = taken.promised.total_s - (self._clock.monotonic() - taken.at_s)
            if left_s > 0:
                return math.ceil(left_s * 1000)
            return math.ceil(self._forecast.wait(taken.tier).service_s * 1000)
        return math.ceil(self._forecast.wait(None).total_s * 1000)

    def brownout(self, request_id: UUID) -> Sequence[BrownoutNote]:
        """The steps of the brownout ladder that hold while a request waits."""
        taken = self._backlog.get(request_id)
        return self.surge.notes(self._forecast.shares(taken.tier if taken else None))

    # ── looking ──

    def subscribed(self) -> None:
        """Results are heard from now on; those of the time before are not known, so the count begins anew."""
        self._backlog.clear()

    async def watch(self) -> None:
        """Look at the queues every second."""
        while True:
            try:
                await self._look()
            except BrokerUnavailable as error:
                log.debug("the queues are not seen", error=str(error))
            await self._clock.sleep(LOOK_S)

    async def _look(self) -> None:
        queues = [*self._before, *chain(*self._tiers.values()), topology.RECORDS, topology.SUBMITTED]
        seen = dict(zip(queues, await self._broker.look(queues), strict=True))

        def ready(places: Sequence[Queue]) -> int:
            return sum(seen[place].ready for place in places)

        held = self.surge.held()
        waiting = {tier: ready(places) + held[tier] for tier, places in self._tiers.items()}
        self._forecast.looked(ready(self._before), waiting)
        self.surge.looked({tier: self._forecast.ahead(tier) - held[tier] for tier in self._tiers})
        self._unwritten = ready([topology.RECORDS])
        self._buckets.replicas = max(1, seen[topology.SUBMITTED].consumers)
        self._backlog.forget_old()
        self._changed.set()
        metrics.QUEUED.set(self._forecast.waiting)
        metrics.UNWRITTEN.set(self._unwritten)
        metrics.UNDER_WAY.set(len(self._backlog))
        metrics.EXPECTED_WAIT.set(self._forecast.wait(None).total_s)


def _places(queue: Queue) -> Sequence[Queue]:
    """Where those wait that wait for the consumers of a queue."""
    return (queue, *queue.sides, *queue.parking)


async def _either(*events: asyncio.Event) -> None:
    """Return once one of some events is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()

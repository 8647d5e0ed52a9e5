"""How long requests wait until their turn comes, as one replica of inference sees it; ingest makes an age of it.

A turn counts when a provider has answered, or has had the call for a second. One that it refuses or breaks off at once
is none, and neither is a probe until it is answered: while a provider is down its requests wait, however often one of
them tries. A request has one turn: calls that follow, because the first failed at last or its answer would not do, are
part of it.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Final
from uuid import UUID, uuid4

import structlog

from services.inference.errors import ProviderError
from shared.background import background
from shared.broker import Broker
from shared.clock import Clock
from shared.errors import ForebayError
from shared.events import Priority, QueueReport, QueueReported, RequestRouted
from shared.publishing import publish

log = structlog.stdlib.get_logger(__name__)
EVERY_S: Final = 1.0
# A call that has been under way for so long was taken by its provider.
TAKEN_S: Final = 1.0


@dataclass(slots=True, eq=False)
class Turn:
    """A call for a request of a tier's queue.

    Attributes:
        measure: whether its wait tells of the queue: not that of bulk, which gives way, nor that of a replay, which lay
            dead for some of the time.
        begun_s: when it left, monotonic; None before.
        probe: whether it tries a lane that was broken.
        answered: whether its provider had an answer to it.
    """

    tier: str
    request_id: UUID
    measure: bool
    waited_s: float = 0.0
    begun_s: float | None = None
    probe: bool = False
    answered: bool = False

    def counts(self, now_s: float) -> bool:
        """Whether it is certain by now that the request's turn has come."""
        return self.answered or (self.begun_s is not None and not self.probe and now_s - self.begun_s >= TAKEN_S)


@dataclass(slots=True)
class _InHand:
    """A request that is worked on: the calls under way for it, and whether its turn has come."""

    calls: int = 0
    had_turn: bool = False


class Waits:
    """What is started, what had waited for that, and what waits still."""

    def __init__(self, clock: Clock, *, replica: UUID | None = None) -> None:
        self._clock = clock
        self._replica = replica or uuid4()
        self._turns: list[Turn] = []  # begun and not reported
        self._in_hand: dict[str, dict[UUID, _InHand]] = {}  # by tier
        self._held: dict[str, Callable[[], int]] = {}
        self._silent = True

    def watch(self, tier: str, held: Callable[[], int]) -> None:
        """``held`` says how many requests of a tier were taken from its queue and not begun with."""
        self._held[tier] = held

    @contextmanager
    def in_hand(self, event: RequestRouted) -> Iterator[None]:
        """A block that works on a request; it waits while there is no call for it."""
        requests = self._in_hand.setdefault(event.route.tier, {})
        requests.setdefault(event.request.id, _InHand())
        try:
            yield
        finally:
            requests.pop(event.request.id, None)

    @contextmanager
    def turn(self, event: RequestRouted) -> Iterator[Callable[[bool], None]]:
        """A block that makes a call: it is given what to call when the call leaves, with whether it is a probe."""
        request = event.request
        measure = request.priority is Priority.INTERACTIVE and not request.replay
        turn = Turn(event.route.tier, request.id, measure)
        try:
            yield partial(self._begin, turn, event)
        except ProviderError as error:
            turn.answered = turn.begun_s is not None and not error.lane_at_fault
            raise
        else:
            turn.answered = True
        finally:
            self._end(turn)

    def _begin(self, turn: Turn, event: RequestRouted, probe: bool) -> None:
        turn.begun_s, turn.probe = self._clock.monotonic(), probe
        turn.waited_s = max(0.0, (self._clock.now() - event.request.accepted_at).total_seconds())
        request = self._request(turn)
        if not (request and request.had_turn):
            self._turns.append(turn)
        if request:
            request.calls += 1

    def _end(self, turn: Turn) -> None:
        if turn.begun_s is None:
            return
        counts = turn.counts(self._clock.monotonic())
        if request := self._request(turn):
            request.calls -= 1
            request.had_turn |= counts
        if not counts and turn in self._turns:
            self._turns.remove(turn)

    def _request(self, turn: Turn) -> _InHand | None:
        """The request that a call is for; None for a call that goes on beyond its request's end."""
        return self._in_hand.get(turn.tier, {}).get(turn.request_id)

    def report(self) -> Mapping[str, QueueReport]:
        """What was seen of each tier since the last report; tiers of which there is nothing to say are left out."""
        now_s = self._clock.monotonic()
        counted = [turn for turn in self._turns if turn.counts(now_s)]
        self._turns = [turn for turn in self._turns if not turn.counts(now_s)]
        reports = {
            tier: QueueReport(
                started=sum(turn.tier == tier for turn in counted),
                waited_s=_median([turn.waited_s for turn in counted if turn.tier == tier and turn.measure]),
                waiting=self._waiting(tier),
            )
            for tier in {*self._in_hand, *self._held}
        }
        return {tier: said for tier, said in sorted(reports.items()) if said.started or said.waiting}

    def _waiting(self, tier: str) -> int:
        held = self._held[tier]() if tier in self._held else 0
        return held + sum(not request.calls for request in self._in_hand.get(tier, {}).values())

    @asynccontextmanager
    async def telling(self, broker: Broker) -> AsyncIterator[None]:
        """Tell ingest every second, for as long as a block runs."""
        async with background(partial(self._tell, broker), name="waits", clock=self._clock):
            yield

    async def _tell(self, broker: Broker) -> None:
        """Never returns. What can't be said is lost: there is a next second."""
        while True:
            await self._clock.sleep(EVERY_S)
            tiers = self.report()
            if not tiers and self._silent:
                continue
            self._silent = not tiers  # that there is nothing any more is said once
            said = QueueReported(report_id=uuid4(), replica=self._replica, tiers=dict(tiers))
            try:
                await publish(broker, [said], source="inference", now=self._clock.now())
            except ForebayError as error:
                log.warning("ingest was not told of the queues", error=str(error))


def _median(waits: Sequence[float]) -> float | None:
    return median(waits) if waits else None

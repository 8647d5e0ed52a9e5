"""How long requests wait until their turn comes, as one replica of inference sees it; ingest makes an age of it.

A turn counts when a provider has answered, or has had the call for a second. One that it refuses or breaks off at once
is none, and neither is a probe until it is answered: while a provider is down its requests wait, however often one of
them tries.
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
        begun_s: when it left, monotonic; None before.
        probe: whether it tries a lane that was broken.
        answered: whether its provider had an answer to it.
    """

    tier: str
    request_id: UUID
    interactive: bool
    waited_s: float = 0.0
    begun_s: float | None = None
    probe: bool = False
    answered: bool = False

    def counts(self, now_s: float) -> bool:
        """Whether it is certain by now that the request's turn has come."""
        return self.answered or (self.begun_s is not None and not self.probe and now_s - self.begun_s >= TAKEN_S)


class Waits:
    """What is started, what had waited for that, and what waits still."""

    def __init__(self, clock: Clock, *, replica: UUID | None = None) -> None:
        self._clock = clock
        self._replica = replica or uuid4()
        self._turns: list[Turn] = []  # begun and not reported
        self._in_hand: dict[str, dict[UUID, int]] = {}  # by tier, the calls under way for each request
        self._held: dict[str, Callable[[], int]] = {}
        self._silent = True

    def watch(self, tier: str, held: Callable[[], int]) -> None:
        """``held`` says how many requests of a tier were taken from its queue and not begun with."""
        self._held[tier] = held

    @contextmanager
    def in_hand(self, event: RequestRouted) -> Iterator[None]:
        """A block that works on a request; it waits while there is no call for it."""
        requests = self._in_hand.setdefault(event.route.tier, {})
        requests.setdefault(event.request.id, 0)
        try:
            yield
        finally:
            requests.pop(event.request.id, None)

    @contextmanager
    def turn(self, event: RequestRouted) -> Iterator[Callable[[bool], None]]:
        """A block that makes a call: it is given what to call when the call leaves, with whether it is a probe."""
        turn = Turn(event.route.tier, event.request.id, event.request.priority is Priority.INTERACTIVE)
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
        self._turns.append(turn)
        self._call(turn, 1)

    def _end(self, turn: Turn) -> None:
        if turn.begun_s is None:
            return
        self._call(turn, -1)
        if not turn.answered and turn in self._turns:
            self._turns.remove(turn)

    def _call(self, turn: Turn, change: int) -> None:
        requests = self._in_hand.get(turn.tier, {})
        if turn.request_id in requests:  # not one that goes on beyond its request's end
            requests[turn.request_id] += change

    def report(self) -> Mapping[str, QueueReport]:
        """What was seen of each tier since the last report; tiers of which there is nothing to say are left out."""
        now_s = self._clock.monotonic()
        counted = [turn for turn in self._turns if turn.counts(now_s)]
        self._turns = [turn for turn in self._turns if not turn.counts(now_s)]
        reports = {
            tier: QueueReport(
                started=sum(turn.tier == tier for turn in counted),
                waited_s=_median([turn.waited_s for turn in counted if turn.tier == tier and turn.interactive]),
                waiting=self._waiting(tier),
            )
            for tier in {*self._in_hand, *self._held}
        }
        return {tier: said for tier, said in sorted(reports.items()) if said.started or said.waiting}

    def _waiting(self, tier: str) -> int:
        held = self._held[tier]() if tier in self._held else 0
        return held + sum(not calls for calls in self._in_hand.get(tier, {}).values())

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

"""All lanes of one replica, and what it tells the others of them."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final
from uuid import UUID, uuid4

import structlog

from services.inference.lanes.choice import Choice
from services.inference.lanes.gate import Gate
from services.inference.lanes.sharing import Sharing
from shared.background import background
from shared.broker import Broker
from shared.clock import Clock
from shared.errors import ForebayError
from shared.events import Event, LaneReported, LaneThrottled
from shared.policy import Policy
from shared.publishing import publish
from shared.telemetry import metrics

log = structlog.stdlib.get_logger(__name__)
EVERY_S: Final = 1.0
# Signals that wait to be published; there is one per refusal, and a lane that refuses is paused.
MOST_UNSAID: Final = 1_000


class Lanes:
    """The gates, kept in step with those of the other replicas."""

    def __init__(self, policy: Policy, clock: Clock, *, replica: UUID | None = None) -> None:
        self._clock = clock
        self._sharing = Sharing(replica or uuid4())
        self._unsaid: asyncio.Queue[Event] = asyncio.Queue(MOST_UNSAID)
        self._wants: dict[str, float] = {}
        self.gates: Mapping[str, Gate] = {
            name: Gate(lane, clock, self._say, self._sharing.me) for name, lane in policy.lanes.items()
        }
        self.choice = Choice(policy.tiers, self.gates)

    async def heard(self, event: Event) -> Sequence[Event]:
        """Take note of what a replica says; nothing comes of it."""
        match event:
            case LaneReported() if event.replica != self._sharing.me:
                self._reported(event)
            case LaneThrottled() if event.lane in self.gates:
                self.gates[event.lane].heard(event)
            case _:
                pass
        return ()

    def subscribed(self) -> None:
        """The signals of the others can be heard: say that this replica is there, and they will answer."""
        self._say(self._report())

    @asynccontextmanager
    async def sharing(self, broker: Broker) -> AsyncIterator[None]:
        """Tell the other replicas, for as long as a block runs, what is wanted and seen here."""
        announcing = partial(self._announcing, broker)
        async with (
            background(self._reporting, name="lanes", clock=self._clock),
            background(announcing, name="signals", clock=self._clock),
        ):
            try:
                yield
            finally:
                await self._leave(broker)

    async def _reporting(self) -> None:
        """Never returns: says every second what this replica wants and saw."""
        while True:
            self._say(self._report())
            self._share()
            await self._clock.sleep(EVERY_S)

    async def _announcing(self, broker: Broker) -> None:
        """Never returns: publishes what there is to say, at once. What can't be said is lost: it heals."""
        while True:
            said = [await self._unsaid.get()]
            while not self._unsaid.empty():
                said.append(self._unsaid.get_nowait())
            try:
                await publish(broker, said, source="inference", now=self._clock.now())
            except ForebayError as error:
                log.warning("the other replicas were not told of the lanes", error=str(error))

    async def _leave(self, broker: Broker) -> None:
        """Say that this replica ends, so that the others take its share at once."""
        gone = LaneReported(report_id=uuid4(), replica=self._sharing.me, lanes={}, leaving=True)
        try:
            await publish(broker, [gone], source="inference", now=self._clock.now())
        except ForebayError as error:
            log.debug("not said goodbye", error=str(error))

    def _reported(self, event: LaneReported) -> None:
        if event.leaving:
            self._sharing.left(event.replica)
            self._share()
            return
        now_s = self._clock.monotonic()
        new = self._sharing.heard(event.replica, event.lanes, now_s)
        for name, said in event.lanes.items():
            if (gate := self.gates.get(name)) is not None:
                gate.calls.heard(now_s, said.calls)
                gate.tokens.heard(now_s, said.tokens)
        self._share()
        if new:  # it knows nobody yet
            self._say(self._report())

    def _report(self) -> LaneReported:
        lanes = {name: gate.report() for name, gate in self.gates.items()}
        self._wants = {name: report.wants for name, report in lanes.items()}
        return LaneReported(report_id=uuid4(), replica=self._sharing.me, lanes=lanes)

    def _share(self) -> None:
        """What part of each lane is this replica's: by what it last said it wants, as the others reckon too."""
        now_s = self._clock.monotonic()
        replicas = self._sharing.replicas(now_s)
        for name, gate in self.gates.items():
            rate = gate.calls.limit.rate
            wants = self._wants.get(name, 0.0)
            gate.share = 1 / replicas if rate is None else self._sharing.share(name, wants, rate, now_s)
            metrics.LANE_RATE.labels(name).set(rate or 0.0)
            metrics.LANE_SHARE.labels(name).set(gate.share)
            metrics.LANE_UNDER_WAY.labels(name).set(gate.under_way)
            metrics.LANE_WAITING.labels(name).set(gate.waiting)
            metrics.LANE_BROKEN.labels(name).set(gate.broken)

    def _say(self, event: Event) -> None:
        try:
            self._unsaid.put_nowait(event)
        except asyncio.QueueFull:
            log.warning("too much to say of the lanes: the broker is slow")

"""How bad a surge is: the age of each tier's queue, told to all services, and what it means at the doors."""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID, uuid4

import structlog

from services.ingest.queue_age import QueueAges
from shared.broker import Broker
from shared.brownout import Brownout
from shared.clock import Clock
from shared.errors import BrokerError
from shared.events import BrownoutNote, BrownoutStep, Event, QueueAged, QueueReported
from shared.policy import Policy
from shared.policy.brownout import LADDER
from shared.publishing import publish
from shared.telemetry import metrics

log = structlog.stdlib.get_logger(__name__)
EVERY_S: Final = 1.0
# Of requests that name no tier, the share above which those count whose tiers a step holds for.
MOST_OF_THEM: Final = 0.5


class Surge:
    """What one replica of ingest measures, and what all of them together make of it."""

    def __init__(self, policy: Policy, broker: Broker, clock: Clock, *, replica: UUID | None = None) -> None:
        self._tiers = tuple(policy.tiers)
        self._broker = broker
        self._clock = clock
        self._replica = replica or uuid4()
        self._ages = QueueAges(policy.tiers, clock)
        self._brownout = Brownout(policy, clock)
        self._silent = True

    async def heard(self, event: Event) -> Sequence[Event]:
        """Take note of what inference saw and of what ingest measured; nothing comes of it."""
        match event:
            case QueueReported():
                self._ages.reported(event)
            case QueueAged():
                self._brownout.told(event)
            case _:
                pass
        return ()

    def held(self) -> Mapping[str, int]:
        """Requests of each tier that inference has taken and not begun with: the broker does not show them."""
        return self._ages.held()

    def looked(self, waiting: Mapping[str, float]) -> None:
        """So many requests wait in the broker for each tier."""
        self._ages.looked(waiting)

    async def tell(self) -> None:
        """Never returns: says every second how old the queues are, while any has an age. What can't be said is lost:
        it is said again, and who does not hear it for some seconds knows of no brownout.
        """
        while True:
            await self._clock.sleep(EVERY_S)
            for tier in self._tiers:
                metrics.QUEUE_AGE.labels(tier).set(self._brownout.age_s(tier))
                metrics.BROWNOUT_STEPS.labels(tier).set(len(self._brownout.steps(tier)))
            ages = self._ages.ages()
            if not ages and self._silent:
                continue
            self._silent = not ages  # that there is none any more is said once
            aged = QueueAged(telling_id=uuid4(), replica=self._replica, ages=dict(ages))
            try:
                await publish(self._broker, [aged], source="ingest", now=self._clock.now())
            except BrokerError as error:
                log.warning("nobody was told how old the queues are", error=str(error))

    def notes(self, shares: Mapping[str, float]) -> Sequence[BrownoutNote]:
        """The steps that hold for a request that runs at each tier with some probability."""
        return [note for step in LADDER if (note := self.note(step, shares)) is not None]

    def note(self, step: BrownoutStep, shares: Mapping[str, float]) -> BrownoutNote | None:
        """The same for one step, with the oldest of the queues; None where the request hardly meets one that is too
        old.
        """
        held = [tier for tier, share in shares.items() if share and step in self._brownout.steps(tier)]
        if sum(shares[tier] for tier in held) <= MOST_OF_THEM:
            return None
        return self._brownout.note(step, max(held, key=self._brownout.age_s))

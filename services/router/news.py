"""What a replica of the router hears, and says: scores of all replicas, costs of answers, health of lanes."""

from collections.abc import Sequence
from typing import Final
from uuid import uuid4

import structlog

from services.router.health import Health
from services.router.ledger import Ledger
from services.router.thresholds import Thresholds
from shared.broker import Broker
from shared.brownout import Brownout
from shared.clock import Clock
from shared.errors import ForebayError
from shared.events import Event, LaneThrottled, QueueAged, ResponseCompleted, ResponseLate, RouterScored
from shared.publishing import publish
from shared.telemetry import metrics

log = structlog.stdlib.get_logger(__name__)
EVERY_S: Final = 2.0


class News:
    """Keeps what decisions hang on up to date."""

    def __init__(
        self,
        thresholds: Thresholds,
        ledger: Ledger,
        health: Health,
        brownouts: Sequence[Brownout],
        broker: Broker,
        clock: Clock,
    ) -> None:
        self._thresholds = thresholds
        self._ledger = ledger
        self._health = health
        self._brownouts = brownouts
        self._broker = broker
        self._clock = clock

    async def heard(self, event: Event) -> Sequence[Event]:
        """Take note; nothing comes of it."""
        match event:
            case RouterScored():
                self._thresholds.heard(event)
            case ResponseCompleted():
                self._ledger.heard(event)
            case ResponseLate():
                self._ledger.spend(event.tenant, event.cost_usd, event.completed_at)
            case LaneThrottled():
                self._health.heard(event)
            case QueueAged():
                for brownout in self._brownouts:
                    brownout.told(event)
            case _:
                pass
        return ()

    async def announce(self) -> None:
        """Never returns: says every two seconds what this replica has counted. What can't be said is lost: it was a
        sample of many.
        """
        while True:
            await self._clock.sleep(EVERY_S)
            metrics.ROUTER_SPENT.set(self._ledger.spent())
            counted = self._thresholds.unpublished.take()
            said = [
                RouterScored(delta_id=uuid4(), scorer=scorer, scores=dict(scores), neutral=neutral)
                for scorer, (scores, neutral) in counted.items()
            ]
            try:
                await publish(self._broker, said, source="router", now=self._clock.now())
            except ForebayError as error:
                log.warning("scores not announced", error=str(error))

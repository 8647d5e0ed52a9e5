"""Tells what was counted and what trends, every second: what is told is decided on with the next round."""

from typing import Final

import structlog

from services.trends.counting import Counting
from services.trends.watch import Watch
from shared.broker import Broker
from shared.clock import Clock
from shared.errors import BrokerError
from shared.publishing import publish

log = structlog.stdlib.get_logger(__name__)
EVERY_S: Final = 1.0


class Announcing:
    """Publishes beside the requests, and does not wait for confirms.

    What can't be published is lost. Of the counts of that round nobody hears; what trends is repeated within seconds;
    and a topic whose end is not heard of ends by itself, as it is announced no more.
    """

    def __init__(self, counting: Counting, watch: Watch, broker: Broker, clock: Clock) -> None:
        self._counting = counting
        self._watch = watch
        self._broker = broker
        self._clock = clock

    async def run(self) -> None:
        """Never returns."""
        while True:
            await self._clock.sleep(EVERY_S)
            await self.round()

    async def round(self) -> None:
        """Tell what was counted since the last round, and decide on what was heard since."""
        decided = self._watch.tick()  # first: where that fails, what was counted waits for the next round
        events = [*self._counting.taken(), *decided]
        try:
            await publish(self._broker, events, source="trends", now=self._clock.now())
        except BrokerError as error:
            log.warning("not told", events=len(events), error=str(error))

"""The parts of a replica of inference, put together."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Self

import structlog

from services.inference.caller import Caller, Completes
from services.inference.calls import Calls
from services.inference.cascade.cascade import Cascades
from services.inference.finished import Finished
from services.inference.handler import Inference
from services.inference.lanes.lanes import Lanes
from services.inference.more_time import MoreTime
from services.inference.shadow import Shadows
from services.inference.waits import Waits
from shared.broker import Broker
from shared.brownout import Brownout
from shared.cancellation import Cancellations
from shared.clock import Clock
from shared.consumer import pause_s
from shared.errors import BrokerError
from shared.events import Event
from shared.policy import Policy
from shared.publishing import publish

if TYPE_CHECKING:
    from shared.database import Pool

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica."""

    inference: Inference
    shadows: Shadows
    lanes: Lanes
    finished: Finished
    cancelled: Cancellations
    calls: Calls[Sequence[Event]]
    waits: Waits
    brownout: Brownout

    @classmethod
    def assemble(cls, policy: Policy, provider: Completes, pool: "Pool", broker: Broker, clock: Clock) -> Self:
        """A replica that calls a provider; ``pool`` is asked for results that are there already.

        Raises:
            StartupError: the policy names a validator that can't be loaded.
        """

        async def say(events: Sequence[Event]) -> None:
            """Publish what no delivery stands for any more: so it is tried until the broker has it."""
            for tries in count(1):
                try:
                    await publish(broker, events, source="inference", now=clock.now())
                except BrokerError as error:
                    log.warning("could not publish", tries=tries, code=error.code, error=str(error))
                    if not error.retryable:
                        return
                    await clock.sleep(pause_s(tries))
                else:
                    return

        lanes, calls, finished = Lanes(policy, clock), Calls[Sequence[Event]](say), Finished(pool)
        cancelled = Cancellations(clock)
        waits, brownout = Waits(clock), Brownout(policy, clock)
        caller = Caller(provider, cancelled, waits, clock, say=say, leave=calls.leave)
        cascades = Cascades(policy.tiers, lanes.choice, caller, clock)
        more_time = MoreTime(policy.brownout, brownout)
        inference = Inference(lanes.choice, caller, cascades, calls, finished, cancelled, waits, more_time, clock)
        shadows = Shadows(lanes.choice, caller, clock)
        return cls(inference, shadows, lanes, finished, cancelled, calls, waits, brownout)

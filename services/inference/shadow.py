"""Calls nobody waits for, on behalf of the cache: to audit a hit, or to refresh an entry.

They are few at a time, one more attempt at the most, and no event when they fail. What they cost is counted
apart from what clients' requests cost.
"""

from collections.abc import Sequence

import structlog

from services.inference.caller import Caller
from services.inference.completion import Completion
from services.inference.errors import ProviderError
from services.inference.lanes.choice import Candidate, Choice
from services.inference.lanes.gate import Busy
from shared.clock import Clock
from shared.errors import ForebayError
from shared.events import Event, ShadowCompleted, ShadowRequested
from shared.telemetry import metrics

log = structlog.stdlib.get_logger(__name__)


class Shadows:
    """Runs shadow calls on the tier they name."""

    def __init__(self, choice: Choice, caller: Caller, clock: Clock) -> None:
        self._choice = choice
        self._caller = caller
        self._clock = clock

    async def requested(self, event: ShadowRequested) -> Sequence[Event]:
        """``response.shadowed.<purpose>``, or nothing where there is no answer."""
        if not self._choice.knows(event.tier):
            self._ended(event, "unknown_tier")
            log.warning("no shadow call: the policy has no such tier", purpose=event.purpose, tier=event.tier)
            return ()
        candidate = self._choice.next(event.tier, event.request.model, ())
        if candidate.tier != event.tier:  # an audit compares what the tier itself says
            self._ended(event, Busy.code)
            return ()
        try:
            completion = await self._complete(event, candidate)
        except (ProviderError, Busy) as error:
            log.warning("no shadow answer", purpose=event.purpose, tier=event.tier, code=error.code, error=str(error))
            return ()
        metrics.SHADOW_COST.labels(event.purpose, event.tier, candidate.lane.model).inc(completion.cost_usd)
        completed = ShadowCompleted(
            shadow=event,
            output_text=completion.text,
            model=candidate.lane.model,
            usage=completion.usage,
            cost_usd=completion.cost_usd,
            completed_at=self._clock.now(),
        )
        return (completed,)

    async def _complete(self, event: ShadowRequested, candidate: Candidate) -> Completion:
        """One call, and one more where that may help; raises ProviderError, and Busy where it would have to wait."""
        try:
            return await self._once(event, candidate)
        except ProviderError as error:
            if not error.retryable:
                raise
        return await self._once(event, self._choice.next(event.tier, event.request.model, (candidate.lane.name,)))

    async def _once(self, event: ShadowRequested, candidate: Candidate) -> Completion:
        outcome = "ok"
        try:
            return await self._caller.once(event.request, candidate)
        except ForebayError as error:
            outcome = error.code
            raise
        finally:
            self._ended(event, outcome)

    def _ended(self, event: ShadowRequested, outcome: str) -> None:
        metrics.SHADOWS.labels(event.purpose, event.tier, outcome).inc()

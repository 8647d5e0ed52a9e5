"""Calls nobody waits for, on behalf of the cache: to audit a hit, or to refresh an entry.

They come last: few at a time, one more attempt at the most, and no event when they fail. What they cost is counted
apart from what clients' requests cost.
"""

import random
from collections.abc import Sequence
from typing import Final

import structlog

from services.inference.completion import Completion
from services.inference.errors import ProviderError
from services.inference.handler import Completes
from shared.clock import Clock
from shared.events import Event, ShadowCompleted, ShadowRequested
from shared.policy import Policy
from shared.policy.tiers import Tier
from shared.telemetry import metrics

log = structlog.stdlib.get_logger(__name__)

PAUSE_S: Final = 2.0
# A provider that wants to be left alone for longer is left alone.
LONGEST_PAUSE_S: Final = 10.0


class Shadows:
    """Runs shadow calls on the tier they name."""

    def __init__(self, policy: Policy, provider: Completes, clock: Clock) -> None:
        self._policy = policy
        self._provider = provider
        self._clock = clock

    async def requested(self, event: ShadowRequested) -> Sequence[Event]:
        """``response.shadowed.<purpose>``, or nothing where there is no answer."""
        tier = self._policy.tiers.get(event.tier)
        if tier is None:
            self._ended(event, "unknown_tier")
            log.warning("no shadow call: the policy has no such tier", purpose=event.purpose, tier=event.tier)
            return ()
        try:
            completion = await self._complete(event, tier)
        except ProviderError as error:
            log.warning("no shadow answer", purpose=event.purpose, tier=event.tier, code=error.code, error=str(error))
            return ()
        metrics.SHADOW_COST.labels(event.purpose, event.tier, tier.model).inc(completion.cost_usd)
        completed = ShadowCompleted(
            shadow=event,
            output_text=completion.text,
            model=tier.model,
            usage=completion.usage,
            cost_usd=completion.cost_usd,
            completed_at=self._clock.now(),
        )
        return (completed,)

    async def _complete(self, event: ShadowRequested, tier: Tier) -> Completion:
        """One call, and one more after a pause where that may help; raises ProviderError."""
        try:
            return await self._once(event, tier)
        except ProviderError as error:
            pause_s = PAUSE_S if error.retry_after_s is None else error.retry_after_s
            if not error.retryable or pause_s > LONGEST_PAUSE_S:
                raise
        await self._clock.sleep(pause_s * random.uniform(1, 1.5))  # jitter
        return await self._once(event, tier)

    async def _once(self, event: ShadowRequested, tier: Tier) -> Completion:
        outcome = "ok"
        try:
            return await self._provider.complete(event.request, tier, timeout_s=tier.timeout_s)
        except ProviderError as error:
            outcome = error.code
            raise
        finally:
            self._ended(event, outcome)

    def _ended(self, event: ShadowRequested, outcome: str) -> None:
        metrics.SHADOWS.labels(event.purpose, event.tier, outcome).inc()

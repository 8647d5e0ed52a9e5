"""One request at the router: which tier, how long its answer may be reused, and why."""

from collections.abc import Sequence
from typing import Final

from services.router.decision import Decider, Refused
from services.router.freshness.judgement import FreshnessJudge
from services.router.shadow import Shadow
from services.router.vectors import embedding_of
from shared.clock import Clock
from shared.events import Event, RequestMissed, RequestRouted, ResponseFailed
from shared.policy import Policy
from shared.telemetry import metrics

OVER_LIMIT: Final = "tenant_limit"


class Router:
    """Picks tier and freshness."""

    def __init__(self, policy: Policy, decider: Decider, shadow: Shadow | None, clock: Clock) -> None:
        self._decider = decider
        self._shadow = shadow
        self._clock = clock
        self._freshness = FreshnessJudge(policy.freshness, clock)

    async def missed(self, event: RequestMissed) -> Sequence[Event]:
        """``request.routed.<tier>``; ``response.failed.tenant_limit`` where its tenant's limits say so."""
        request, embedding = event.request, embedding_of(event.key)
        route = self._decider.decide(request, embedding)
        if isinstance(route, Refused):
            return (self._refused(event, route),)
        if self._shadow is not None:
            route = self._shadow.beside(request, embedding, route)
        freshness = self._freshness.judge(request, embedding)
        metrics.ROUTED.labels(route.tier, freshness.category).inc()
        routed = RequestRouted(
            request=request,
            key=event.key,
            verdict=event.verdict,
            route=route,
            freshness=freshness,
            brownout=() if route.lowered is None else (route.lowered,),
        )
        return (routed,)

    def _refused(self, event: RequestMissed, refused: Refused) -> ResponseFailed:
        return ResponseFailed(
            **event.request.carried,
            code=OVER_LIMIT,
            message=f"{refused.reason}; the policy lets such requests fail",
            attempts=0,
            failed_at=self._clock.now(),
            exact=event.exact,
        )

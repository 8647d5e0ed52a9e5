"""One request at the router: which tier, and why."""

from collections.abc import Sequence

from services.router.freshness.judgement import FreshnessJudge
from services.router.scoring import Rules
from services.router.vectors import vector_of
from shared.events import Event, Request, RequestMissed, RequestRouted, Route
from shared.policy import Policy
from shared.telemetry import metrics


class Router:
    """Picks tier and freshness by the policy's rules."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._rules = Rules(policy.router)
        self._freshness = FreshnessJudge(policy.freshness)

    async def missed(self, event: RequestMissed) -> Sequence[Event]:
        """``request.routed.<tier>``."""
        request, key = event.request, event.key
        vector = vector_of(key)
        route = self.route(request)
        freshness = self._freshness.judge(request, vector, key.embedder if key else "")
        metrics.ROUTED.labels(route.tier, freshness.category).inc()
        routed = RequestRouted(request=request, key=key, verdict=event.verdict, route=route, freshness=freshness)
        return (routed,)

    def route(self, request: Request) -> Route:
        """The tier a request asks for, or the one its score points to; without any signal, the default."""
        pinned = self._policy.tier_of(request.model)
        if pinned is not None:
            return self._route(pinned, None, f"the request asks for {request.model}")
        rules, scored = self._policy.router, self._rules.score(request.prompt)
        if not scored.informed:
            return self._route(rules.default, scored.value, "no signal: the default")
        tier = rules.above if scored.value >= rules.threshold else rules.below
        threshold = f"score {scored.value:+g}, threshold {rules.threshold:+g}"
        return self._route(tier, scored.value, *scored.fired, threshold)

    def _route(self, tier: str, score: float | None, *reasons: str) -> Route:
        return Route(tier=tier, model=self._policy.tiers[tier].model, score=score, reasons=reasons)

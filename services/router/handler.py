"""One request at the router: which tier, and why."""

from collections.abc import Sequence

from services.router.choice import Choice
from services.router.freshness import FreshnessRules
from shared.events import CacheKey, Event, Request, RequestMissed, RequestRouted, Route
from shared.policy import Policy
from shared.telemetry import metrics


class Router:
    """Picks tier and freshness by the policy's rules, or by the learned head where there is one."""

    def __init__(self, policy: Policy, choice: Choice | None = None) -> None:
        self._policy = policy
        self._choice = choice or Choice(policy.router)
        self._freshness = FreshnessRules(policy.freshness)

    async def missed(self, event: RequestMissed) -> Sequence[Event]:
        """``request.routed.<tier>``."""
        request = event.request
        route = self.route(request, event.key)
        freshness = self._freshness.judge(request.prompt)
        metrics.ROUTED.labels(route.tier, freshness.category).inc()
        routed = RequestRouted(request=request, key=event.key, verdict=event.verdict, route=route, freshness=freshness)
        return (routed,)

    def route(self, request: Request, key: CacheKey | None = None) -> Route:
        """The tier a request asks for, or the one its score points to; without any signal, the default."""
        pinned = self._policy.tier_of(request.model)
        if pinned is not None:
            return self._route(pinned, None, f"the request asks for {request.model}")
        rules, (scored, least) = self._policy.router, self._choice.score(request.prompt, key)
        if not scored.informed:
            return self._route(rules.default, scored.value, "no signal: the default")
        tier = rules.above if scored.value >= least else rules.below
        threshold = f"score {scored.value:+.4g}, threshold {least:+.4g}"
        return self._route(tier, scored.value, *scored.fired, threshold)

    def _route(self, tier: str, score: float | None, *reasons: str) -> Route:
        return Route(tier=tier, model=self._policy.tiers[tier].model, score=score, reasons=reasons)

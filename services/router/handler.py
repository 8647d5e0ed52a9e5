"""One request at the router: which tier, and why."""

from collections.abc import Sequence

from services.router.freshness import FreshnessRules
from services.router.signals import Signals
from shared.events import Event, Request, RequestMissed, RequestRouted, Route
from shared.policy import Policy
from shared.telemetry import metrics


class Router:
    """Picks tier and freshness by the policy's rules."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._signals = Signals(policy.router.length, policy.router.words)
        self._freshness = FreshnessRules(policy.freshness)

    async def missed(self, event: RequestMissed) -> Sequence[Event]:
        """``request.routed.<tier>``."""
        request = event.request
        route = self.route(request)
        freshness = self._freshness.judge(request.prompt)
        metrics.ROUTED.labels(route.tier, freshness.category).inc()
        routed = RequestRouted(request=request, key=event.key, verdict=event.verdict, route=route, freshness=freshness)
        return (routed,)

    def route(self, request: Request) -> Route:
        """The tier a request asks for, or the one its score points to; without any signal, the default."""
        pinned = self._policy.tier_of(request.model)
        if pinned is not None:
            return self._route(pinned, None, f"the request asks for {request.model}")
        rules = self._policy.router
        fired = [
            (name, evidence, getattr(rules.weights, name)) for name, evidence in self._signals.fired(request.prompt)
        ]
        if not fired:
            return self._route(rules.default, 0.0, "no signal: the default")
        score = sum(weight for _, _, weight in fired)
        reasons = (f"{name}: {evidence} ({weight:+g})" for name, evidence, weight in fired)
        tier = rules.above if score >= rules.threshold else rules.below
        return self._route(tier, score, *reasons, f"score {score:+g}, threshold {rules.threshold:+g}")

    def _route(self, tier: str, score: float | None, *reasons: str) -> Route:
        return Route(tier=tier, model=self._policy.tiers[tier].model, score=score, reasons=reasons)

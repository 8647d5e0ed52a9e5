"""Another policy, asked beside the one that decides: what it would have done, and what that would have cost."""

import structlog

from services.router.decision import Decider, Refused
from services.router.ledger import Ledger
from shared.events import Request, Route
from shared.telemetry import metrics

log = structlog.stdlib.get_logger(__name__)


class Shadow:
    """Compares two decisions about each request; costs are the mean of what each tier's answers cost of late."""

    def __init__(self, other: Decider, ledger: Ledger) -> None:
        self._other = other
        self._ledger = ledger

    def beside(self, request: Request, vector: "object", route: Route) -> Route:
        """The route, with the tier that the other policy would have taken."""
        try:
            would = self._other.decide(request, vector)  # type: ignore[arg-type]
        except KeyError:  # the request names a model that the other policy does not know
            would = Refused("an unknown model")
        tier = "none" if isinstance(would, Refused) else would.tier
        metrics.ROUTER_SHADOW.labels(route.tier, tier).inc()
        for policy, taken in (("this", route.tier), ("shadow", tier)):
            metrics.ROUTER_SHADOW_COST.labels(policy).inc(self._ledger.cost_of(taken) or 0.0)
        if tier == route.tier:
            return route.model_copy(update={"shadow_tier": tier})
        reasons = (would.reason,) if isinstance(would, Refused) else would.reasons
        log.info("the other policy disagrees", tier=route.tier, other=tier, why=reasons)
        return route if isinstance(would, Refused) else route.model_copy(update={"shadow_tier": tier})

"""Another policy, asked beside the one that decides: what it would have done, and what that would have cost.

It sees the requests of this replica only, and its budget and limits go by what is really spent.
"""

import structlog

from services.router.decision import Decider, Refused
from services.router.ledger import Ledger
from services.router.vectors import Embedding
from shared.events import Request, Route
from shared.telemetry import metrics

log = structlog.stdlib.get_logger(__name__)


class Shadow:
    """Compares two decisions about each request; costs are the mean of what each tier's answers cost of late."""

    def __init__(self, other: Decider, ledger: Ledger) -> None:
        self._other = other
        self._ledger = ledger

    def beside(self, request: Request, embedding: Embedding | None, route: Route) -> Route:
        """The route, with the tier that the other policy would have taken; none where it would have refused.

        What goes wrong with a policy that is only tried out is logged, and no harm to the request.
        """
        try:
            would = self._other.decide(request, embedding)
        except KeyError:  # the request names a model that the other policy does not know
            would = Refused("an unknown model")
        except Exception:  # whatever it is: it must not get out
            log.exception("the other policy failed")
            return route
        tier = "none" if isinstance(would, Refused) else would.tier
        metrics.ROUTER_SHADOW.labels(route.tier, tier).inc()
        this = self._ledger.cost_of(route.tier)
        other = 0.0 if isinstance(would, Refused) else self._ledger.cost_of(tier)
        if this is not None and other is not None:  # or the two sums could not be compared
            metrics.ROUTER_SHADOW_COST.labels("this").inc(this)
            metrics.ROUTER_SHADOW_COST.labels("shadow").inc(other)
        if tier != route.tier:
            reasons = (would.reason,) if isinstance(would, Refused) else would.reasons
            log.info("the other policy disagrees", tier=route.tier, other=tier, why=reasons)
        return route if isinstance(would, Refused) else route.model_copy(update={"shadow_tier": tier})

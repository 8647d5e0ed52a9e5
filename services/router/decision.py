"""One decision: the tier a request asks for or deserves, then what health, cost and the tenant's limits make of it.

The steps, each of which leaves its reason: pinned, or scored → the tier of that score → among this and the stronger
ones, the cheapest that is well → the tenant's limits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.router.caps import Caps
from services.router.health import Health
from services.router.ledger import Ledger
from services.router.scoring import Scored, Scores
from services.router.thresholds import Begins, Thresholds
from shared.events import Request, Route
from shared.policy import Policy
from shared.telemetry import metrics

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that goes over its tenant's limits, which are to make it fail."""

    reason: str


class Decider:
    """Decides by one policy; what it has seen is its own, so that a second one can decide beside it."""

    def __init__(
        self, policy: Policy, score: Scores, thresholds: Thresholds, health: Health, ledger: Ledger, caps: Caps
    ) -> None:
        self._policy = policy
        self._ladder = policy.router.ladder
        self._score = score
        self._thresholds = thresholds
        self._health = health
        self._ledger = ledger
        self._caps = caps

    def decide(self, request: Request, vector: "NDArray[float32] | None" = None) -> Route | Refused:
        """Where a request is to run, and why. ``vector`` is the embedding of its prompt, of length 1.

        Raises:
            KeyError: the policy knows no such model as the request asks for.
        """
        pinned = self._policy.tier_of(request.model)
        scored = None
        self._caps.arrived(request.tenant)
        if pinned is not None:
            tier, reasons = pinned, [f"the request asks for {request.model}"]
        else:
            scored = self._score(request.prompt, vector)
            tier, reasons = self._deserved(request, scored)
            tier, avoided = self._will_do(tier)
            reasons += avoided
        tier, capped = self._allowed(request.tenant, tier)
        if capped and self._caps.fails(request.tenant):
            metrics.ROUTER_CAPPED.labels("failed").inc()
            return Refused(capped)
        if capped:
            metrics.ROUTER_CAPPED.labels("lowered").inc()
            reasons.append(capped)
        self._caps.take(request.tenant, tier)
        return Route(
            tier=tier,
            model=self._policy.tiers[tier].model,
            score=scored.value if scored else None,
            scorer=scored.by if scored else None,
            reasons=tuple(reasons),
        )

    def _deserved(self, request: Request, scored: Scored) -> tuple[str, list[str]]:
        self._thresholds.count(scored.by, scored.value if scored.informed else None)
        if not scored.informed:
            return self._policy.router.default, ["no signal: the default"]
        begins = self._thresholds.of(scored.by)
        reached = [tier for tier in self._ladder[1:] if begins.boundaries[tier].reached(scored.value, request.id)]
        tier = reached[-1] if reached else self._ladder[0]
        return tier, [*scored.fired, _comparison(scored, tier, begins)]

    def _will_do(self, tier: str) -> tuple[str, list[str]]:
        """The cheapest of this tier and the stronger ones that is well; where none is, this one: it waits."""
        will_do = self._ladder[self._ladder.index(tier) :]
        well = [name for name in will_do if self._health.trouble(name) is None]
        if not well:
            trouble = self._health.trouble(tier)
            return tier, [f"{tier} is in trouble ({trouble}), and nothing stronger is well"]
        chosen = self._cheapest(well)
        if chosen == tier:
            return tier, []
        if trouble := self._health.trouble(tier):
            metrics.TIERS_AVOIDED.labels(tier).inc()
            return chosen, [f"{tier} is in trouble ({trouble}): {chosen} instead"]
        return chosen, [f"{chosen} costs less than {tier} at present"]

    def _cheapest(self, tiers: Sequence[str]) -> str:
        """By what answers cost of late; by the order of the ladder where that is not known of all, or is equal."""
        costs = [self._ledger.cost_of(tier) for tier in tiers]
        known = [cost for cost in costs if cost is not None]
        return tiers[known.index(min(known))] if len(known) == len(tiers) else tiers[0]

    def _allowed(self, tenant: str, tier: str) -> tuple[str, str | None]:
        """The strongest tier up to this one that the tenant's limits allow, and what kept it from this one."""
        over = self._caps.over(tenant, tier)
        if over is None:
            return tier, None
        lower = self._ladder[: self._ladder.index(tier)] if tier in self._ladder else self._ladder[:1]
        for name in reversed(lower):
            if self._caps.over(tenant, name) is None:
                return name, f"{over}: {name} instead of {tier}"
        lowest = self._ladder[0]
        return lowest, f"{over}: {lowest} instead of {tier}" if lowest != tier else f"{over}: already the lowest tier"


def _comparison(scored: Scored, tier: str, begins: Begins) -> str:
    """The score beside the threshold that decided: of the tier that was reached, or of the first that was not."""
    beside = tier if tier in begins.boundaries else next(iter(begins.boundaries), None)
    if beside is None:
        return f"score {scored.value:+.4g}, and one tier only"
    boundary = begins.boundaries[beside]
    text = f"score {scored.value:+.4g}, {beside} from {boundary.score:+.4g}"
    if not begins.shares:
        return text
    part = "" if boundary.portion in (0.0, 1.0) else f", {boundary.portion:.0%} of those at it"
    return f"{text}{part}, for {begins.shares[beside]:.1%} of requests"

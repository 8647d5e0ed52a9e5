"""One decision: the tier a request asks for or deserves, then what trouble and the tenant's limits make of it.

The steps, each of which leaves its reason: pinned, or scored → the tier of that score → if that is in trouble, the next
stronger one that is well → the tenant's limits → if it would wait too long there, a cheaper one (shared/brownout.py).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.router.caps import Caps
from services.router.health import Health
from services.router.scoring import Scored, Scores
from services.router.thresholds import Begins, Thresholds
from services.router.vectors import Embedding
from shared.brownout import Brownout
from shared.events import BrownoutNote, Request, Route
from shared.policy import Policy
from shared.telemetry import metrics

if TYPE_CHECKING:
    from prometheus_client import Counter


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that goes over its tenant's limits, which are to make it fail."""

    reason: str


class Decider:
    """Decides by one policy; what it has seen is its own, so that a second one can decide beside it."""

    def __init__(
        self,
        policy: Policy,
        score: Scores,
        thresholds: Thresholds,
        health: Health,
        caps: Caps,
        brownout: Brownout,
        *,
        live: bool = True,
    ) -> None:
        """``live``: its decisions are carried out, so they are counted in the metrics."""
        self._policy = policy
        self._ladder = policy.router.ladder
        self._score = score
        self._thresholds = thresholds
        self._health = health
        self._caps = caps
        self._brownout = brownout
        self._live = live

    def decide(self, request: Request, embedding: Embedding | None = None) -> Route | Refused:
        """Where a request is to run, and why; ``embedding`` is that of its prompt.

        Raises:
            KeyError: the policy knows no such model as the request asks for.
        """
        pinned = self._policy.tier_of(request.model)
        self._caps.arrived(request.tenant)
        scored, chance = None, None
        if pinned is not None:
            tier = pinned
            reasons: tuple[str, ...] = (f"the request asks for {request.model}",)
        else:
            scored = self._score(request.prompt, embedding)
            tier, reasons, chance = self._deserved(request, scored)
        wanted, over = tier, self._caps.over(request.tenant, tier)
        if over is not None and self._caps.fails(request.tenant):
            self._count(metrics.ROUTER_CAPPED.labels("failed"))
            return Refused(over)
        limits: tuple[str, ...] = ()
        avoided: tuple[str, ...] = ()
        if over is not None:
            self._count(metrics.ROUTER_CAPPED.labels("lowered"))
            tier = self._within_limits(request.tenant, wanted)
            limits = (f"{over}: {f'{tier} instead of {wanted}' if tier != wanted else 'already the lowest'}",)
        elif scored is not None:
            tier, avoided = self._well(request.tenant, tier, scored)
        lowered: BrownoutNote | None = None
        if scored is not None:
            tier, waits, lowered = self._soon(request.tenant, tier)
            avoided += waits
        self._caps.take(request.tenant, tier)
        return Route(
            tier=tier,
            model=self._policy.tiers[tier].model,
            score=scored.value if scored else None,
            scorer=scored.by if scored else None,
            chance=chance if tier == wanted else None,
            reasons=(*reasons, *limits, *avoided),
            lowered=lowered,
        )

    def _deserved(self, request: Request, scored: Scored) -> tuple[str, tuple[str, ...], float]:
        """The tier of a score, why, and the part of the requests with that score that it gets."""
        self._thresholds.count(scored.by, scored.value if scored.informed else None)
        if not scored.informed:
            return self._policy.router.default, ("no signal: the default",), 1.0
        begins = self._thresholds.of(scored)
        reached = [tier for tier in self._ladder[1:] if begins.boundaries[tier].reached(scored.value, request.id)]
        tier = reached[-1] if reached else self._ladder[0]
        return tier, (*scored.fired, _comparison(scored, tier, begins)), self._chance(tier, scored.value, begins)

    def _chance(self, tier: str, score: float, begins: Begins) -> float:
        """One draw decides about all tiers, so that who reaches a stronger one reaches this one too."""
        place = self._ladder.index(tier)
        least, *above = (
            1.0 if name == self._ladder[0] else begins.boundaries[name].chance(score) for name in self._ladder[place:]
        )
        return least - max(above, default=0.0)

    def _within_limits(self, tenant: str, tier: str) -> str:
        """The strongest tier below one that the tenant's limits allow; the lowest where they allow none."""
        lower = self._ladder[: self._ladder.index(tier)] if tier in self._ladder else self._ladder
        return next((name for name in reversed(lower) if self._caps.over(tenant, name) is None), self._ladder[0])

    def _well(self, tenant: str, tier: str, scored: Scored) -> tuple[str, tuple[str, ...]]:
        """This tier or, where it is in trouble, the next stronger one that is well and may be paid for.

        Where there is none, the request waits in the queue of the tier it deserves: nothing is lost by that.
        """
        trouble = self._trouble(tier)
        if trouble is None:
            return tier, ()
        stronger = self._ladder[self._ladder.index(tier) + 1 :]
        if self._thresholds.of(scored).lowered:
            return tier, (f"{tier} is in trouble ({trouble}), and the budget allows nothing stronger",)
        for name in stronger:
            if self._trouble(name) is None and self._caps.over(tenant, name) is None:
                self._count(metrics.TIERS_AVOIDED.labels(tier))
                return name, (f"{tier} is in trouble ({trouble}): {name} instead",)
        return tier, (f"{tier} is in trouble ({trouble}), and nothing stronger will do",)

    def _soon(self, tenant: str, tier: str) -> tuple[str, tuple[str, ...], BrownoutNote | None]:
        """This tier or, where one waits too long for it, the next cheaper one that is well and may be taken."""
        for name in self._brownout.cheaper(tier):
            if self._trouble(name) is None and self._caps.over(tenant, name) is None:
                note = self._brownout.note("cheaper_tier", tier, f"{name} instead of {tier}")
                why = f"in {tier} one waits {self._brownout.age_s(tier):.0f} s: {name} instead"
                self._count(metrics.BROWNOUTS.labels("cheaper_tier", tier))
                return name, (why,), note
        return tier, (), None

    def _trouble(self, tier: str) -> str | None:
        """What is wrong with a tier: with each of its lanes, that is."""
        troubles = [self._health.trouble(lane.name) for lane in self._policy.tiers[tier].lanes]
        return None if None in troubles else troubles[0]

    def _count(self, counter: "Counter") -> None:
        if self._live:
            counter.inc()


def _comparison(scored: Scored, tier: str, begins: Begins) -> str:
    """The score beside the threshold that decided: of the tier that was reached, or of the first that was not."""
    beside = tier if tier in begins.boundaries else next(iter(begins.boundaries), None)
    if beside is None:
        return f"score {scored.value:+.4g}, and one tier only"
    boundary = begins.boundaries[beside]
    if not begins.shares:
        return f"score {scored.value:+.4g}, {beside} from {boundary.score:+.4g}"
    share = f"{beside} for {begins.shares[beside]:.1%} of requests{', by the budget' if begins.lowered else ''}"
    if boundary == boundary.nowhere():
        return f"score {scored.value:+.4g}, {share}"
    part = "" if boundary.portion in (0.0, 1.0) else f", {boundary.portion:.0%} of those at it"
    sign = "above" if boundary.portion == 0 else "from"
    return f"score {scored.value:+.4g}, {share}: {sign} {boundary.score:+.4g}{part}"

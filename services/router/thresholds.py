"""From which score each tier begins, now: as the policy sets it, or as a stated share or budget demands.

A budget per day is held by lowering the shares. With B dollars left of the day, N requests still to come at the present
rate, and c the mean cost of a request at a tier (c0 at the lowest), all shares are multiplied by

    (B - N c0) / (N Σ share (c - c0)),   at least 0 and at most 1,

found anew each few seconds: what was spent too much in the morning is saved in the afternoon.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from services.router.calibration import Boundary, RecentScores, Unpublished, place_of
from services.router.ledger import Ledger
from shared.clock import Clock
from shared.events import RouterScored
from shared.policy.routing import RouterPolicy
from shared.telemetry import metrics

# Seconds for which thresholds are kept: finding them goes through all scores that occur.
KEPT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Begins:
    """Where the tiers begin.

    Attributes:
        boundaries: by tier, for those above the lowest.
        shares: of requests that each is to have; empty where the boundaries are the policy's own thresholds.
    """

    boundaries: Mapping[str, Boundary]
    shares: Mapping[str, float] = field(default_factory=dict)


class Thresholds:
    """The beginnings of the tiers above the lowest, for the scores of one scorer or another."""

    def __init__(self, policy: RouterPolicy, ledger: Ledger, clock: Clock, *, alone: bool = False) -> None:
        """``alone``: goes by the scores it has counted itself, and announces none."""
        self.unpublished = Unpublished()
        self._policy = policy
        self._alone = alone
        self._ledger = ledger
        self._clock = clock
        self._began = clock.monotonic()
        self._recent: dict[str, RecentScores] = {}
        self._kept: dict[str, tuple[float, Begins]] = {}
        self._fixed = Begins({tier: Boundary.fixed(score) for tier, score in policy.thresholds.items()})

    def count(self, scorer: str, score: float | None) -> None:
        """Note the score of a request; None where the scorer knows nothing."""
        if not self._policy.calibrated:
            return
        if self._alone:
            self._add(scorer, {} if score is None else {place_of(score): 1}, int(score is None))
        else:  # it counts when it is heard of, as that of every other replica
            self.unpublished.count(scorer, score)

    def heard(self, delta: RouterScored) -> None:
        """Add what a replica, this one too, has counted."""
        self._add(delta.scorer, delta.scores, delta.neutral)

    def _add(self, scorer: str, scores: Mapping[int, int], neutral: int) -> None:
        recent = self._recent.setdefault(scorer, RecentScores(self._policy.calibration.half_life))
        recent.add(scores, neutral, self._clock.monotonic())

    def of(self, scorer: str) -> Begins:
        """Where each tier above the lowest begins."""
        now = self._clock.monotonic()
        recent = self._recent.get(scorer)
        if not self._policy.calibrated or recent is None:
            return self._fixed
        kept = self._kept.get(scorer)
        if kept is None or now >= kept[0] + KEPT_S:
            kept = self._kept[scorer] = (now, self._found(recent, now))
        return kept[1]

    def shares(self) -> Mapping[str, float]:
        """The share of requests that each tier above the lowest is to have now; empty where nobody can say yet."""
        asked = self._policy.shares or dict.fromkeys(self._policy.upper, 1.0)
        if self._policy.usd_per_day is None:
            return asked
        factor = self._affordable(self._policy.usd_per_day, asked)
        return {tier: share * factor for tier, share in asked.items()} if factor is not None else self._policy.shares

    def _found(self, recent: RecentScores, now: float) -> Begins:
        shares = self.shares()
        if not shares or recent.total(now) < self._policy.calibration.observations:
            return self._fixed
        default = self._policy.ladder.index(self._policy.default)
        found: dict[str, Boundary] = {}
        for place, tier in enumerate(self._policy.upper, start=1):
            together = sum(shares[each] for each in self._policy.ladder[place:])
            found[tier] = recent.boundary(together, neutral_above=default >= place)
            metrics.ROUTER_SHARE.labels(tier).set(shares[tier])
            metrics.ROUTER_THRESHOLD.labels(tier).set(found[tier].score)
        return Begins(found, shares)

    def _affordable(self, budget: float, shares: Mapping[str, float]) -> float | None:
        """The part of the shares that a budget per day allows; None while costs or traffic are not known."""
        lowest, *upper = self._policy.ladder
        costs = {tier: self._ledger.cost_of(tier) for tier in self._policy.ladder}
        base = costs[lowest]
        rate = self._requests_per_s()
        if base is None or not rate:
            return None
        left_of_day = self._ledger.left_of_day()
        coming = rate * left_of_day
        dearer = sum(shares[tier] * ((base if (cost := costs[tier]) is None else cost) - base) for tier in upper)
        left = budget - self._ledger.spent() - coming * base
        if left <= 0:
            return 0.0
        return min(1.0, left / (coming * dearer)) if dearer > 0 else 1.0

    def _requests_per_s(self) -> float:
        """The rate at which scores arrive, over the last half-lives or since this replica began, if that is less."""
        now = self._clock.monotonic()
        half_life = self._policy.calibration.half_life
        window = half_life / math.log(2) * (1 - 2.0 ** (-(now - self._began) / half_life))
        total = sum(recent.total(now) for recent in self._recent.values())
        return total / window if window > 0 else 0.0

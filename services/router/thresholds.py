"""From which score each tier begins, now: as the policy sets it, or as a stated share or budget demands.

A budget per day is held by lowering the shares: those that were stated, or those that the policy's thresholds have come
to of late. With B dollars left of the day, N requests still to come at the present rate, and c the mean cost of one at
a tier (c0 at the lowest), all shares are multiplied by

    (B - N c0) / (N Σ share (c - c0)),   at least 0 and at most 1,

found anew each few seconds: what was spent too much in the morning is saved in the afternoon.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from services.router.calibration import FARTHEST, Boundary, RecentScores, Unpublished, place_of
from services.router.ledger import Ledger
from services.router.scoring import Scored
from shared.clock import Clock
from shared.events import RouterScored
from shared.policy.routing import RouterPolicy
from shared.telemetry import metrics

# Seconds for which thresholds are kept: finding them goes through all scores that occur.
KEPT_S: Final = 2.0
# Rules, and the latest versions of a head: whoever was not heard of for longest gives way.
MOST_SCORERS: Final = 16


@dataclass(frozen=True, slots=True)
class Begins:
    """Where the tiers begin.

    Attributes:
        boundaries: by tier, for those above the lowest.
        shares: of requests, that each tier and the stronger ones together are to have; empty where the boundaries are
            the policy's own thresholds.
        lowered: whether the budget allows less than what was asked.
    """

    boundaries: Mapping[str, Boundary]
    shares: Mapping[str, float] = field(default_factory=dict)
    lowered: bool = False


class Thresholds:
    """The beginnings of the tiers above the lowest, for the scores of one scorer or another."""

    def __init__(self, policy: RouterPolicy, ledger: Ledger, clock: Clock, *, alone: bool = False) -> None:
        """``alone``: goes by the scores it has counted itself, and tells nobody of them."""
        self.unpublished = Unpublished()
        self._policy = policy
        self._alone = alone
        self._ledger = ledger
        self._clock = clock
        self._began = clock.monotonic()
        self._recent: dict[str, RecentScores] = {}
        self._kept: dict[str, tuple[float, Begins]] = {}
        self._fixed = Begins({tier: Boundary.fixed(score) for tier, score in policy.thresholds.items()})
        self._spent = Begins(
            {tier: Boundary.nowhere() for tier in policy.upper}, dict.fromkeys(policy.upper, 0.0), lowered=True
        )

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
        self._add(delta.scorer, {min(FARTHEST, max(-FARTHEST, at)): n for at, n in delta.scores.items()}, delta.neutral)

    def of(self, scored: Scored) -> Begins:
        """Where each tier above the lowest begins, for scores like this one."""
        fixed = self._fixed_of(scored)
        if not self._policy.calibrated:
            return fixed
        if self._policy.usd_per_day is not None and self._ledger.spent() >= self._policy.usd_per_day:
            self._show(self._spent.shares, self._spent)
            return self._spent
        now = self._clock.monotonic()
        kept = self._kept.get(scored.by)
        if kept is None or now >= kept[0] + KEPT_S:
            kept = (now, self._found(scored.by, fixed, now))
            if scored.by in self._recent:
                self._kept[scored.by] = kept
        return kept[1]

    def _fixed_of(self, scored: Scored) -> Begins:
        """The scorer's own threshold, which is between the two lowest tiers; or the policy's."""
        if scored.threshold is None or not self._policy.upper:
            return self._fixed
        second, *stronger = self._policy.upper
        return Begins({second: Boundary.fixed(scored.threshold)} | {tier: Boundary.nowhere() for tier in stronger})

    def _add(self, scorer: str, scores: Mapping[int, int], neutral: int) -> None:
        recent = self._recent.pop(scorer, None) or RecentScores(self._policy.calibration.half_life)
        recent.add(scores, neutral, self._clock.monotonic())
        self._recent[scorer] = recent  # at the end: the first is the one not heard of for longest
        if len(self._recent) > MOST_SCORERS:
            gone = next(iter(self._recent))
            del self._recent[gone]
            self._kept.pop(gone, None)

    def _found(self, scorer: str, fixed: Begins, now: float) -> Begins:
        recent = self._recent.get(scorer)
        if recent is None or recent.total(now) < self._policy.calibration.observations:
            return fixed
        asked = self._policy.shares or self._usual(recent, fixed)
        part = self._affordable(asked)
        if part == 1 and not self._policy.shares:
            self._show(asked, fixed)
            return fixed
        default = self._policy.ladder.index(self._policy.default)
        boundaries, shares = {}, {}
        for place, tier in enumerate(self._policy.upper, start=1):
            shares[tier] = part * sum(asked[each] for each in self._policy.ladder[place:])
            boundaries[tier] = recent.boundary(shares[tier], neutral_above=default >= place)
        begins = Begins(boundaries, shares, lowered=part < 1)
        self._show({tier: part * share for tier, share in asked.items()}, begins)
        return begins

    def _show(self, shares: Mapping[str, float], begins: Begins) -> None:
        """Fill the metrics, with the share of each tier by itself."""
        if self._alone:
            return
        for tier, boundary in begins.boundaries.items():
            metrics.ROUTER_SHARE.labels(tier).set(shares[tier])
            metrics.ROUTER_THRESHOLD.labels(tier).set(boundary.score)

    def _usual(self, recent: RecentScores, fixed: Begins) -> Mapping[str, float]:
        """The share of each tier above the lowest where the fixed thresholds decide."""
        upwards = [recent.share_from(fixed.boundaries[tier].place) for tier in self._policy.upper]
        stronger = [*upwards[1:], 0.0]
        return {tier: upwards[n] - stronger[n] for n, tier in enumerate(self._policy.upper)}

    def _affordable(self, shares: Mapping[str, float]) -> float:
        """The part of the shares that the budget per day allows; all of them while costs or traffic are not known."""
        lowest, *upper = self._policy.ladder
        base, rate = self._ledger.cost_of(lowest), self._requests_per_s()
        if self._policy.usd_per_day is None or base is None or not rate:
            return 1.0
        coming = rate * self._ledger.left_of_day()
        left = self._policy.usd_per_day - self._ledger.spent() - coming * base
        if left <= 0:
            return 0.0
        dearer = sum(shares[tier] * ((self._ledger.cost_of(tier) or base) - base) for tier in upper)
        return min(1.0, left / (coming * dearer)) if dearer > 0 else 1.0

    def _requests_per_s(self) -> float:
        """The rate at which scores arrive, over the last half-lives or since this replica began, if that is less."""
        now = self._clock.monotonic()
        half_life = self._policy.calibration.half_life
        window = half_life / math.log(2) * (1 - 2.0 ** (-(now - self._began) / half_life))
        total = sum(recent.total(now) for recent in self._recent.values())
        return total / window if window > 0 else 0.0

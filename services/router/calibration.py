"""Thresholds that mean something: the scores from which a stated share of the recent requests is.

The recent scores are kept as counts that halve every half-life. Such counts add: replicas publish what they have
counted, each adds what it hears, and all come to the same thresholds.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

# Scores are told apart to a thousandth, up to this far from zero: at most 200,001 counts, however many requests.
THOUSANDTHS: Final = 1000
FARTHEST: Final = 100 * THOUSANDTHS
# Half-lives after which all counts are scaled, long before a float overflows.
_RESCALED_AFTER: Final = 100.0
_FAINT: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Boundary:
    """Where a tier begins.

    Attributes:
        place: the score, in thousandths; above it all requests belong to the tier.
        portion: the part of those with this very score, 0 to 1, that does as well: whole numbers of requests have the
            same score, above all under rules.
    """

    place: int
    portion: float = 1.0

    @classmethod
    def fixed(cls, score: float) -> "Boundary":
        """A threshold that somebody has set: the score itself is enough."""
        return cls(place_of(score))

    @classmethod
    def nowhere(cls) -> "Boundary":
        """A tier that no request reaches by its score."""
        return cls(FARTHEST, 0.0)

    @property
    def score(self) -> float:
        """The same as a score."""
        return self.place / THOUSANDTHS

    def chance(self, score: float) -> float:
        """The part of the requests with a score that belongs to the tier: 0 or 1 but at the boundary itself."""
        place = place_of(score)
        return self.portion if place == self.place else float(place > self.place)

    def reached(self, score: float, request_id: UUID) -> bool:
        """Whether a request belongs to the tier; always the same for the same request."""
        return draw(request_id) < self.chance(score)


def place_of(score: float) -> int:
    """A score as it is counted, in thousandths."""
    return round(min(FARTHEST, max(-FARTHEST, score * THOUSANDTHS)))


def draw(request_id: UUID) -> float:
    """A number from 0 to 1 that belongs to a request: the last 48 bits of its id, which are random in all ids."""
    return float((request_id.int & (2**48 - 1)) / 2**48)


class RecentScores:
    """The scores of one scorer, with weights that halve every half-life."""

    def __init__(self, half_life_s: float) -> None:
        self._half_life_s = half_life_s
        self._weights: dict[int, float] = {}
        self._neutral = 0.0  # requests about which nothing is known
        self._since: float | None = None

    def add(self, counts: Mapping[int, int], neutral: int, now: float) -> None:
        """Count scores, by their places, and requests without one, at ``now`` seconds on the monotonic clock."""
        weight = self._grown(now)
        for place, count in counts.items():
            self._weights[place] = self._weights.get(place, 0.0) + weight * count
        self._neutral += weight * neutral

    def total(self, now: float) -> float:
        """Requests, each weighted by its age."""
        grown = self._grown(now)  # first: it may scale what is added up here
        return (sum(self._weights.values()) + self._neutral) / grown

    def share_from(self, place: int) -> float:
        """The share of all requests that have this score or a higher one."""
        total = sum(self._weights.values()) + self._neutral
        reached = sum(weight for each, weight in self._weights.items() if each >= place)
        return reached / total if total else 0.0

    def boundary(self, share: float, *, neutral_above: bool) -> Boundary:
        """Where the uppermost ``share`` of all requests begins.

        Those about which nothing is known go to the default tier whatever the boundary is: ``neutral_above`` says that
        it is within the share, so that less is left for the others. Otherwise they stay below, and no prompt that
        speaks against a stronger tier is lifted over them: the share then stays below what was asked.
        """
        total = sum(self._weights.values()) + self._neutral
        left = share * total - (self._neutral if neutral_above else 0.0)
        if left <= 0:
            return Boundary.nowhere()
        for place in sorted(self._weights, reverse=True):
            if place < 0 and self._neutral and not neutral_above:
                return Boundary(0)
            if left <= 0:
                return Boundary(place, 0.0)
            if (weight := self._weights[place]) > left:
                return Boundary(place, left / weight)
            left -= weight
        return Boundary(0 if self._neutral and not neutral_above else -FARTHEST)

    def _grown(self, now: float) -> float:
        """What a request of this moment weighs, beside those of the beginning, which weigh 1: older ones are not
        touched. All are scaled down now and then.
        """
        if self._since is None:
            self._since = now
        age = (now - self._since) / self._half_life_s
        if age > _RESCALED_AFTER:
            scale = 2.0**-age
            kept = {place: weight * scale for place, weight in self._weights.items()}
            self._weights = {place: weight for place, weight in kept.items() if weight > _FAINT}
            self._neutral *= scale
            self._since, age = now, 0.0
        return float(2.0**age)


class Unpublished:
    """What this replica has counted and not announced yet."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[int]] = {}
        self._neutral: Counter[str] = Counter()

    def count(self, by: str, score: float | None) -> None:
        """Count one request of a scorer; ``score`` is None where it knows nothing."""
        if score is None:
            self._neutral[by] += 1
        else:
            self._counts.setdefault(by, Counter())[place_of(score)] += 1

    def take(self) -> dict[str, tuple[Mapping[int, int], int]]:
        """Counts and requests without a score, by scorer; what is taken is no longer kept."""
        taken: dict[str, tuple[Mapping[int, int], int]] = {
            by: (self._counts.get(by, Counter()), self._neutral[by]) for by in {*self._counts, *self._neutral}
        }
        self._counts, self._neutral = {}, Counter()
        return taken

"""How often hits are wrong, by a fading sample of audits that were not all equally likely."""

import math
from typing import Final

# Quantiles of the normal distribution: 95 % of it are within the one, all but 0.3 % within the other.
Z95: Final = 1.96
Z997: Final = 3.0
# Older audits fade: about the last 500 count.
FADING: Final = 0.998
# Errors that audits must have found, or the model have expected, before they count as much as the model's word.
TRUST: Final = 10.0
# Audits that were less likely than this count as if they had been this likely.
LEAST_SAMPLED: Final = 1e-3


class FadingSample:
    """What recent audits found, each weighted by the inverse of its probability (Horvitz & Thompson, JASA 47, 1952)."""

    def __init__(self) -> None:
        self._weight = self._squares = self._weighted_wrong = 0.0
        self._found = self._expected = 0.0

    def add(self, *, wrong: bool, expected: float, sampled: float) -> None:
        """One audit: what it found, the risk the model had given it, and how likely it was to be made."""
        weight = 1 / max(sampled, LEAST_SAMPLED)
        self._weight = FADING * self._weight + weight
        self._squares = FADING**2 * self._squares + weight**2
        self._weighted_wrong = FADING * self._weighted_wrong + weight * wrong
        self._found = FADING * self._found + wrong
        self._expected = FADING * self._expected + expected

    @property
    def rate(self) -> float:
        """Share of wrong answers; 0 before the first audit."""
        return self._weighted_wrong / self._weight if self._weight else 0.0

    @property
    def size(self) -> float:
        """How many equally likely audits tell as much: Kish's effective size (Survey Sampling, 1965)."""
        return self._weight**2 / self._squares if self._weight else 0.0

    @property
    def calibration(self) -> float:
        """Errors found over errors expected, drawn to 1: the mean of a gamma distribution over their ratio."""
        return (TRUST + self._found) / (TRUST + self._expected)

    def interval(self, z: float = Z95) -> tuple[float, float]:
        """The interval of the rate: Wilson's (JASA 22, 1927) at the effective size; 0 to 1 at first."""
        if not self._weight:
            return 0.0, 1.0
        n, p = self.size, self.rate
        centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        return max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))

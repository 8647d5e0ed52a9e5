"""Whether a topic is asked for more than usual, and whether that can be chance: the whole rule, without state or clock.

Two things must hold, as either alone is fooled: the ratio of the present share to the usual one (without it every busy
topic trends over a small change), and a floor under how unlikely that is for counts that vary by chance (without it
rare topics trend over two requests).
"""

import math
from dataclasses import dataclass
from typing import Final

from services.trends.rates import Rate

# Exponentially decayed counts vary half as much as plain ones: for events at a constant rate, the variance of
# sum(exp(-age/c)) is half its mean. So each is worth two.
WORTH: Final = 2.0
# What is left of a count after weeks, and would be 0 when divided, is none.
NOTHING: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Evidence:
    """Decayed counts of one topic, and of all there was to see.

    The usual counts leave out what is recent: they are the slow minus the fast ones, a kernel that begins at zero and
    is at its height after about ``fast * log(slow / fast)``. A burst has no part in what it is compared with, also
    where a service has run for a few minutes only.

    Attributes:
        now: recent requests about the topic.
        now_all: recent requests, or, for one series by itself, the time it was watched.
        usual: earlier requests about the topic.
        usual_all: earlier requests, or earlier time.
    """

    now: float
    now_all: float
    usual: float
    usual_all: float

    @classmethod
    def of(cls, topic: Rate, everything: Rate) -> "Evidence":
        """What the counts of a topic, and those of all requests, say at one time."""
        usual, usual_all = topic.slow - topic.fast, everything.slow - everything.fast
        return cls(topic.fast, everything.fast, max(0.0, usual), max(0.0, usual_all))

    @property
    def share(self) -> float:
        """The topic's present share."""
        return self.now / self.now_all if self.now_all > 0 else 0.0

    def usual_share(self, prior: float) -> float:
        """Its usual share, with the share that every topic is credited with: so the credit grows with the load."""
        return prior + (self.usual / self.usual_all if self.usual_all > 0 else 0.0)

    def ratio(self, prior: float) -> float:
        """How many times its usual share a topic has."""
        return self.share / self.usual_share(prior)

    @property
    def significance(self) -> float:
        """Twice the log-likelihood ratio of two Poisson rates against one; 0 where the topic is not above its usual.

        Under chance it is distributed about as chi-square with one degree of freedom: beyond 30 lies one of 20 million.
        That it compares two counts, not a count with a known rate, keeps short histories from saying much.
        """
        exposure = self.now_all + self.usual_all
        pooled = (self.now + self.usual) / exposure if exposure > 0 else 0.0
        if self.now <= max(NOTHING, pooled * self.now_all) or self.usual_all <= 0:
            return 0.0
        surprise = self.now * math.log(self.now / (pooled * self.now_all))
        if self.usual > NOTHING:
            surprise += self.usual * math.log(self.usual / (pooled * self.usual_all))
        return max(0.0, WORTH * 2 * surprise)

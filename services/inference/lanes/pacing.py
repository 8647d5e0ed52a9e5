"""Even pacing: calls leave at a rate, not in bursts.

The generic cell rate algorithm (ITU-T I.371) as a leaky bucket: each call fills it by what it costs, and it runs out at
the rate; the next call leaves when it is empty. Time that was not used is gone, but for a tolerance that covers timers.
So after an outage no more calls leave per second than before it. What is in the bucket is an amount and no time, so
that a call waits by the rate of now, whatever that was when the one before it left.
"""

from dataclasses import dataclass
from typing import Final

# Seconds a call may be late without the next ones being late too: what timers, a busy loop and a busy machine need. A
# replica that wakes up 30 ms late on average loses a sixth of its rate with 0.02 s here, and nothing with this.
TOLERANCE_S: Final = 0.15
# Less than this is no wait: what rounding leaves, which no timer can wait for.
NO_TIME_S: Final = 1e-6


@dataclass(slots=True)
class Pace:
    """When the next call may leave.

    Attributes:
        level: what has to run out before it may.
        at_s: monotonic time from which that runs out.
    """

    level: float = 0.0
    at_s: float = 0.0

    def wait_s(self, now_s: float, rate: float, *, behind: int = 0) -> float:
        """Seconds until a call may leave that comes after ``behind`` others, at ``rate`` per second."""
        wait_s = self.at_s - now_s + (self.level + behind) / rate
        return wait_s if wait_s > NO_TIME_S else 0.0

    def take(self, now_s: float, cost: float, rate: float) -> None:
        """Let one call leave that costs as much (1, or its tokens), of which ``rate`` may leave per second."""
        left = self.level - (now_s - self.at_s) * rate
        self.level = max(left, -TOLERANCE_S * rate) + cost
        self.at_s = now_s

    def correct(self, cost: float) -> None:
        """A call turned out to cost so much more (or, if negative, less) than was taken for it."""
        self.level += cost

    def begin(self, at_s: float, phase: float, rate: float) -> None:
        """Nobody leaves before then, nor before ``phase`` (of 1) has run out after it: who shares takes turns."""
        if at_s > self.at_s:
            self.level, self.at_s = max(phase, self.level - (at_s - self.at_s) * rate), at_s

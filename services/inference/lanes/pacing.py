"""Even pacing: calls leave at a rate, not in bursts.

The generic cell rate algorithm (ITU-T I.371): each call has a theoretical time of arrival, one interval after the one
before it. A call that is early waits; time that was not used is gone, but for a tolerance that covers timers. So after
an outage no more calls leave per second than before it.
"""

from dataclasses import dataclass
from typing import Final

# Seconds a call may be late without the next ones being late too: what timers, a busy loop and a busy machine need. A
# replica that wakes up 30 ms late on average loses a sixth of its rate with 0.02 s here, and nothing with this.
TOLERANCE_S: Final = 0.15


@dataclass(slots=True)
class Pace:
    """When the next call may leave.

    Attributes:
        next_s: monotonic time from which it may.
    """

    next_s: float = 0.0

    def wait_s(self, now_s: float, *, behind: int = 0, rate: float = 0.0) -> float:
        """Seconds until a call may leave that comes after ``behind`` others, at ``rate`` per second."""
        queued = behind / rate if behind else 0.0
        return max(0.0, self.next_s + queued - now_s)

    def take(self, now_s: float, cost: float, rate: float) -> None:
        """Let one call leave that costs as much (1, or its tokens), of which ``rate`` may leave per second."""
        self.next_s = max(self.next_s, now_s - TOLERANCE_S) + cost / rate

    def correct(self, cost: float, rate: float) -> None:
        """A call turned out to cost so much more (or, if negative, less) than was taken for it."""
        self.next_s += cost / rate

"""How much the cache may do beside its requests: calls within an hour over all replicas, and work here and now."""

from collections import deque
from collections.abc import Iterable
from typing import Final

HOUR_S: Final = 3600.0


class HourlyBudget:
    """At most so many within any hour.

    Every replica notes what any of them has spent (it hears the events), so that the bound is about the whole
    deployment; in the milliseconds an event takes, two replicas can overshoot it by one each.
    """

    def __init__(self, per_hour: int) -> None:
        self._per_hour = per_hour
        self._spent: deque[float] = deque()

    def left(self, now: float) -> bool:
        """Whether one more is within the budget, at ``now`` seconds on the monotonic clock."""
        while self._spent and self._spent[0] <= now - HOUR_S:
            self._spent.popleft()
        return len(self._spent) < self._per_hour

    def spend(self, now: float) -> None:
        """Note one."""
        self._spent.append(now)

    def recall(self, times: Iterable[float]) -> None:
        """Note what was spent before this process began to hear of it."""
        self._spent = deque(sorted((*self._spent, *times)))


class Pace:
    """At most so many a second, on the average: a token bucket that holds those of one second."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._left = per_s
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Whether one more may be done, at ``now`` seconds on the monotonic clock; it is counted then."""
        self._left = min(self._per_s, self._left + self._per_s * max(0.0, now - self._at))
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

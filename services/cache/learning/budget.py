"""How many extra calls the cache may cause: a sliding hour, counted over all replicas."""

from collections import deque
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

"""How often each topic is asked for: two exponentially decayed counts, which add over replicas in any order.

A decayed count is the sum of ``exp(-age / constant)`` over what was counted. It is linear in the counts, so what four
replicas saw adds up to what one would have seen that saw everything. So many names are kept; the rarest give way.
"""

import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

# Share of the names that go when there is no more room: looking for the rarest means going through all of them.
GIVE_WAY: Final = 0.25
K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class Rate:
    """Two decayed counts as of a time in seconds; ``fast`` is also part of ``slow``."""

    fast: float
    slow: float
    at: float


class Rates(Generic[K]):
    """Decayed counts by name, in bounded memory.

    The bound is that of Space-Saving (Metwally, Agrawal, El Abbadi 2005): a name that comes when there is no room
    begins with the slow count of the most frequent name that had to go. So a usual rate is never underestimated, which
    would make a topic trend that was merely forgotten, and it is overestimated by ``all / max_topics`` at the most.

    Attributes:
        floor: the slow count a new name begins with; it decays as all counts do.
    """

    def __init__(self, *, fast_s: float, slow_s: float, max_names: int) -> None:
        self._fast_s = fast_s
        self._slow_s = slow_s
        self._max_names = max_names
        self._rates: dict[K, Rate] = {}
        self.floor = Rate(0.0, 0.0, 0.0)

    def __len__(self) -> int:
        return len(self._rates)

    def __iter__(self) -> Iterator[K]:
        return iter(self._rates)

    def add(self, name: K, count: float, at: float) -> None:
        """Count a name, at a time in seconds; times may come in any order."""
        rate = self._rates.get(name)
        if rate is None:
            if len(self._rates) >= self._max_names:
                self._make_room(at)
            rate = self._rates[name] = Rate(0.0, self._decayed(self.floor, at).slow, at)
        if at >= rate.at:
            self._decay(rate, at)
            rate.fast += count
            rate.slow += count
        else:
            fast, slow = self._left(rate.at - at)
            rate.fast += count * fast
            rate.slow += count * slow

    def at(self, name: K, now: float) -> Rate:
        """The counts of a name as of a time not before its last; those of a name that is not kept are the floor's."""
        rate = self._rates.get(name)
        return self._decayed(self.floor if rate is None else rate, now)

    def reaches(self, name: K, count: float) -> bool:
        """Whether the fast count of a name was so high when it was last counted; cheaper than what it is now."""
        rate = self._rates.get(name)
        return rate is not None and rate.fast >= count

    def _make_room(self, at: float) -> None:
        counts = {name: rate.slow * math.exp((rate.at - at) / self._slow_s) for name, rate in self._rates.items()}
        leaving = sorted(counts, key=counts.__getitem__)[: max(1, int(GIVE_WAY * len(counts)))]
        for name in leaving:
            del self._rates[name]
        self.floor = Rate(0.0, max(self._decayed(self.floor, at).slow, counts[leaving[-1]]), at)

    def _decay(self, rate: Rate, at: float) -> None:
        if at > rate.at:
            fast, slow = self._left(at - rate.at)
            rate.fast *= fast
            rate.slow *= slow
            rate.at = at

    def _decayed(self, rate: Rate, at: float) -> Rate:
        fast, slow = self._left(max(0.0, at - rate.at))
        return Rate(rate.fast * fast, rate.slow * slow, at)

    def _left(self, age_s: float) -> tuple[float, float]:
        """What is left of a fast and of a slow count after some seconds, as a share."""
        return math.exp(-age_s / self._fast_s), math.exp(-age_s / self._slow_s)

"""How often each topic is asked for: two exponentially decayed counts, which add over replicas in any order.

A decayed count is the sum of ``exp(-age / constant)`` over what was counted. It is linear in the counts, so what four
replicas saw adds up to what one would have seen that saw everything. So many names are kept; the rarest of those who
have most give way.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
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


NONE: Final = Rate(0.0, 0.0, 0.0)


def everybody(_: Hashable) -> Hashable:
    """One owner for all names."""
    return ""


class Rates(Generic[K]):
    """Decayed counts by name, in bounded memory that owners share fairly.

    An owner may fill what is free. When there is no room, those with most names are cut down to one level, the rarest
    of their names first, and who has fewer loses nothing (max-min fairness).

    The bound on the error is that of Space-Saving (Metwally, Agrawal, El Abbadi 2005), by owner: a name that comes
    after others of its owner had to go begins with the slow count of the most frequent of those. So a usual rate is
    never underestimated, which would make a topic trend that was merely forgotten, and for one owner alone it is
    overestimated by ``all / max_names`` at the most.
    """

    def __init__(
        self, *, fast_s: float, slow_s: float, max_names: int, owner: Callable[[K], Hashable] = everybody
    ) -> None:
        self._fast_s = fast_s
        self._slow_s = slow_s
        self._max_names = max_names
        self._owner = owner
        self._rates: dict[K, Rate] = {}
        # By owner, for those that have names; what an owner without any would begin with is one for all of them.
        self._floors: dict[Hashable, Rate] = {}
        self._floor_of_others = NONE

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
            rate = self._rates[name] = Rate(0.0, self.floor(name, at), at)
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
        return Rate(0.0, self.floor(name, now), now) if rate is None else self._decayed(rate, now)

    def floor(self, name: K, now: float) -> float:
        """The slow count with which a name begins that is new; it decays as all counts do."""
        others = self._decayed(self._floor_of_others, now).slow
        return max(others, self._decayed(self._floors.get(self._owner(name), NONE), now).slow)

    def reaches(self, name: K, count: float) -> bool:
        """Whether the fast count of a name was so high when it was last counted; cheaper than what it is now."""
        rate = self._rates.get(name)
        return rate is not None and rate.fast >= count

    def _make_room(self, at: float) -> None:
        counts = {name: rate.slow * math.exp((rate.at - at) / self._slow_s) for name, rate in self._rates.items()}
        names: defaultdict[Hashable, list[K]] = defaultdict(list)
        for name in sorted(counts, key=counts.__getitem__, reverse=True):
            names[self._owner(name)].append(name)
        # Each owner's first come before anybody's second: whoever goes is of those who have most.
        ranked = [(n, -counts[name], owner) for owner, own in names.items() for n, name in enumerate(own)]
        ranked.sort(key=lambda each: each[:2])
        for _, _, owner in ranked[len(ranked) - max(1, int(GIVE_WAY * len(ranked))) :]:
            name = names[owner].pop()
            del self._rates[name]
            self._floors[owner] = self._raised(self._floors.get(owner, NONE), counts[name], at)
        for owner in [owner for owner in self._floors if not names[owner]]:
            floor = self._decayed(self._floors.pop(owner), at)
            self._floor_of_others = self._raised(self._floor_of_others, floor.slow, at)

    def _raised(self, floor: Rate, slow: float, at: float) -> Rate:
        return Rate(0.0, max(slow, self._decayed(floor, at).slow), at)

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

"""A token bucket."""

from typing import Final

# What rounding may take from a level: who comes back at the very moment they were told must find enough.
_ROUNDING: Final = 1e-6


class Bucket:
    """Fills continuously, up to its capacity; starts full.

    Args:
        per_s: what comes in each second.
        capacity: what it holds at the most; at least 1, or nothing could ever be taken.
        now_s: seconds on any clock that never goes back, the same one for every call.
    """

    def __init__(self, per_s: float, capacity: float, now_s: float) -> None:
        self._per_s = per_s
        self._capacity = max(1.0, capacity)
        self._level = self._capacity
        self._at_s = now_s

    def level(self, now_s: float) -> float:
        """What can be taken now."""
        return min(self._capacity, self._level + self._per_s * (now_s - self._at_s))

    def whole(self, now_s: float) -> int:
        """How many whole ones can be taken now."""
        return int(self.level(now_s) + _ROUNDING)

    def resize(self, per_s: float, capacity: float, now_s: float) -> None:
        """Go on at another rate; what is in it stays, as far as it fits."""
        self._level, self._at_s = self.level(now_s), now_s
        self._per_s, self._capacity = per_s, max(1.0, capacity)

    def wait_s(self, amount: float, now_s: float) -> float | None:
        """Seconds until ``amount`` can be taken; 0 for now, None for never: it holds less when it is full."""
        if amount > self._capacity:
            return None
        missing = amount - self.level(now_s)
        return 0.0 if missing <= _ROUNDING else missing / self._per_s

    def take(self, amount: float, now_s: float) -> None:
        """Take what :meth:`wait_s` said is there."""
        self._level, self._at_s = max(0.0, self.level(now_s) - amount), now_s

    def full_in_s(self, now_s: float) -> float:
        """Seconds until it is full, should nobody take anything."""
        return (self._capacity - self.level(now_s)) / self._per_s

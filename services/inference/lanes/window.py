"""How many calls of a lane one replica has under way: additive increase, multiplicative decrease (RFC 5681).

For what a rate does not tell: a server that is overloaded answers 503 or 529, answers late or not at all, or refuses
calls of which its own headers say that they are within its limits.
"""

from typing import Final

DECREASE: Final = 0.7
# Calls under way with which a lane begins anew after its breaker was open; it doubles with each round of answers.
AFRESH: Final = 4.0
# Signs of overload of one round of calls are one piece of news.
ROUND_S: Final = 1.0


class Window:
    """Calls under way at the most."""

    def __init__(self, declared: int | None) -> None:
        """``declared``: over all replicas; None for no limit but what overload teaches."""
        self._declared = declared
        self._size: float | None = None
        self._steep = 0.0
        self._cut_s = float("-inf")
        self.under_way = 0

    def size(self, share: float) -> float:
        """The most, for a replica that has this share of what was declared; at least 1, infinite without limits."""
        sizes = [] if self._size is None else [self._size]
        if self._declared is not None:
            sizes.append(self._declared * share)
        return max(1.0, min(sizes)) if sizes else float("inf")

    def full(self, share: float) -> bool:
        """Whether a call has to wait for another one's end."""
        return self.under_way + 1 > self.size(share)

    def answered(self, full: bool) -> None:
        """A call was answered; one more at a time if it was the window that held others back."""
        if self._size is None or not full:
            return
        slow_start = self._size < self._steep
        self._size += 1.0 if slow_start else 1.0 / self._size

    def overloaded(self, now_s: float) -> None:
        """The server has too much to do: fewer at a time, once a round."""
        if now_s - self._cut_s < ROUND_S:
            return
        self._cut_s = now_s
        before = self.under_way if self._size is None else min(self._size, self.under_way)
        self._size = self._steep = max(1.0, before * DECREASE)

    def afresh(self) -> None:
        """Begin with few and double each round: the lane was away, and nobody knows what it can do now."""
        self._steep = max(self._steep, float("inf") if self._size is None else self._size)
        self._size = AFRESH

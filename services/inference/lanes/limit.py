"""How many calls per second a provider gives: declared, told in its headers, or learned from what it refuses.

Learning is a search by multiplicative steps, up by a little at each call that was held back by the pace and accepted,
down by much at each refusal. In balance the share of refused calls is the ratio of the two steps, whatever the limit.
Where nothing has been refused for long the steps up grow, so that a limit that was raised is found in half a minute
(the idea of CUBIC, RFC 9438). All replicas apply what all of them saw, so they agree but for a second's delay.
"""

import math
from collections import deque
from typing import Final

# Refused calls per call, in balance.
REFUSED_SHARE: Final = 0.004
# Natural logarithm of the step down at one refusal.
STEP: Final = 0.03
# Refusals of one moment are one piece of news: calls that left before it was heard.
MOST_DOWN: Final = 0.7
MOMENT_S: Final = 1.0
# The steps up double each time so many seconds, and so many calls that were held back, have passed without a refusal:
# of a slow lane not to be refused for some seconds is no news.
DOUBLE_EVERY_S: Final = 5.0
DOUBLE_EVERY_CALLS: Final = 60
MOST_DOUBLINGS: Final = 8
# Of what was declared or told: room for timers, clocks, and calls on their way.
HEADROOM: Final = 0.985
# What was accepted is measured over so many seconds.
MEASURED_S: Final = 10.0
LEAST: Final = 1 / 60
# What a lane gives of which nothing is known but that it refused its first call: somebody else may have used it up.
GUESS: Final = 1.0
# Of what was accepted lately: no refusal says that the provider gives so much less than it just gave.
AT_LEAST: Final = 0.7
# Where so many of the calls accepted lately were held back, for so long, what was accepted is what there is.
BUSY: Final = 0.9
BUSY_S: Final = 5.0
# Of the way to another replica's view, at each of its reports.
PULL: Final = 0.1


class Limit:
    """Calls (or tokens) per second of one lane, over all replicas."""

    def __init__(self, declared_per_minute: float | None, now_s: float) -> None:
        """``declared_per_minute`` is the operator's word; None leaves it to the provider's."""
        self._declared = None if declared_per_minute is None else declared_per_minute / 60
        self._told: float | None = None
        self._learned: float | None = None
        self._began_s = self._refused_s = now_s
        self._moment_s = -math.inf
        self._down = 0.0
        self._accepted: deque[tuple[float, float, bool]] = deque()
        self._held_back = 0.0
        self._sum = 0.0
        self._waited = 0

    @property
    def learned(self) -> float | None:
        """Per second, as what was refused has taught; None where nothing was."""
        return self._learned

    @property
    def by_headers(self) -> float | None:
        """Per second, as the provider said; None where it did not."""
        return self._told

    @property
    def rate(self) -> float | None:
        """Per second, over all replicas; None while there is no sign of a limit."""
        known = [limit * HEADROOM for limit in (self._declared, self._told) if limit is not None]
        if self._learned is not None:
            known.append(self._learned)
        return min(known) if known else None

    def told(self, per_second: float) -> None:
        """The provider said in a header what it gives; of another limit the same part is ours as of the one before."""
        if self._learned is not None and self._told is not None:
            self._learned *= per_second / self._told
        self._told = per_second

    def accepted(self, now_s: float, amount: float, *, held_back: float) -> None:
        """So much was accepted just now, in calls of which ``held_back`` had waited for the pace."""
        if self._accepted and now_s - self._accepted[-1][0] > DOUBLE_EVERY_S:
            self._news(now_s)  # a lane that was away: that nothing was refused says nothing
        self._forget(now_s)
        self._accepted.append((now_s, amount, held_back > 0))
        self._sum += amount
        self._waited += held_back > 0
        if self._learned is None:
            return
        if now_s - self._moment_s >= MOMENT_S:
            self._learned = max(self._learned, self._surely(now_s))
        if held_back <= 0:
            return
        self._held_back += held_back
        calm = min((now_s - self._refused_s) // DOUBLE_EVERY_S, self._held_back // DOUBLE_EVERY_CALLS)
        doublings = min(MOST_DOUBLINGS, calm)
        self._learned *= math.exp(STEP * REFUSED_SHARE * held_back * 2**doublings)
        ceiling = min((limit for limit in (self._declared, self._told) if limit is not None), default=math.inf)
        if self._learned >= ceiling:
            self._learned = None  # no less than what is known anyway

    def refused(self, now_s: float, amount: float = 1, *, under_way: float = 0.0) -> None:
        """So many were refused just now, while so much was under way that was taken as far as is known."""
        if now_s - self._moment_s >= MOMENT_S:
            self._moment_s, self._down = now_s, 0.0
        self._news(now_s)
        step = min(STEP * amount, MOST_DOWN - self._down)
        self._down += step
        gives = self.accepted_per_second(now_s, under_way)
        before = self.rate if self.rate is not None else max(gives, GUESS)
        after = before * math.exp(-step)
        if self._busy(now_s):
            after = min(after, gives)
        self._learned = max(after, self._surely(now_s, under_way), LEAST)

    def adopt(self, rate: float) -> None:
        """Another replica's view, for one that has none of its own; else a little of the way towards it.

        All apply the same news, so the views differ by what was lost, and by a second's delay.
        """
        self._learned = rate if self._learned is None else self._learned * (rate / self._learned) ** PULL

    def accepted_per_second(self, now_s: float, under_way: float = 0.0) -> float:
        """What was accepted lately, over all replicas."""
        self._forget(now_s)
        seconds = min(MEASURED_S, max(MOMENT_S, now_s - self._began_s))
        return (max(0.0, self._sum) + under_way) / seconds

    def _forget(self, now_s: float) -> None:
        while self._accepted and self._accepted[0][0] < now_s - MEASURED_S:
            _, amount, waited = self._accepted.popleft()
            self._sum -= amount
            self._waited -= waited

    def _surely(self, now_s: float, under_way: float = 0.0) -> float:
        """What it gives at the least: of a slow lane it matters whether one call more fell into the time measured."""
        first = self._accepted[0][1] if self._accepted else 0.0
        return AT_LEAST * self.accepted_per_second(now_s, under_way - first)

    def _busy(self, now_s: float) -> bool:
        """Whether there was work for more than was accepted, for long enough to tell."""
        long = bool(self._accepted) and now_s - self._accepted[0][0] >= BUSY_S
        return long and self._waited >= BUSY * len(self._accepted)

    def _news(self, now_s: float) -> None:
        """From now on it counts for how long nothing is refused."""
        self._refused_s, self._held_back = now_s, 0.0

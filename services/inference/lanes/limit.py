"""How many calls per second a provider gives: declared, told in its headers, or learned from what it refuses.

Learning is a search by multiplicative steps, up by a little at each call that was held back by the pace and accepted,
down by much at each refusal. In balance the share of refused calls is the ratio of the two steps, whatever the limit.
Where nothing has been refused for long a search begins that goes faster and faster, so that a limit that was raised is
found in half a minute (the idea of CUBIC, RFC 9438). All replicas apply what all of them saw, so they agree but for a
second's delay.

What is refused of a burst, before anything was known, tells how much can be saved up, and not how much comes in: it
only begins the pace, at the rate of what came through, and the search.
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
# In balance this many calls pass between two refusals; half as many again without one mean that there is more.
QUIET: Final = 1.5 / REFUSED_SHARE
# The search: of the natural logarithm per second, at first, and at the most; it doubles every so many seconds.
SEARCH_FIRST: Final = 0.01
SEARCH_MOST: Final = 0.15
SEARCH_DOUBLES_S: Final = 2.0
# A lane of which nothing was accepted for so long was away.
AWAY_S: Final = 5.0
# Of what was declared or told: room for timers, clocks, and calls on their way.
HEADROOM: Final = 0.985
# What was accepted is measured over so many seconds.
MEASURED_S: Final = 10.0
LEAST: Final = 1 / 60
# What a lane gives of which nothing is known but that it refused its first call: somebody else may have used it up.
GUESS: Final = 1.0
# Of what was accepted lately: no refusal says that the provider gives so much less than it just gave.
AT_LEAST: Final = 0.7
# Of the way to another replica's view, at each of its reports.
PULL: Final = 0.1


class Limit:
    """Calls (or tokens) per second of one lane, over all replicas."""

    def __init__(self, declared_per_minute: float | None) -> None:
        """``declared_per_minute`` is the operator's word; None leaves it to the provider's."""
        self._declared = None if declared_per_minute is None else declared_per_minute / 60
        self._told: float | None = None
        self._learned: float | None = None
        self._quiet = 0.0
        self._search_s: float | None = None
        self._moment_s = -math.inf
        self._down = 0.0
        self._accepted: deque[tuple[float, float]] = deque()

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
        """So much was accepted just now, of which ``held_back`` had waited for the pace."""
        if self._accepted and now_s - self._accepted[-1][0] > AWAY_S:
            self._quiet, self._search_s = 0.0, None  # that nothing was refused says nothing
        self._accepted.append((now_s, amount))
        if self._learned is None or held_back <= 0:
            return
        self._quiet += held_back
        if self._search_s is None and self._quiet >= QUIET:
            self._search_s = now_s
        self._learned *= math.exp(held_back * self._step_up(now_s, self._learned))
        ceiling = min((limit for limit in (self._declared, self._told) if limit is not None), default=math.inf)
        if self._learned >= ceiling:
            self._learned = None  # no less than what is known anyway

    def refused(self, now_s: float, amount: float = 1, *, under_way: float = 0.0) -> None:
        """So many were refused just now, while so much was under way that was taken as far as is known."""
        if now_s - self._moment_s >= MOMENT_S:
            self._moment_s, self._down = now_s, 0.0
        self._quiet, self._search_s = 0.0, None
        step = min(STEP * amount, MOST_DOWN - self._down)
        self._down += step
        gives = self.accepted_per_second(now_s, under_way)
        before = self.rate if self.rate is not None else max(gives, GUESS)
        self._learned = max(before * math.exp(-step), AT_LEAST * gives, LEAST)

    def overrun(self, now_s: float, *, under_way: float = 0.0) -> None:
        """A call was refused that had left before anything was known of a limit."""
        if self._declared is None and self._told is None:
            self._learned = max(self.accepted_per_second(now_s, under_way), GUESS)
            self._search_s = now_s

    def adopt(self, rate: float) -> None:
        """Another replica's view, for one that has none of its own; else a little of the way towards it.

        All apply the same news, so the views differ by what was lost, and by a second's delay.
        """
        self._learned = rate if self._learned is None else self._learned * (rate / self._learned) ** PULL

    def accepted_per_second(self, now_s: float, under_way: float = 0.0) -> float:
        """What was accepted lately, over all replicas."""
        while self._accepted and self._accepted[0][0] < now_s - MEASURED_S:
            self._accepted.popleft()
        since_s = self._accepted[0][0] if self._accepted else now_s
        seconds = min(MEASURED_S, max(MOMENT_S, now_s - since_s))
        return (sum(amount for _, amount in self._accepted) + under_way) / seconds

    def _step_up(self, now_s: float, rate: float) -> float:
        """Natural logarithm of the step for one accepted call."""
        balanced = STEP * REFUSED_SHARE
        if self._search_s is None:
            return min(balanced, SEARCH_MOST / rate)
        doublings = min((now_s - self._search_s) / SEARCH_DOUBLES_S, 10)
        per_s = min(SEARCH_MOST, SEARCH_FIRST * 2**doublings)
        return min(max(balanced, per_s / rate), SEARCH_MOST / rate)

"""A circuit breaker: closed, open for a while, then half open for one probe.

Of the libraries for it none keeps its state where other replicas hear of it without a server of its own (pybreaker and
purgatory share by Redis, aiobreaker not at all), and none takes a clock; what remains is this.
"""

import random
from collections import deque
from typing import Final

# Open at so many failures in a row, or at half of the last so many calls.
IN_A_ROW: Final = 5
LAST_CALLS: Final = 20
FAILED_SHARE: Final = 0.5
# Seconds it stays open at first; twice as many after each probe that failed.
OPEN_FIRST_S: Final = 2.0
OPEN_LONGEST_S: Final = 10.0
JITTER: Final = 0.2


class Probe:
    """The one call that tries whether a lane whose breaker was open works again."""


class Breaker:
    """Whether a lane may be called."""

    def __init__(self) -> None:
        self._last: deque[bool] = deque(maxlen=LAST_CALLS)
        self._in_a_row = 0
        self._open_until_s: float | None = None
        self._open_s = 0.0
        self._probe: Probe | None = None

    @property
    def closed(self) -> bool:
        """Whether all is well."""
        return self._open_until_s is None

    def wait_s(self, now_s: float) -> float:
        """Seconds until a call may be made; infinite while a probe is under way."""
        if self._open_until_s is None:
            return 0.0
        return float("inf") if self._probe else max(0.0, self._open_until_s - now_s)

    def begin(self) -> Probe | None:
        """A call is being made; what it is if it is the probe."""
        self._probe = None if self.closed else Probe()
        return self._probe

    def succeeded(self, probe: Probe | None) -> bool:
        """A call worked; True if that closes it. One that left before it opened says nothing of now."""
        self._in_a_row = 0
        self._last.append(True)
        closes = probe is not None and probe is self._probe
        if closes:
            self.close()
        return closes

    def failed(self, now_s: float, probe: Probe | None, *, for_s: float | None = None) -> float | None:
        """A call failed for the lane's own fault; seconds it is open now, if that opens it (again).

        ``for_s``: open at once and for so long, for what does not pass by itself.
        """
        self._in_a_row += 1
        self._last.append(False)
        probed = probe is not None and probe is self._probe
        if not self.closed and not probed:
            return None  # left before it opened
        failures = self._last.count(False)
        often = failures >= IN_A_ROW and failures >= FAILED_SHARE * len(self._last)
        if for_s is None and not probed and self._in_a_row < IN_A_ROW and not often:
            return None
        self._open_s = min(OPEN_LONGEST_S, max(OPEN_FIRST_S, 2 * self._open_s))
        open_s = (self._open_s if for_s is None else for_s) * random.uniform(1 - JITTER, 1 + JITTER)
        self._open_until_s = now_s + open_s
        self._probe = None
        return open_s

    def open(self, until_s: float) -> None:
        """Another replica found the lane broken."""
        if self._probe is None:
            self._open_until_s = max(until_s, self._open_until_s or until_s)

    def abandoned(self, probe: Probe | None) -> None:
        """A call ended that tells nothing of the lane: if it was the probe, the next one is."""
        if probe is self._probe:
            self._probe = None

    def close(self) -> None:
        """All is well again: seen here, or said by another replica."""
        self._last.clear()
        self._in_a_row = 0
        self._open_until_s = None
        self._open_s = 0.0
        self._probe = None

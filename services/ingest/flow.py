"""One place where requests wait: how many are ahead, and how fast they go while there is always a next one."""

import math
from typing import Final

# Seconds of busy time after which a rate that was seen counts 1/e.
MEMORY_S: Final = 30.0


class Flow:
    """Requests that wait for one thing, such as a tier.

    The queue is looked at once in a while; in between those who came and went are counted. Its rate is learned only
    while it was never seen empty: of an idle model one can tell how much it is asked, not how much it can do.
    """

    def __init__(self) -> None:
        self._ready = 0.0
        self._change = 0.0
        self._left = 0
        self._done = 0.0
        self._busy_s = 0.0
        self._peak = 0.0

    @property
    def ahead(self) -> float:
        """Requests that are ahead of one that comes now."""
        return max(0.0, self._ready + self._change)

    @property
    def rate(self) -> float | None:
        """Requests a second that are finished while others wait; None while nothing is known.

        Where it has never been seen busy, the most it did in a second; where it is busy and finishes none, ever less.
        """
        if self._busy_s:
            return max(self._done, 1.0) / self._busy_s
        return self._peak or None

    @property
    def wait_s(self) -> float:
        """Seconds until those who are ahead are gone; 0.0 while no rate is known."""
        rate = self.rate
        return self.ahead / rate if rate else 0.0

    def came(self, share: float = 1.0) -> None:
        """One more waits, or comes here with some probability."""
        self._change += share

    def went(self) -> None:
        """One is finished."""
        self._change -= 1
        self._left += 1

    def looked(self, ready: float, elapsed_s: float) -> None:
        """So many wait, ``elapsed_s`` after the last look."""
        if elapsed_s > 0:
            if self._ready and ready:
                fading = math.exp(-elapsed_s / MEMORY_S)
                self._done = self._done * fading + self._left
                self._busy_s = self._busy_s * fading + elapsed_s
            self._peak = max(self._peak, self._left / elapsed_s)
        self._ready, self._change, self._left = ready, 0.0, 0

"""An event loop whose time jumps to the next timer as soon as nothing is left to do: minutes pass in milliseconds."""

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any, TypeVar

from tests.support.clock import START

T = TypeVar("T")


class _Leap(selectors.SelectSelector):
    """Waits for no file: the time it was asked to wait for has passed at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits, and no timer is set: nothing will ever happen again")
        self.now_s += max(0.0, timeout)
        return []


class VirtualTime(asyncio.SelectorEventLoop):
    """The loop; no sockets, no threads."""

    def __init__(self) -> None:
        self._leap = _Leap()
        super().__init__(self._leap)

    def time(self) -> float:
        return self._leap.now_s


class LoopClock:
    """The clock of the loop it runs in."""

    def now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def run(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that is run in virtual time; what it left behind is cancelled."""
    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        return runner.run(work)

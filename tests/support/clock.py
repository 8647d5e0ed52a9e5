"""Time held by the test: it moves when told to, and only then."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final

START: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
# Turns of the event loop that are enough for everything that is ready to run.
TURNS: Final = 30


async def settled() -> None:
    """Let all that can run without time passing run."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


class ManualClock:
    """A clock for tests.

    Attributes:
        slept: the seconds of each sleep that was asked for.
    """

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self._fell_asleep = asyncio.Event()
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._fell_asleep.set()
        alarm = asyncio.get_running_loop().create_future()
        if seconds <= 0:
            asyncio.get_running_loop().call_soon(alarm.set_result, None)
            await alarm
            return
        entry = (self._elapsed + seconds, alarm)
        self._sleepers.append(entry)
        try:
            await alarm
        finally:
            if entry in self._sleepers:
                self._sleepers.remove(entry)

    async def sleeper(self) -> None:
        """Return once somebody sleeps."""
        while not self._sleepers:
            self._fell_asleep.clear()
            await self._fell_asleep.wait()

    def skip(self, seconds: float) -> None:
        """Move the hands without waking anybody."""
        self._elapsed += seconds

    async def advance(self, seconds: float) -> None:
        """Let time pass: who is due wakes, in order, and does what it does before the next."""
        await settled()
        until = self._elapsed + seconds
        while due := [entry for entry in self._sleepers if entry[0] <= until]:
            entry = min(due, key=lambda one: one[0])
            self._sleepers.remove(entry)
            self._elapsed = max(self._elapsed, entry[0])
            if not entry[1].done():
                entry[1].set_result(None)
            await settled()
        self._elapsed = until
        await settled()


class HurriedClock(ManualClock):
    """A clock whose sleepers never wait: each sleep moves the hands by itself."""

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._elapsed += max(0.0, seconds)
        alarm = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(alarm.set_result, None)
        await alarm

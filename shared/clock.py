"""Time as something that can be handed in, so that tests hold it."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the code asks of time."""

    def now(self) -> datetime:
        """Wall-clock time, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, for measuring durations."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Wall-clock time, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since an arbitrary point."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``."""
        await asyncio.sleep(seconds)


SYSTEM_CLOCK = SystemClock()

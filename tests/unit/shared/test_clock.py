"""The clocks: the machine's, and the one that tests hold."""

import asyncio
from datetime import timedelta

from shared.clock import SYSTEM_CLOCK
from tests.support.clock import START, ManualClock


def test_the_machines_clock_is_in_utc_and_never_goes_back() -> None:
    assert SYSTEM_CLOCK.now().utcoffset() == timedelta(0)
    first = SYSTEM_CLOCK.monotonic()
    assert SYSTEM_CLOCK.monotonic() >= first


async def test_sleepers_of_the_manual_clock_wake_in_order_and_on_time() -> None:
    clock = ManualClock()
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic()))

    async with asyncio.TaskGroup() as tasks:
        for name, seconds in (("late", 3.0), ("soon", 1.0), ("now", 0.0)):
            tasks.create_task(sleeper(name, seconds))
        await clock.advance(2)
        assert woken == [("now", 0.0), ("soon", 1.0)]
        await clock.advance(1)
    assert woken[-1] == ("late", 3.0)
    assert clock.now() == START + timedelta(seconds=3)

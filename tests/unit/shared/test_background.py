"""Work beside the requests: what becomes of it when it fails, and that it ends with its block."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from shared.background import PAUSE_MAX_S, RECOVERED_S, background, pause
from shared.telemetry import metrics
from tests.support.clock import ManualClock, settled


class Work:
    """Fails as often as it is told to after some seconds, then goes on for ever.

    Attributes:
        begun: how often it was called.
    """

    def __init__(self, clock: ManualClock, *lasted_s: float) -> None:
        self._clock = clock
        self._lasted_s = list(lasted_s)
        self.begun = 0

    async def __call__(self) -> None:
        self.begun += 1
        if self._lasted_s:
            if lasted_s := self._lasted_s.pop(0):
                await self._clock.sleep(lasted_s)
            raise ZeroDivisionError("a mistake")
        await asyncio.Event().wait()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def test_a_failure_is_told_at_once_and_the_work_begins_anew_after_a_pause(
    clock: ManualClock, logged: list[dict[str, Any]]
) -> None:
    work = Work(clock, 0.0)
    before = metrics.BACKGROUND_FAILURES.labels("sweeping")._value.get()
    async with background(work, name="sweeping", clock=clock):
        await clock.sleeper()
        (line,) = logged
        assert (line["log_level"], line["work"], line["exc_info"]) == ("error", "sweeping", True)
        assert metrics.BACKGROUND_FAILURES.labels("sweeping")._value.get() == before + 1
        assert work.begun == 1
        await clock.advance(pause_at_most(1))
        assert work.begun == 2


async def test_the_more_often_it_fails_the_longer_the_pause_until_it_has_run_for_a_while(clock: ManualClock) -> None:
    work = Work(clock, *[0.0] * 8, RECOVERED_S + 1)
    async with background(work, name="sweeping", clock=clock):
        for _ in range(10):
            await clock.sleeper()
            await clock.advance(clock.slept[-1])
    assert work.begun == 10
    *longer, ran, last = clock.slept
    assert ran == RECOVERED_S + 1
    for failures, slept in enumerate(longer, start=1):
        assert pause_at_most(failures) / 2 <= slept <= pause_at_most(failures)
    assert last <= pause_at_most(1)
    assert pause_at_most(8) == PAUSE_MAX_S


def test_however_often_it_fails_the_pause_is_no_longer_than_a_minute() -> None:
    assert PAUSE_MAX_S / 2 <= pause(5_000) <= PAUSE_MAX_S
    assert len({pause(5) for _ in range(20)}) > 1, "all replicas would begin anew together"


def pause_at_most(failures: int) -> float:
    return min(PAUSE_MAX_S, 2.0 ** (failures - 1))


async def forever() -> None:
    await asyncio.Event().wait()


async def over() -> None:
    pass


async def failing() -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("work", [forever, over, failing])
async def test_it_ends_with_its_block(work: Callable[[], Awaitable[None]], clock: ManualClock) -> None:
    async with background(work, name="sweeping", clock=clock):
        await settled()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_work_that_returns_is_over(clock: ManualClock, logged: list[dict[str, Any]]) -> None:
    async with background(over, name="sweeping", clock=clock):
        await settled()
        assert asyncio.all_tasks() == {asyncio.current_task()}
    assert clock.slept == []
    assert logged == []


async def test_a_failure_of_the_block_itself_is_not_hidden(clock: ManualClock) -> None:
    with pytest.raises(ZeroDivisionError):
        async with background(forever, name="sweeping", clock=clock):
            await failing()

"""Work that goes on when nobody waits for it: one call for a request, one outcome for whoever is there."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest

from services.inference.calls import Calls
from tests.support.clock import settled

ID = (UUID(int=1), 0)


class Work:
    """Begun once for each join that finds none; ends when told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.end: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> str:
        self.begun += 1
        return await self.end


def kept() -> tuple[list[str], Callable[[str], Awaitable[None]]]:
    orphans: list[str] = []

    async def keep(outcome: str) -> None:
        orphans.append(outcome)

    return orphans, keep


async def test_who_comes_while_it_is_under_way_waits_for_the_same() -> None:
    orphans, keep = kept()
    calls, work = Calls[str](keep), Work()
    waiters = [asyncio.create_task(calls.join(ID, work)) for _ in range(3)]
    await settled()
    work.end.set_result("done")
    assert await asyncio.gather(*waiters) == ["done"] * 3
    await settled()
    assert (work.begun, orphans) == (1, [])


async def test_a_waiter_that_is_cancelled_ends_nothing_and_the_next_one_has_the_outcome() -> None:
    orphans, keep = kept()
    calls, work = Calls[str](keep), Work()
    first = asyncio.create_task(calls.join(ID, work))
    await settled()
    first.cancel()
    await settled()
    second = asyncio.create_task(calls.join(ID, work))
    await settled()
    work.end.set_result("done")
    assert await second == "done"
    await settled()
    assert (first.cancelled(), work.begun, orphans) == (True, 1, [])


@pytest.mark.parametrize("waiters", [1, 2, 3])
async def test_what_nobody_waits_for_is_handed_over_once_however_many_gave_up(waiters: int) -> None:
    orphans, keep = kept()
    calls, work = Calls[str](keep), Work()
    for _ in range(waiters):
        waiter = asyncio.create_task(calls.join(ID, work))
        await settled()
        waiter.cancel()
        await settled()
    work.end.set_result("done")
    await settled()
    assert (work.begun, orphans) == (1, ["done"])


async def test_who_is_cancelled_in_the_moment_it_ends_loses_nothing() -> None:
    orphans, keep = kept()
    calls, work = Calls[str](keep), Work()
    waiter = asyncio.create_task(calls.join(ID, work))
    await settled()
    work.end.set_result("done")
    await asyncio.sleep(0)  # the work has ended, the waiter has not run yet
    waiter.cancel()
    await settled()
    assert orphans == (["done"] if waiter.cancelled() else [])


async def test_until_it_is_taken_who_gets_the_request_again_has_it_from_here() -> None:
    taken = asyncio.Event()

    async def slowly(_: str) -> None:
        await taken.wait()

    calls, work = Calls[str](slowly), Work()
    waiter = asyncio.create_task(calls.join(ID, work))
    await settled()
    waiter.cancel()
    work.end.set_result("done")
    await settled()
    assert await calls.join(ID, work) == "done"
    assert work.begun == 1
    taken.set()
    await settled()
    again = asyncio.create_task(calls.join(ID, work))
    await again
    assert work.begun == 2


async def test_what_failed_is_told_to_who_waits_and_begun_anew_by_the_next() -> None:
    _, keep = kept()
    calls, work = Calls[str](keep), Work()
    work.end.set_exception(ValueError("broken"))
    for begun in (1, 2):
        with pytest.raises(ValueError, match="broken"):
            await calls.join(ID, work)
        assert work.begun == begun


async def test_at_the_end_all_that_is_under_way_is_cancelled() -> None:
    orphans, keep = kept()
    work = Work()
    async with Calls[str](keep) as calls:
        waiter = asyncio.create_task(calls.join(ID, work))
        await settled()
        waiter.cancel()
        await settled()
    assert (work.end.cancelled(), orphans) == (True, [])

"""Micro-batches that form by themselves."""

import asyncio
from collections.abc import Sequence

import pytest

from services.cache.batching import Batcher
from tests.support.clock import settled


class Work:
    """Doubles numbers, when the gate is open."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.at_once = 0
        self.most_at_once = 0

    async def __call__(self, items: Sequence[int]) -> Sequence[int]:
        self.batches.append(list(items))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.gate.wait()
        finally:
            self.at_once -= 1
        if 13 in items:
            raise ValueError("unlucky")
        return [2 * item for item in items]


@pytest.fixture
def work() -> Work:
    return Work()


async def test_an_idle_batcher_adds_no_wait(work: Work) -> None:
    work.gate.set()
    assert await Batcher(work)(4) == 8
    assert work.batches == [[4]]


async def test_what_arrives_during_one_batch_makes_the_next(work: Work) -> None:
    batcher = Batcher(work)
    calls = [asyncio.create_task(batcher(0))]
    await settled()
    calls += [asyncio.create_task(batcher(number)) for number in range(1, 6)]
    await settled()
    assert work.batches == [[0]]
    work.gate.set()
    assert await asyncio.gather(*calls) == [0, 2, 4, 6, 8, 10]
    assert work.batches == [[0], [1, 2, 3, 4, 5]]


async def test_no_batch_is_larger_than_allowed_and_none_run_at_once(work: Work) -> None:
    batcher = Batcher(work, most=3)
    calls = [asyncio.create_task(batcher(number)) for number in range(8)]
    work.gate.set()
    assert await asyncio.gather(*calls) == [2 * number for number in range(8)]
    assert max(map(len, work.batches)) == 3
    assert work.most_at_once == 1


async def test_a_failure_is_told_to_its_batch_and_to_no_other(work: Work) -> None:
    batcher = Batcher(work, most=2)
    calls = [asyncio.create_task(batcher(number)) for number in (1, 13, 2)]
    work.gate.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [ValueError, ValueError, int]
    assert await batcher(3) == 6


async def test_a_caller_that_left_disturbs_nobody(work: Work) -> None:
    batcher = Batcher(work)
    calls = [asyncio.create_task(batcher(number)) for number in (1, 2, 3)]
    await settled()
    calls[1].cancel()
    work.gate.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert (results[0], results[2]) == (2, 6)
    assert isinstance(results[1], asyncio.CancelledError)


async def test_it_works_again_after_a_rest(work: Work) -> None:
    batcher = Batcher(work)
    work.gate.set()
    assert await batcher(1) == 2
    await settled()
    assert await batcher(2) == 4

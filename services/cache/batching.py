"""Micro-batches that form by themselves: what arrives while one batch is being worked on makes the next one.

Callers await a single result; the work is done for many at once. An idle batcher adds no wait.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

A = TypeVar("A")
B = TypeVar("B")


class Batcher(Generic[A, B]):
    """Calls ``work`` with up to ``most`` items at a time, one call at a time."""

    def __init__(self, work: Callable[[Sequence[A]], Awaitable[Sequence[B]]], *, most: int = 32) -> None:
        self._work = work
        self._most = most
        self._waiting: list[tuple[A, asyncio.Future[B]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def __call__(self, item: A) -> B:
        """The result for one item; raises what the work raises for its batch."""
        future: asyncio.Future[B] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            try:
                results = await self._work([item for item, _ in batch])
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
            else:
                for (_, future), result in zip(batch, results, strict=True):
                    if not future.done():
                        future.set_result(result)

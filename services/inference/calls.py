"""Work on requests that goes on when nobody waits for it any more: what is bought is not thrown away."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, Self, TypeVar
from uuid import UUID

import structlog

log = structlog.stdlib.get_logger(__name__)
T = TypeVar("T")
# A request, and the number of its run.
Run = tuple[UUID, int]


class Calls(Generic[T]):
    """What is under way, at most one for each run of a request.

    The broker hands a request out again when the connection is lost; its provider does not know that, and goes on. So
    the work goes on here too, and whoever gets the request again waits for the same.
    """

    def __init__(self, orphaned: Callable[[T], Awaitable[None]]) -> None:
        """``orphaned`` gets the outcome of work that nobody waits for when it ends."""
        self._orphaned = orphaned
        self._under_way: dict[Run, asyncio.Task[T]] = {}
        self._waiting: Counter[Run] = Counter()
        self._left: set[asyncio.Task[None]] = set()

    async def join(self, run: Run, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The outcome of a request's work: of what is under way already, else of what ``begin`` begins.

        It goes on if who waits here is cancelled.
        """
        task = self._under_way.get(run)
        if task is None:
            task = asyncio.create_task(begin(), name=f"request {run[0]}")
            self._under_way[run] = task
            task.add_done_callback(lambda done: self._ended(run, done))
        self._waiting[run] += 1
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if (
                task.done() and not task.cancelled() and self._waiting[run] == 1
            ):  # it ended for somebody who was cancelled just then
                self._orphan(run, task)
            raise
        finally:
            self._waiting[run] -= 1
            if not self._waiting[run]:
                del self._waiting[run]

    def leave(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something go on by itself."""
        task = asyncio.create_task(work)
        self._left.add(task)
        task.add_done_callback(self._done)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """End all that is still under way."""
        tasks = [*self._under_way.values(), *self._left]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, run: Run, task: "asyncio.Task[T]") -> None:
        if self._waiting[run] or task.cancelled():
            del self._under_way[run]
        else:
            self._orphan(run, task)

    def _orphan(self, run: Run, task: "asyncio.Task[T]") -> None:
        """Nobody has the outcome of work that ended."""
        self._under_way[run] = task
        self.leave(self._hand_over(run, task))

    async def _hand_over(self, run: Run, task: "asyncio.Task[T]") -> None:
        """Until it is taken, who gets the request again has it from here."""
        try:
            await self._orphaned(await task)
        finally:
            del self._under_way[run]

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._left.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("nobody waits for what failed", error=repr(error))

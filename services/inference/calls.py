"""Work on requests that goes on when nobody waits for it any more: what is bought is not thrown away."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, Self, TypeVar
from uuid import UUID

import structlog

log = structlog.stdlib.get_logger(__name__)
T = TypeVar("T")


class Calls(Generic[T]):
    """What is under way, at most one for each request.

    The broker hands a request out again when the connection is lost; its provider does not know that, and goes on. So
    the work goes on here too, and whoever gets the request again waits for the same.
    """

    def __init__(self, orphaned: Callable[[T], Awaitable[None]]) -> None:
        """``orphaned`` gets the outcome of work that nobody waits for when it ends."""
        self._orphaned = orphaned
        self._under_way: dict[UUID, asyncio.Task[T]] = {}
        self._waiting: Counter[UUID] = Counter()
        self._left: set[asyncio.Task[None]] = set()

    async def join(self, request_id: UUID, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The outcome of a request's work: of what is under way already, else of what ``begin`` begins.

        It goes on if who waits here is cancelled.
        """
        task = self._under_way.get(request_id)
        if task is None:
            task = asyncio.create_task(begin(), name=f"request {request_id}")
            self._under_way[request_id] = task
            task.add_done_callback(lambda done: self._ended(request_id, done))
        self._waiting[request_id] += 1
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if (
                task.done() and not task.cancelled() and self._waiting[request_id] == 1
            ):  # it ended for somebody who was cancelled just then
                self._orphan(request_id, task)
            raise
        finally:
            self._waiting[request_id] -= 1
            if not self._waiting[request_id]:
                del self._waiting[request_id]

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

    def _ended(self, request_id: UUID, task: "asyncio.Task[T]") -> None:
        if self._waiting[request_id] or task.cancelled():
            del self._under_way[request_id]
        else:
            self._orphan(request_id, task)

    def _orphan(self, request_id: UUID, task: "asyncio.Task[T]") -> None:
        """Nobody has the outcome of work that ended."""
        self._under_way[request_id] = task
        self.leave(self._hand_over(request_id, task))

    async def _hand_over(self, request_id: UUID, task: "asyncio.Task[T]") -> None:
        """Until it is taken, who gets the request again has it from here."""
        try:
            await self._orphaned(await task)
        finally:
            del self._under_way[request_id]

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._left.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("nobody waits for what failed", error=repr(error))

"""Work on requests that goes on when nobody waits for it any more: what is bought is not thrown away."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, Self, TypeVar
from uuid import UUID

import structlog

from shared.errors import ForebayError

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
            task.add_done_callback(lambda _: self._under_way.pop(run, None))
        self._waiting[run] += 1
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled() and self._waiting[run] == 1:
                self.leave(self._see_to_the_end(run, task))
            raise
        finally:
            self._waiting[run] -= 1
            if not self._waiting[run]:
                del self._waiting[run]

    def leave(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something go on by itself."""
        task = asyncio.create_task(work)
        self._left.add(task)
        task.add_done_callback(self._left.discard)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """End all that is still under way."""
        tasks = [*self._under_way.values(), *self._left]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _see_to_the_end(self, run: Run, task: "asyncio.Task[T]") -> None:
        try:
            outcome = await task
        except ForebayError as error:
            log.info("nobody waits for what failed", request_id=str(run[0]), code=error.code)
            return
        if not self._waiting[run]:
            await self._orphaned(outcome)

"""Work beside the requests, for as long as a block runs."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress


@asynccontextmanager
async def background(work: Coroutine[object, object, None], *, name: str) -> AsyncIterator[None]:
    """Run ``work`` as a task that is cancelled, and waited for, at the end of the block."""
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

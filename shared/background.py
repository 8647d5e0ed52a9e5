"""Work beside the requests, for as long as a block runs.

Nobody waits for its result, so a failure would not be seen before the service ends, which would go on without one of
its duties. So a failure is logged and counted at once, and the work begins anew after a pause. What its object knows is
kept; the end of the whole process would throw that away.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import structlog

from shared.clock import SYSTEM_CLOCK, Clock
from shared.telemetry import metrics

log = structlog.stdlib.get_logger(__name__)

PAUSE_FIRST_S: Final = 1.0
PAUSE_MAX_S: Final = 60.0
# Work that ran for so long failed over something else than the last time.
RECOVERED_S: Final = 2 * PAUSE_MAX_S


@asynccontextmanager
async def background(
    work: Callable[[], Awaitable[None]], *, name: str, clock: Clock = SYSTEM_CLOCK
) -> AsyncIterator[None]:
    """Run ``work`` as a task that is cancelled, and waited for, at the end of the block.

    Work that fails is called again after a pause, work that returns is over.
    """
    task = asyncio.create_task(_kept_up(work, name, clock), name=name)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _kept_up(work: Callable[[], Awaitable[None]], name: str, clock: Clock) -> None:
    failures = 0
    while True:
        began = clock.monotonic()
        try:
            await work()
        except Exception:
            failures = 1 if clock.monotonic() - began >= RECOVERED_S else failures + 1
            pause_s = pause(failures)
            metrics.BACKGROUND_FAILURES.labels(name).inc()
            log.exception("work in the background failed", work=name, failures=failures, again_in_s=round(pause_s, 1))
        else:
            return
        await clock.sleep(pause_s)


def pause(failures: int) -> float:
    """Seconds until the work begins anew: twice as long after each failure in a row, up to a minute, with jitter."""
    return min(PAUSE_MAX_S, PAUSE_FIRST_S * 2.0 ** min(failures - 1, 10)) * random.uniform(0.5, 1)  # jitter

"""Five hops without any work, and what they go through: the same for each way to build them.

A message is taken from a durable quorum queue, read, written anew and published persistently to the next one; when the
broker has confirmed that, the first is acknowledged. What has made all five hops lies in ``done``.
"""

import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

from pydantic import BaseModel

HOPS: Final = 5
QUEUES: Final = tuple(f"hop.{number}" for number in range(1, HOPS + 1))
DONE: Final = "done"
NEXT: Final = dict(zip(QUEUES, (*QUEUES[1:], DONE), strict=True))
PREFETCH: Final = 100  # of each queue
IN_FLIGHT: Final = 500  # that feeders publish before they wait for confirms
READY: Final = "ready"


class Body(BaseModel):
    """About as much as an accepted request says."""

    id: str
    tenant: str = "acme"
    priority: str = "interactive"
    prompt: str = "Summarise for a colleague in three sentences what the board decided. " * 6
    model: str = "auto"
    max_output_tokens: int = 256
    metadata: dict[str, str] = {"team": "search", "experiment": "b"}
    accepted_at: str = "2026-01-01T00:00:00Z"


def body(number: int) -> dict[str, Any]:
    """The body of a message, as plain data."""
    return Body(id=f"00000000-0000-8000-8000-{number:012d}").model_dump()


def main(work: Callable[[str], object], feed: Callable[[str, int], object]) -> None:
    """``URL work``: make hops until killed; ``URL feed N``: put N messages on the first queue."""
    url, what, *count = sys.argv[1:]
    if what == "work":
        work(url)
    else:
        feed(url, int(count[0]))


async def in_batches(count: int, publish: Callable[[range], Awaitable[object]]) -> None:
    """Publish so many, a batch at a time."""
    for start in range(0, count, IN_FLIGHT):
        await publish(range(start, min(start + IN_FLIGHT, count)))


def ready() -> None:
    """Tell the bench that messages are taken from now on."""
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()

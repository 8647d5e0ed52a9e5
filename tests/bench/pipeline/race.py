"""One way to make the hops, measured: a worker and a feeder in processes of their own, results counted here."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

import aio_pika
import psutil

from tests.bench.cpu import cpu_s
from tests.bench.pipeline import hops
from tests.bench.pipeline.paths import environment
from tests.bench.surge_designs import Place

WAYS: Final = ("forebay", "faststream", "taskiq", "celery")
DONE_WITHIN_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Lap:
    """What one way took for some messages.

    Attributes:
        per_s: messages a second through all hops, by the clock.
        worker_us, broker_us: CPU microseconds a message.
        rss_mb: resident memory of the worker at the end.
    """

    per_s: float
    worker_us: float
    broker_us: float
    rss_mb: float

    @property
    def per_core_s(self) -> float:
        """Messages that one second of one core does, the broker's work included."""
        return 1e6 / (self.worker_us + self.broker_us)


async def lap(place: Place, way: str, count: int) -> Lap:
    """Let a way make the hops for so many messages.

    Raises:
        TimeoutError: it did not come to the end.
    """
    at, env = place.stack, environment(place)
    broker = psutil.Process(at.infrastructure["rabbitmq"].pid)
    await _clear(at.amqp_url)
    with _worker(way, at.amqp_url, env) as worker:
        async with _counting(at.amqp_url) as done:
            await asyncio.sleep(1.0)  # what it still does when it says that it is ready is not about messages
            before, began = (cpu_s([worker]), cpu_s([broker])), time.perf_counter()
            feeding = await asyncio.create_subprocess_exec(*_command(way), at.amqp_url, "feed", str(count), env=env)
            async with asyncio.timeout(DONE_WITHIN_S):
                for _ in range(count):
                    await done.get()
            took = time.perf_counter() - began
            worker_s, broker_s = cpu_s([worker]) - before[0], cpu_s([broker]) - before[1]
            rss = worker.memory_info().rss
            if await feeding.wait():
                raise RuntimeError(f"{way} could not be fed")
    return Lap(count / took, 1e6 * worker_s / count, 1e6 * broker_s / count, rss / 2**20)


def _command(way: str) -> list[str]:
    return [sys.executable, "-m", f"tests.bench.pipeline.by_{way}"]


@contextmanager
def _worker(way: str, url: str, env: Mapping[str, str]) -> Iterator[psutil.Popen]:
    process = psutil.Popen([*_command(way), url, "work"], stdout=subprocess.PIPE, text=True, env=env)
    try:
        for line in process.stdout:
            if line.strip() == hops.READY:
                break
        else:
            raise RuntimeError(f"{way} did not start")
        yield process
    finally:
        process.kill()
        process.wait()


async def _clear(url: str) -> None:
    """Each way declares the queues as it does."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        for name in (*hops.QUEUES, hops.DONE):
            await channel.queue_delete(name)


@asynccontextmanager
async def _counting(url: str) -> AsyncIterator["asyncio.Queue[None]"]:
    """What has made all hops, as it comes."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(hops.DONE, ensure=False)
        done: asyncio.Queue[None] = asyncio.Queue()
        await queue.consume(lambda _: _counted(done), no_ack=True)
        yield done


async def _counted(done: "asyncio.Queue[None]") -> None:
    done.put_nowait(None)

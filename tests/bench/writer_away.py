"""What a writer holds in memory while PostgreSQL is away: ``make bench-writer-away``.

RabbitMQ, PostgreSQL and one persistence run as they do in a stack. Requests and their answers are published at an even
rate; PostgreSQL is stopped for a minute and started again. Memory is the resident set of persistence. Twice: with
answers of the usual length, and with very long ones.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg
import psutil

from infra.local import stack as local
from infra.local.stack import Stack
from shared import database, envelope, topology
from shared.clock import SYSTEM_CLOCK
from shared.rabbitmq import RabbitBroker
from tests.bench.report import Measure, report
from tests.bench.traffic import traffic

TIERS: Final = ("light", "premium")
WARM_S: Final = 10
PUBLISHED_EVERY_S: Final = 0.25
WRITTEN_WITHIN_S: Final = 600
MB: Final = 1e6


@dataclass(frozen=True, slots=True)
class Load:
    """What is published."""

    name: str
    requests_per_s: int
    answer_chars: int


LOADS: Final = (Load("answers of 300 characters", 100, 300), Load("answers of 200,000", 8, 200_000))


class Persistence:
    """The process that writes, seen from outside."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.most = 0.0

    def rss(self) -> float:
        """Megabytes in memory now; the most there ever were is kept."""
        now = self._process.memory_info().rss / MB
        self.most = max(self.most, now)
        return now


async def publish(broker: RabbitBroker, load: Load, seconds: float, persistence: Persistence) -> int:
    """Publish so long at an even rate; returns the number of requests."""
    began, sent = time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        due = int(load.requests_per_s * passed) - sent
        events = list(traffic(due, answer_chars=load.answer_chars))
        await broker.publish(envelope.encode_all(events, source="bench", now=SYSTEM_CLOCK.now()))
        sent += due
        persistence.rss()
        await asyncio.sleep(PUBLISHED_EVERY_S)
    return sent


async def written(dsn: str, requests: int, persistence: Persistence) -> tuple[int, float]:
    """Wait until so many requests and responses are there; how many there are, and after how many seconds."""
    began, least = time.monotonic(), 0
    connection = await asyncpg.connect(dsn)
    try:
        while (passed := time.monotonic() - began) < WRITTEN_WITHIN_S:
            persistence.rss()
            least = await connection.fetchval(
                "SELECT least((SELECT count(*) FROM requests), (SELECT count(*) FROM responses))"
            )
            if least >= requests:
                break
            await asyncio.sleep(PUBLISHED_EVERY_S)
        return least, passed
    finally:
        await connection.close()


@asynccontextmanager
async def connected(stack: Stack) -> AsyncIterator[RabbitBroker]:
    async with RabbitBroker(stack.amqp_url, name="bench", topology=topology.topology(TIERS)) as broker:
        await broker.wait_connected()
        yield broker


async def outage(stack: Stack, home: Path, load: Load, away_s: float) -> list[Measure]:
    """Warm up, take PostgreSQL away, bring it back, wait until all is written."""
    persistence = Persistence(stack.services["persistence"].pid or 0)
    async with connected(stack) as broker:
        sent = await publish(broker, load, WARM_S, persistence)
        await written(stack.postgres_dsn, sent, persistence)
        before = persistence.rss()
        await asyncio.to_thread(local.stop_program, home, "postgres")
        sent += await publish(broker, load, away_s, persistence)
        backlog = await broker.waiting(topology.RECORDS)
        during = persistence.most
        await asyncio.to_thread(local.start_program, home, "postgres")
        rows, seconds = await written(stack.postgres_dsn, sent, persistence)
    told = f"{load.name}, {load.requests_per_s} requests/s"
    return [
        Measure(f"{told}: before", before, "MB"),
        Measure(f"{told}: most, PostgreSQL away for {away_s:g} s", during, "MB", "<= 512"),
        Measure(f"{told}: most, while the backlog is written", persistence.most, "MB", "<= 512"),
        Measure(f"{told}: events left to the broker", backlog, "events"),
        Measure(f"{told}: all written after", seconds, "s"),
        Measure(f"{told}: requests lost", sent - rows, "requests", "0"),
    ]


def run(away_s: float) -> None:
    measures: list[Measure] = []
    for load in LOADS:
        with tempfile.TemporaryDirectory(prefix="forebay-bench-") as place:
            home = Path(place) / "stack"
            stack = local.up(
                home,
                say=lambda _: None,
                services=("persistence",),
                infrastructure=("rabbitmq", "postgres"),
                migrate=database.migrate,
            )
            try:
                measures += asyncio.run(outage(stack, home, load, away_s))
            finally:
                local.down(home, lambda _: None)
    report("writer_away", measures, "Resident memory of persistence while PostgreSQL is away")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--away", type=float, default=60.0, help="seconds")
    run(parser.parse_args().away)


if __name__ == "__main__":
    main()

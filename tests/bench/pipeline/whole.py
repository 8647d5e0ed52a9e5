"""The whole path, from a confirmed submission to the row of its answer, with a provider that answers at once."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import asyncpg
import psutil

from tests.bench import surge_designs as designs
from tests.bench.cpu import cpu_s
from tests.bench.pipeline import hops, load, work
from tests.bench.pipeline.paths import environment

FINISHED_WITHIN_S: Final = 180.0
LOOK_S: Final = 0.1
KNOWN: Final = 20  # prompts that have their answers in the cache
CALM_PER_S: Final = 10.0  # submissions, where the time of each is measured


@dataclass(frozen=True, slots=True)
class Built:
    """A way to build the path.

    Attributes:
        start: runs it while a block lasts; is given its database and its virtual host.
        table: statements: one to make tables, where the way itself has none; how many answers there are, and the
            seconds that the last so many of them took, sorted.
    """

    form: str
    start: Callable[[designs.Place, str, str], AbstractContextManager[Sequence[psutil.Process]]]
    tables: str
    count: str
    times: str


@dataclass(frozen=True, slots=True)
class Run:
    """What some requests took.

    Attributes:
        per_s: requests a second, by the clock.
        us: CPU microseconds a request, by whose they were.
        p50_ms, p99_ms: from acceptance to the answer, at a calm rate.
    """

    per_s: float
    us: Mapping[str, float]
    p50_ms: float
    p99_ms: float

    @property
    def per_core_s(self) -> float:
        """Requests that one second of one core does, the broker's and the database's work included."""
        return 1e6 / sum(self.us.values())


@contextmanager
def _forebay(place: designs.Place, dsn: str, amqp_url: str) -> Iterator[Sequence[psutil.Process]]:
    with designs.forebay(place, dsn, amqp_url, told={}) as running:
        yield running.processes


@contextmanager
def _framework(place: designs.Place, dsn: str, amqp_url: str, *, module: str) -> Iterator[Sequence[psutil.Process]]:
    env = {**environment(place), work.DSN: dsn, work.PROVIDER: place.provider.url}
    command = [sys.executable, "-m", f"tests.bench.pipeline.{module}", amqp_url]
    process = psutil.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    try:
        if not any(line.strip() == hops.READY for line in process.stdout):
            raise RuntimeError(f"{module} did not start")
        yield [process]
    finally:
        process.kill()
        process.wait()


BUILT: Final[Mapping[str, Built]] = {
    "forebay": Built(
        "forebay",
        _forebay,
        tables="",
        count="SELECT count(*) FROM responses",
        times="""SELECT extract(epoch FROM completed_at - accepted_at)::float8 AS s
                 FROM responses JOIN requests USING (id) ORDER BY completed_at DESC LIMIT $1""",
    ),
    **{
        name: Built(
            name,
            partial(_framework, module=f"whole_{name}"),
            tables=work.TABLES,
            count="SELECT count(*) FROM answers",
            times="SELECT extract(epoch FROM at - sent_at)::float8 AS s FROM answers ORDER BY at DESC LIMIT $1",
        )
        for name in ("faststream", "celery")
    },
}


class Path:
    """A path that runs, and what it is given."""

    def __init__(
        self, place: designs.Place, built: Built, amqp_url: str, own: Sequence[psutil.Process], rows: asyncpg.Connection
    ) -> None:
        self._place = place
        self._built = built
        self._url = amqp_url
        self._rows = rows
        infrastructure = place.stack.infrastructure
        self._watched = {
            "services": own,
            "broker": [psutil.Process(infrastructure["rabbitmq"].pid)],
            "database": [psutil.Process(infrastructure["postgres"].pid)],
        }

    async def run(self, prompts: Sequence[str], calm: Sequence[str]) -> Run:
        """Give it some prompts as fast as it goes, then some at a calm rate."""
        before, began = {name: cpu_s(those) for name, those in self._watched.items()}, time.perf_counter()
        await self.answer(prompts)
        took = time.perf_counter() - began
        us = {name: 1e6 * (cpu_s(those) - before[name]) / len(prompts) for name, those in self._watched.items()}
        await self.answer(calm, per_s=CALM_PER_S)
        times = sorted(row["s"] for row in await self._rows.fetch(self._built.times, len(calm)))
        return Run(len(prompts) / took, us, *(1000 * times[int(share * len(times))] for share in (0.5, 0.99)))

    async def answer(self, prompts: Sequence[str], *, per_s: float = 0.0) -> None:
        """Return when each has the row of its answer."""
        wanted = len(prompts) + await self._rows.fetchval(self._built.count)
        await _submitted(load.Load(self._built.form, self._url, prompts, per_s), self._place)  # type: ignore[arg-type]
        async with asyncio.timeout(FINISHED_WITHIN_S):
            while await self._rows.fetchval(self._built.count) < wanted:
                await asyncio.sleep(LOOK_S)


async def measured(place: designs.Place, name: str, dsn: str, amqp_url: str, requests: int) -> Mapping[str, Run]:
    """The hits and the misses of one way."""
    built = BUILT[name]
    rows = await asyncpg.connect(dsn)
    try:
        if built.tables:
            await rows.execute(built.tables)
        with built.start(place, dsn, amqp_url) as own:
            path = Path(place, built, amqp_url, own, rows)
            calm = int(10 * CALM_PER_S)
            known, new = load.prompts(KNOWN, "known"), load.prompts(requests + calm + KNOWN, "new")
            await path.answer([*known, *new[-KNOWN:]])
            hits = await path.run([known[n % KNOWN] for n in range(requests)], [known[n % KNOWN] for n in range(calm)])
            misses = await path.run(new[:requests], new[requests : requests + calm])
            return {"hit": hits, "miss": misses}
    finally:
        await rows.close()


async def _submitted(what: load.Load, place: designs.Place) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.pipeline.load", stdin=subprocess.PIPE, env=environment(place)
    )
    await process.communicate(load.told(what))
    if process.returncode:
        raise RuntimeError("the load has failed")

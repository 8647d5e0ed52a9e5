"""How fast the writer is, and what it asks of PostgreSQL: ``make bench-writer``.

Accepted requests and their answers, half of each, into the real tables with all their indexes, with fsync. The writer
is measured from events to the end of its transaction; other ways of inserting the same rows begin with the rows at
hand, so the last of them, the writer's own statements alone, is what it could reach. They take turns in each round.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import psutil

from services.persistence.rows import REQUESTS, RESPONSES, Row, Table, columns, record
from services.persistence.writer import SQL, Writer
from shared import database
from shared.clock import SYSTEM_CLOCK
from shared.events import Event
from shared.topology import RECORDS, entries
from tests.bench.entries import running
from tests.bench.report import Measure, report
from tests.bench.traffic import traffic
from tests.support import make

if TYPE_CHECKING:
    from shared.database import Connection, Pool

SIZES: Final = (100, 500, 2000)
ROUNDS: Final = 7
ROWS: Final = 6000  # of each way, in each round
SINGLES: Final = 200  # each waits for the disk
GOALS: Final = {500: (">= 80000", "<= 920")}
COLUMNS: Final[Mapping[Table, str]] = {
    REQUESTS: "id, tenant, priority, digest, accepted_at, body, replay",
    RESPONSES: "id, tenant, status, source, tier, code, cost_usd, saved_usd, completed_at, body, answer_of, replay",
}

Insert = Callable[["Connection", Table, Sequence[Row]], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Round:
    """What one way took for the rows of a round.

    Attributes:
        client_us, server_us: CPU microseconds a row, of this process and of PostgreSQL's.
        wal: bytes of write-ahead log a row.
    """

    rows_per_s: float
    client_us: float
    server_us: float
    wal: float


class Meter:
    """Measures a way on one connection pool."""

    def __init__(self, pool: "Pool", postmaster: int) -> None:
        self._pool = pool
        self._postmaster = psutil.Process(postmaster)

    async def measure(self, rows: int, work: Callable[[], Awaitable[None]]) -> Round:
        lsn = await self._pool.fetchval("SELECT pg_current_wal_lsn()")
        server, client, began = self._server_s(), time.process_time(), time.perf_counter()
        await work()
        took = time.perf_counter() - began
        client, server = time.process_time() - client, self._server_s() - server
        wal = await self._pool.fetchval("SELECT pg_current_wal_lsn() - $1::pg_lsn", lsn)
        return Round(rows / took, 1e6 * client / rows, 1e6 * server / rows, float(wal) / rows)

    def _server_s(self) -> float:
        times = [process.cpu_times() for process in self._postmaster.children(recursive=True)]
        return sum(each.user + each.system for each in times)


async def singles(connection: "Connection", table: Table, rows: Sequence[Row]) -> None:
    """A statement and a transaction for each row."""
    for row in rows:
        await connection.execute(_values(table), *row)


async def many(connection: "Connection", table: Table, rows: Sequence[Row]) -> None:
    await connection.executemany(_values(table), rows)


async def copied(connection: "Connection", table: Table, rows: Sequence[Row]) -> None:
    """By way of a temporary table."""
    staging, names = f"staging_{table.name}", COLUMNS[table]
    await connection.execute(
        f"CREATE TEMP TABLE IF NOT EXISTS {staging} (LIKE {table.name} INCLUDING DEFAULTS) ON COMMIT DELETE ROWS"
    )
    await connection.copy_records_to_table(staging, records=rows, columns=names.split(", "))
    await connection.execute(
        f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {staging} ON CONFLICT (id) DO NOTHING"
    )


async def unnested(connection: "Connection", table: Table, rows: Sequence[Row]) -> None:
    """The writer's own statement."""
    await connection.fetch(SQL[table.name], *columns(rows))


def _values(table: Table) -> str:
    names = COLUMNS[table]
    places = ", ".join(f"${number}" for number in range(1, names.count(",") + 2))
    return f"INSERT INTO {table.name} ({names}) VALUES ({places}) ON CONFLICT (id) DO NOTHING"


def _batches(events: Sequence[Event], size: int) -> Iterator[Sequence[Event]]:
    return (events[start : start + size] for start in range(0, len(events), size))


def _rows(events: Sequence[Event]) -> Mapping[Table, list[Row]]:
    """The rows of some events by table, sorted."""
    found = [made for event in events if (made := record(event)) is not None]
    tables = {table: [each.row for each in found if each.table is table] for table in (REQUESTS, RESPONSES)}
    return {table: sorted(rows, key=table.key) for table, rows in tables.items()}


class Ways:
    """All ways to write the events of a round, in batches of a size."""

    def __init__(self, pool: "Pool", writer: Writer) -> None:
        self._pool = pool
        self._writer = writer

    async def writer(self, events: Sequence[Event], size: int) -> Callable[[], Awaitable[None]]:
        batches = [[(RECORDS, event) for event in batch] for batch in _batches(events, size)]

        async def work() -> None:
            for batch in batches:
                await self._writer.write(batch)

        return work

    def inserting(self, insert: Insert, events: Sequence[Event], size: int) -> Callable[[], Awaitable[None]]:
        batches = [_rows(batch) for batch in _batches(events, size)]

        async def work() -> None:
            async with self._pool.acquire() as connection:
                for tables in batches:
                    async with connection.transaction():
                        for table, rows in tables.items():
                            await insert(connection, table, rows)

        return work

    def singles(self, events: Sequence[Event]) -> Callable[[], Awaitable[None]]:
        tables = _rows(events)

        async def work() -> None:
            async with self._pool.acquire() as connection:
                for table, rows in tables.items():
                    await singles(connection, table, rows)

        return work


INSERTS: Final[Mapping[str, Insert]] = {
    "executemany … ON CONFLICT": many,
    "COPY, INSERT … ON CONFLICT": copied,
    "UNNEST, rows at hand": unnested,
}
SINGLE: Final = "INSERT, row by row"
WRITER: Final = "writer, from events"


async def rounds(ways: Ways, meter: Meter, size: int) -> Mapping[str, Sequence[Round]]:
    """Every way in turn, so often."""
    found: dict[str, list[Round]] = {name: [] for name in (WRITER, *INSERTS, SINGLE)}
    for _ in range(ROUNDS):
        found[WRITER].append(await meter.measure(ROWS, await ways.writer(list(traffic(ROWS // 2)), size)))
        for name, insert in INSERTS.items():
            work = ways.inserting(insert, list(traffic(ROWS // 2)), size)
            found[name].append(await meter.measure(ROWS, work))
        if size == SIZES[0]:
            found[SINGLE].append(await meter.measure(SINGLES, ways.singles(list(traffic(SINGLES // 2)))))
    return found


def told(size: int, found: Mapping[str, Sequence[Round]]) -> list[Measure]:
    """The medians of the rounds, and the best rate: on a shared machine the others measure their neighbours."""
    speed, log = GOALS.get(size, ("", ""))
    limit = "UNNEST, rows at hand"
    best = {name: max(each.rows_per_s for each in rounds) for name, rounds in found.items() if rounds}
    measures = [
        Measure(f"{size}: {WRITER}, best", best[WRITER], "rows/s", speed, best[limit], limit),
        *(
            Measure(f"{size}: {name}", median(r.rows_per_s for r in rounds), "rows/s")
            for name, rounds in found.items()
            if rounds
        ),
    ]
    for name in (WRITER, *INSERTS):
        rounds = found[name]
        measures += [
            Measure(f"{size}: {name}, this process", median(r.client_us for r in rounds), "CPU µs/row"),
            Measure(f"{size}: {name}, PostgreSQL", median(r.server_us for r in rounds), "CPU µs/row"),
        ]
    wal = {name: median(r.wal for r in found[name]) for name in (WRITER, *INSERTS)}
    measures.append(Measure(f"{size}: {WRITER}, log", wal[WRITER], "bytes/row", log, wal[limit], limit))
    return measures


def bodies() -> str:
    """The sizes of the two bodies, in bytes of JSON."""
    tables = _rows(list(traffic(1)))
    return f"{len(tables[REQUESTS][0][5])} and {len(tables[RESPONSES][0][9])} bytes of JSON"


async def run() -> None:
    measures: list[Measure] = []
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as place, running(Path(place) / "stack") as stack:
        async with database.vector_pool(stack.postgres_dsn, size=1) as pool:
            writer = Writer(pool, SYSTEM_CLOCK, make.policy(), entries=entries(("light", "premium")))
            await writer.write([])  # the housekeeping of the minute
            await pool.execute("CHECKPOINT")
            meter = Meter(pool, stack.infrastructure["postgres"].pid or 0)
            ways = Ways(pool, writer)
            await rounds_of_warming(ways)
            for size in SIZES:
                measures += told(size, await rounds(ways, meter, size))
    report("writer", measures, f"The writer: requests and responses, half of each, bodies of {bodies()}")


async def rounds_of_warming(ways: Ways) -> None:
    """Statements are prepared, and the tables have pages."""
    await (await ways.writer(list(traffic(ROWS // 2)), SIZES[0]))()
    for insert in INSERTS.values():
        await ways.inserting(insert, list(traffic(SIZES[0])), SIZES[0])()


if __name__ == "__main__":
    asyncio.run(run())

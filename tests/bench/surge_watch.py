"""What a surge does to PostgreSQL and to the machine, sampled from outside while a design runs."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
import psutil

EVERY_S: Final = 0.25
PROCESSES_EVERY_S: Final = 1.0
# A transaction gets an id when it writes, and never before: the next id to be given counts transactions that wrote, and
# no reading one, ours included. Connections are those of clients; our own is to another database.
LOOK: Final = """
SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS written,
       (SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend') AS connections
"""


@dataclass(frozen=True, slots=True)
class Used:
    """What some processes have used: seconds of CPU so far, bytes in memory now."""

    cpu_s: float
    rss: int


@dataclass(slots=True)
class Seen:
    """What was seen; times in seconds after the beginning.

    Attributes:
        written: transactions that wrote, since the first look.
        connections: of the design's database.
        used: by group of processes.
    """

    database: list[tuple[float, int, int]] = field(default_factory=list)
    used: list[tuple[float, Mapping[str, Used]]] = field(default_factory=list)

    def written_until(self, at_s: float) -> int:
        """Transactions that wrote, from the first look until a time."""
        return max((written for seen_s, written, _ in self.database if seen_s <= at_s), default=0)

    def writes_per_s(self, from_s: float, to_s: float) -> float:
        """Transactions that wrote, in a second, the mean over some time."""
        return (self.written_until(to_s) - self.written_until(from_s)) / (to_s - from_s)

    def most_writes_per_s(self, from_s: float, to_s: float) -> float:
        """The same over the worst second."""
        steps = int((to_s - from_s - 1) / EVERY_S)
        starts = (from_s + step * EVERY_S for step in range(steps + 1))
        return max((self.writes_per_s(start, start + 1) for start in starts), default=0.0)

    @property
    def most_connections(self) -> int:
        """The most at any look."""
        return max((connections for _, _, connections in self.database), default=0)

    def cpu_s(self, group: str) -> float:
        """Seconds of CPU of a group, from the first look to the last."""
        return self.used[-1][1][group].cpu_s - self.used[0][1][group].cpu_s

    def most_rss(self, group: str) -> int:
        """Bytes of a group in memory, at the most."""
        return max(used[group].rss for _, used in self.used)


@asynccontextmanager
async def watching(
    dsn: str, database: str, groups: Mapping[str, Sequence[psutil.Process]], begin_s: float
) -> AsyncIterator[Seen]:
    """Look again and again while the block runs.

    Args:
        dsn: of another database of the same PostgreSQL.
        database: whose connections count.
        groups: processes by name of the group; their children count with them.
        begin_s: of the load, by the monotonic clock.
    """
    seen = Seen()
    connection = await asyncpg.connect(dsn)
    tasks = [
        asyncio.create_task(_look(seen, connection, database, begin_s)),
        asyncio.create_task(_measure(seen, groups, begin_s)),
    ]
    try:
        yield seen
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        await connection.close()
        if failures := [end for end in ends if isinstance(end, Exception)]:
            raise failures[0]


async def _look(seen: Seen, connection: Any, database: str, begin_s: float) -> None:
    first: int | None = None
    while True:
        row = await connection.fetchrow(LOOK, database)
        first = row["written"] if first is None else first
        seen.database.append((time.monotonic() - begin_s, row["written"] - first, row["connections"]))
        await asyncio.sleep(EVERY_S)


async def _measure(seen: Seen, groups: Mapping[str, Sequence[psutil.Process]], begin_s: float) -> None:
    while True:
        used = {name: _used(processes) for name, processes in groups.items()}
        seen.used.append((time.monotonic() - begin_s, used))
        await asyncio.sleep(PROCESSES_EVERY_S)


def _used(processes: Sequence[psutil.Process]) -> Used:
    everybody = [each for one in processes for each in (one, *one.children(recursive=True))]
    cpu_s, rss = 0.0, 0
    for each in everybody:
        try:
            times, memory = each.cpu_times(), each.memory_info()
        except psutil.NoSuchProcess:
            continue  # between the two looks it has ended; what it used its parent has
        cpu_s += times.user + times.system + times.children_user + times.children_system
        rss += memory.rss
    return Used(cpu_s, rss)

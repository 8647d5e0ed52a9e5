"""The writer: everything of a tick in one transaction, and nothing twice.

Rows are inserted in the order of their keys (two writers with overlapping duplicates would deadlock otherwise), and a
row that is there already is left alone, so that a redelivery changes nothing. A row that PostgreSQL refuses is found by
halving the batch within the same transaction; its neighbours are written.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from services.persistence.rows import CACHE_ENTRIES, TABLES, Row, Table, cache_entry, columns, record
from shared import database
from shared.clock import Clock
from shared.consumer import Again, Dead, Done, Outcome
from shared.database import DatabaseUnavailable
from shared.events import Event
from shared.telemetry import metrics
from shared.topology import Queue

if TYPE_CHECKING:
    from shared.database import Connection, Pool

log = structlog.stdlib.get_logger(__name__)
SQL: Final = database.statements(Path(__file__).with_name("writer.sql"))
# What is wrong with a row, and will stay so.
REFUSED: Final = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)
UNSTORABLE: Final = "unstorable"
PARTITIONS_EVERY_S: Final = 60.0

Item = tuple[int, Row]  # a row, and the place of its event in the batch


class Writer:
    """Writes batches of events."""

    def __init__(self, pool: "Pool", clock: Clock, *, entries: Queue) -> None:
        """``entries`` is the queue whose events become cache entries; those of all others become records."""
        self._pool = pool
        self._clock = clock
        self._entries = entries
        self._partitioned: float | None = None

    async def write(self, batch: Sequence[tuple[Queue, Event]]) -> Sequence[Outcome]:
        """Write what a tick has brought, in one transaction; an outcome for each event.

        Raises:
            DatabaseUnavailable: nothing was written.
        """
        items: dict[Table, list[Item]] = {table: [] for table in TABLES}
        refused: dict[int, Outcome] = {}
        for place, (queue, event) in enumerate(batch):
            try:
                found = cache_entry(event) if queue == self._entries else record(event)
            except Exception as error:
                log.exception("an event makes no row", type=event.TYPE)
                refused[place] = Dead(UNSTORABLE, repr(error))
                continue
            if found is not None:
                items[found[0]].append((place, found[1]))
        await self._transaction(items, refused)
        return [refused.get(place, Done()) for place in range(len(batch))]

    async def _transaction(self, items: dict[Table, list[Item]], refused: dict[int, Outcome]) -> None:
        written: dict[Table, int] = {}
        try:
            with metrics.TICK_SECONDS.time():
                async with self._pool.acquire() as connection, connection.transaction():
                    partitioned = await self._partitions(connection)
                    for table, rows in items.items():
                        if rows:
                            kept = _without_repeats(table, rows)
                            written[table] = await _insert(connection, table, kept, refused)
                            refused |= _twins_of_refused(table, rows, refused)
                    # As many go as can come: the table does not grow by what is dead.
                    await connection.execute(SQL["expire"], self._clock.now(), 2 * len(items[CACHE_ENTRIES]) + 1)
        except database.AWAY as error:
            raise DatabaseUnavailable(f"PostgreSQL is away: {error!r}") from error
        self._partitioned = partitioned
        metrics.TICKS.inc()
        metrics.POISON.inc(sum(isinstance(outcome, Dead) for outcome in refused.values()))
        for table, count in written.items():
            metrics.ROWS.labels(table.name).inc(count)

    async def _partitions(self, connection: "Connection") -> float:
        """Make the partitions of the coming days: before the first row that needs one, then once a minute.

        Returns when that was, in seconds on the monotonic clock; it counts once the transaction is committed.
        """
        now = self._clock.monotonic()
        if self._partitioned is not None and now - self._partitioned < PARTITIONS_EVERY_S:
            return self._partitioned
        await connection.execute(SQL["partitions"])
        return now


def _without_repeats(table: Table, items: Sequence[Item]) -> list[Item]:
    """Sorted by key; of rows with the same key the one that would win if they came apart."""
    kept: dict[tuple[object, ...], Item] = {}
    for item in reversed(items) if table.newest_wins else items:
        kept.setdefault(table.key(item[1]), item)
    return sorted(kept.values(), key=lambda item: table.key(item[1]))


def _twins_of_refused(table: Table, items: Sequence[Item], refused: Mapping[int, Outcome]) -> dict[int, Outcome]:
    """Rows that were left out for one with the same key that was refused: they come again, alone."""
    keys = {table.key(row) for place, row in items if isinstance(refused.get(place), Dead)}
    return {
        place: Again(LookupError("the row it repeats was refused"))
        for place, row in items
        if place not in refused and table.key(row) in keys
    }


async def _insert(connection: "Connection", table: Table, items: Sequence[Item], refused: dict[int, Outcome]) -> int:
    """Insert rows; those that are refused are named in ``refused``. Returns how many were new."""
    try:
        async with connection.transaction():  # a savepoint
            new = await connection.fetch(SQL[table.name], *columns([row for _, row in items]))
    except REFUSED as error:
        if len(items) == 1:
            place, _ = items[0]
            log.warning("a row was refused", table=table.name, error=str(error))
            refused[place] = Dead(UNSTORABLE, f"{table.name}: {error}")
            return 0
        half = len(items) // 2
        return await _insert(connection, table, items[:half], refused) + await _insert(
            connection, table, items[half:], refused
        )
    return len(new)

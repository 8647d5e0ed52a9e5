"""The writer: everything of a tick in one transaction, and nothing twice.

Rows are inserted in the order of their keys (two writers with overlapping duplicates would deadlock otherwise), and a
row that is there already is left alone, so that a redelivery changes nothing and counts nothing; only the result of a
replay takes the place of the failure before it. A row that PostgreSQL refuses is found by halving the batch within the
same transaction; its neighbours are written.

Two writers wait for each other's rows in the order of :data:`services.persistence.rows.TABLES`, then of ``cache_uses``;
what comes after that waits for nobody. Results and drops lock the same rows, so both go in one pass in the order of
their keys: one writer with the result of 5 and a drop of 3, and one with the reverse, would wait for each other.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

import asyncpg
import structlog

from services.persistence import forgetting
from services.persistence.housekeeping import Housekeeping
from services.persistence.rows import (
    CACHE_ENTRIES,
    CACHE_INVALIDATIONS,
    TABLES,
    Record,
    Row,
    Table,
    Use,
    cache_entry,
    columns,
    record,
    summed,
)
from shared import database
from shared.clock import Clock
from shared.consumer import Again, Dead, Done, Outcome
from shared.database import DatabaseUnavailable
from shared.events import Event
from shared.policy import Policy
from shared.telemetry import metrics
from shared.topology import Queue

if TYPE_CHECKING:
    from shared.database import Connection, Pool

log = structlog.stdlib.get_logger(__name__)
SQL: Final = database.statements(Path(__file__).with_name("writer.sql"))
# What is wrong with a row, and will stay so.
REFUSED: Final = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)
UNSTORABLE: Final = "unstorable"

Item = tuple[int, Record]  # what an event leaves, and the event's place in the batch
New = tuple[Record, Row]  # what was new, and what the statement that inserted it says of it


class Writer:
    """Writes batches of events."""

    def __init__(self, pool: "Pool", clock: Clock, policy: Policy, *, entries: Queue) -> None:
        """``entries`` is the queue whose events become cache entries; those of all others become records."""
        self._pool = pool
        self._policy = policy
        self._entries = entries
        self._housekeeping = Housekeeping(clock, policy.cache.bounds, dimensions=policy.cache.embedder.length)

    async def write(self, batch: Sequence[tuple[Queue, Event]]) -> Sequence[Outcome]:
        """Write what a tick has brought, in one transaction; an outcome for each event.

        Raises:
            DatabaseUnavailable: nothing was written.
        """
        items: dict[Table, list[Item]] = {table: [] for table in TABLES}
        refused: dict[int, Outcome] = {}
        for place, (queue, event) in enumerate(batch):
            try:
                found = cache_entry(event, self._policy) if queue == self._entries else record(event)
            except Exception as error:
                log.exception("an event makes no row", type=event.TYPE)
                refused[place] = Dead(UNSTORABLE, repr(error))
                continue
            if found is not None:
                items[found.table].append((place, found))
        await self._transaction({table: found for table, found in items.items() if found}, refused)
        return [refused.get(place, Done()) for place in range(len(batch))]

    async def _transaction(self, items: Mapping[Table, list[Item]], refused: dict[int, Outcome]) -> None:
        try:
            with metrics.TICK_SECONDS.time():
                async with self._pool.acquire() as connection, connection.transaction():
                    await forgetting.lock(connection, items)
                    await self._housekeeping.begin(connection)
                    new = await _records(connection, items, refused)
                    removed = await self._removed(connection, new)
        except database.AWAY as error:
            raise DatabaseUnavailable(f"PostgreSQL is away: {error!r}") from error
        self._housekeeping.committed()
        metrics.TICKS.inc()
        metrics.POISON.inc(sum(isinstance(outcome, Dead) for outcome in refused.values()))
        for table, rows in new.items():
            metrics.ROWS.labels(table.name).inc(len(rows))
        for reason, entry_ids in removed.items():
            metrics.REMOVED.labels(reason).inc(len(entry_ids))

    async def _removed(self, connection: "Connection", new: Mapping[Table, Sequence[New]]) -> dict[str, list[UUID]]:
        """Delete the entries that are to go, count for those that stay; the ids of those that went, by reason."""
        brought = [found.row for found, _ in new.get(CACHE_ENTRIES, ())]
        invalidated = await forgetting.forget(connection, [row for _, row in new.get(CACHE_INVALIDATIONS, ())])
        invalidated += await forgetting.turn_back(connection, brought)
        await _count(connection, [found.use for rows in new.values() for found, _ in rows if found.use])
        removed = {"invalidated": invalidated}
        removed |= await self._housekeeping.end(connection, brought=len(brought))
        await self._housekeeping.gone(connection, [entry_id for ids in removed.values() for entry_id in ids])
        return removed


async def _records(
    connection: "Connection", items: Mapping[Table, list[Item]], refused: dict[int, Outcome]
) -> dict[Table, list[New]]:
    """Insert what is to be recorded; what was new, by table."""
    new: dict[Table, list[New]] = {table: [] for table in items}
    for _, tables in groupby(items, lambda table: table.stored_in):
        for table, run in _runs({table: _without_repeats(table, items[table]) for table in tables}):
            new[table] += await _insert(connection, table, run, refused)
    for table, found in items.items():
        refused |= _twins_of_refused(table, found, refused)
    return new


def _runs(items: Mapping[Table, Sequence[Item]]) -> Iterator[tuple[Table, list[Item]]]:
    """Items of all tables in the order of their keys, then of the tables, in parts of one table each."""
    inline = [(table, item) for table, found in items.items() for item in found]
    inline.sort(key=lambda each: each[0].key(each[1][1].row))
    for table, run in groupby(inline, lambda each: each[0]):
        yield table, [item for _, item in run]


async def _count(connection: "Connection", uses: Sequence[Use]) -> None:
    if uses:
        await connection.fetch(SQL["cache_uses"], *columns(summed(uses)))


def _without_repeats(table: Table, items: Sequence[Item]) -> list[Item]:
    """Sorted by key; of rows with the same key the one that would win if they came apart."""
    kept: dict[tuple[object, ...], Item] = {}
    for item in items:
        row = item[1].row
        known = kept.setdefault(table.key(row), item)
        if table.rank(row) > table.rank(known[1].row):
            kept[table.key(row)] = item
    return sorted(kept.values(), key=lambda item: table.key(item[1].row))


def _twins_of_refused(table: Table, items: Sequence[Item], refused: Mapping[int, Outcome]) -> dict[int, Outcome]:
    """Rows that were left out for one with the same key that was refused: they come again, alone."""
    keys = {table.key(found.row) for place, found in items if isinstance(refused.get(place), Dead)}
    return {
        place: Again(LookupError("the row it repeats was refused"))
        for place, found in items
        if place not in refused and table.key(found.row) in keys
    }


async def _insert(
    connection: "Connection", table: Table, items: Sequence[Item], refused: dict[int, Outcome]
) -> list[New]:
    """Insert rows; those that are refused are named in ``refused``. Returns the new ones."""
    try:
        async with connection.transaction():  # a savepoint
            new = await connection.fetch(SQL[table.name], *columns([found.row for _, found in items]))
    except REFUSED as error:
        if len(items) == 1:
            place, _ = items[0]
            log.warning("a row was refused", table=table.name, error=str(error))
            refused[place] = Dead(UNSTORABLE, f"{table.name}: {error}")
            return []
        half = len(items) // 2
        return await _insert(connection, table, items[:half], refused) + await _insert(
            connection, table, items[half:], refused
        )
    records = {table.key(found.row): found for _, found in items}
    return [(records[table.key(tuple(row))], tuple(row)) for row in new]

"""The writer: everything of a tick in one transaction, and nothing twice.

Rows are inserted in the order of their keys (two writers with overlapping duplicates would deadlock otherwise), and a
row that is there already is left alone, so that a redelivery changes nothing and counts nothing; only the result of a
replay takes the place of the failure before it. Where PostgreSQL refuses a row the transaction begins anew, and the row
is found by halving the batch within it; its neighbours are written. Looking for one from the start would cost two round
trips for each table of every tick.

Two writers wait for each other's rows in the order of :data:`services.persistence.rows.TABLES`, then of ``cache_uses``;
what comes after that waits for nobody. Who would go through one table twice is alone: ``forgetting.lock``.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
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
# What passes: the server is away, its disk is full, or it has ended a transaction for another's sake.
AWAY: Final = (*database.AWAY, asyncpg.TransactionRollbackError)
UNSTORABLE: Final = "unstorable"

Item = tuple[int, Record]  # what an event leaves, and the event's place in the batch
New = tuple[Record, Row]  # what was new, and what the statement that inserted it says of it
Insert = Callable[["Connection", Table, Sequence[Item], dict[int, Outcome]], Awaitable[list[New]]]


@dataclass(frozen=True, slots=True)
class Tick:
    """What a transaction has done.

    Attributes:
        new: the rows that were not there before, by table.
        refused: the outcomes of what was not written, by place in the batch.
        removed: the ids of the cache entries that went, by reason.
    """

    new: Mapping[Table, Sequence[New]]
    refused: Mapping[int, Outcome]
    removed: Mapping[str, Sequence[UUID]]


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
            DatabaseUnavailable: nothing was written, or what was written will be found there when it is tried again.
        """
        items: dict[Table, list[Item]] = {table: [] for table in TABLES}
        unstorable: dict[int, Outcome] = {}
        for place, (queue, event) in enumerate(batch):
            try:
                found = cache_entry(event, self._policy) if queue == self._entries else record(event)
            except Exception as error:
                log.exception("an event makes no row", type=event.TYPE)
                unstorable[place] = Dead(UNSTORABLE, repr(error))
                continue
            if found is not None:
                items[found.table].append((place, found))
        outcomes = {**unstorable, **await self._written({table: found for table, found in items.items() if found})}
        metrics.POISON.inc(sum(isinstance(outcome, Dead) for outcome in outcomes.values()))
        return [outcomes.get(place, Done()) for place in range(len(batch))]

    async def _written(self, items: Mapping[Table, list[Item]]) -> Mapping[int, Outcome]:
        """Write rows; the outcomes of those that were refused, by place."""
        if not items and not self._housekeeping.due:
            return {}
        try:
            with metrics.TICK_SECONDS.time():
                async with self._pool.acquire() as connection:
                    try:
                        done = await self._transaction(connection, items, _insert)
                    except REFUSED:
                        done = await self._transaction(connection, items, _sift)
        except AWAY as error:
            raise DatabaseUnavailable(f"PostgreSQL does not take the batch now: {error!r}") from error
        self._housekeeping.committed()
        metrics.TICKS.inc()
        for table, rows in done.new.items():
            metrics.ROWS.labels(table.name).inc(len(rows))
        for reason, entry_ids in done.removed.items():
            metrics.REMOVED.labels(reason).inc(len(entry_ids))
        return done.refused

    async def _transaction(self, connection: "Connection", items: Mapping[Table, list[Item]], insert: Insert) -> Tick:
        refused: dict[int, Outcome] = {}
        async with connection.transaction():
            await forgetting.lock(connection, items)
            await self._housekeeping.begin(connection)
            new: dict[Table, list[New]] = {}
            for table, found in items.items():
                new[table] = await insert(connection, table, _without_repeats(table, found), refused)
                refused |= _twins_of_refused(table, found, refused)
            return Tick(new, refused, await self._removed(connection, new))

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


async def _count(connection: "Connection", uses: Sequence[Use]) -> None:
    if uses:
        await connection.fetch(SQL["cache_uses"], *columns(summed(uses)))


def _without_repeats(table: Table, items: Sequence[Item]) -> list[Item]:
    """Sorted by key; of rows with the same key the one that would win if they came apart."""
    kept: dict[Any, Item] = {}
    for item in items:
        row = item[1].row
        key = table.key(row)
        known = kept.get(key)
        if known is None or table.rank(row) > table.rank(known[1].row):
            kept[key] = item
    return [kept[key] for key in sorted(kept)]


def _twins_of_refused(table: Table, items: Sequence[Item], refused: Mapping[int, Outcome]) -> dict[int, Outcome]:
    """Rows that were left out for one with the same key that was refused: they come again, alone."""
    keys = {table.key(found.row) for place, found in items if isinstance(refused.get(place), Dead)}
    return {
        place: Again(LookupError("the row it repeats was refused"))
        for place, found in items
        if place not in refused and table.key(found.row) in keys
    }


async def _insert(connection: "Connection", table: Table, items: Sequence[Item], _: dict[int, Outcome]) -> list[New]:
    """Insert rows, all or none. Returns the new ones."""
    new = await connection.fetch(SQL[table.name], *columns([found.row for _, found in items]))
    records = {table.key(found.row): found for _, found in items}
    return [(records[table.key(row)], row) for row in map(tuple, new)]


async def _sift(
    connection: "Connection", table: Table, items: Sequence[Item], refused: dict[int, Outcome]
) -> list[New]:
    """Insert rows; those that are refused are named in ``refused``. Returns the new ones."""
    try:
        async with connection.transaction():  # a savepoint
            return await _insert(connection, table, items, refused)
    except REFUSED as error:
        if len(items) == 1:
            place, _ = items[0]
            log.warning("a row was refused", table=table.name, error=str(error))
            refused[place] = Dead(UNSTORABLE, f"{table.name}: {error}")
            return []
    half = len(items) // 2
    first = await _sift(connection, table, items[:half], refused)
    return first + await _sift(connection, table, items[half:], refused)

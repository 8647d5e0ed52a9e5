"""Forgetting: what an invalidation means is deleted, and does not come back.

An entry that was answered before an invalidation may be written after it: by another writer, or after hours in a
queue. So each invalidation is kept for a day, and who brings entries deletes those of them that one on record means.
That alone leaves a gap under READ COMMITTED: of two transactions under way at once, the one that forgets would not see
the entry, nor the one that brings it the invalidation, and both would commit. Hence the lock: transactions that bring
entries share it, one that forgets has it alone, and both hold it until they are committed. Whichever comes second takes
the lock after the other's commit, and its later statements, each with a snapshot of its own, see all the other did.

It is taken before anything else in the transaction, so that nobody who waits for it holds what another waits for; and
while an invalidation is carried out, no other writer has locks on entries that its deletions could meet.

Whoever takes failures off the list is alone for another reason: it goes through the keys of ``responses`` once more,
for the rows it drops, and two writers wait for each other's rows without end unless both go in one order.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

from services.persistence.rows import (
    CACHE_ENTRIES,
    CACHE_INVALIDATIONS,
    DROPPED,
    RESPONSES,
    STORED_AT,
    Row,
    Table,
    columns,
)
from shared import database

if TYPE_CHECKING:
    from shared.database import Connection

SQL: Final = database.statements(Path(__file__).with_name("forgetting.sql"))
# Deleting everything took 0.3 s for 100,000 entries; it must not be given up halfway, to be begun again for ever.
FORGET_WITHIN_S: Final = 300.0


async def lock(connection: "Connection", tables: Collection[Table]) -> None:
    """Take the lock that a transaction needs which is about to write to some tables."""
    if CACHE_INVALIDATIONS in tables or DROPPED in tables:
        await connection.execute(SQL["alone"])
    elif CACHE_ENTRIES in tables or RESPONSES in tables:
        await connection.execute(SQL["together"])


async def forget(connection: "Connection", invalidations: Sequence[Row]) -> list[UUID]:
    """Delete what new invalidations mean; returns the ids of the entries.

    ``invalidations`` begin with id, time and selector. Of several with one selector the latest includes the others.
    """
    if not invalidations:
        return []
    latest: dict[str, datetime] = {}
    for _, at, selector, *_ in invalidations:
        latest[selector] = max(at, latest.get(selector, at))
    await connection.execute(SQL["plan_each"])
    gone: list[UUID] = []
    for selector, at in latest.items():
        found = await connection.fetch(SQL["forget"], selector, at, timeout=FORGET_WITHIN_S)
        gone.extend(row["entry_id"] for row in found)
    return gone


async def turn_back(connection: "Connection", entries: Sequence[Row]) -> list[UUID]:
    """Delete what invalidations on record mean of the entries just brought; returns the ids of these."""
    if not entries:
        return []
    oldest = min(row[STORED_AT] for row in entries)
    if not await connection.fetchval(SQL["recent"], oldest):
        return []
    scopes, exacts = columns([row[:2] for row in entries])
    found = await connection.fetch(SQL["turn_back"], scopes, exacts, oldest, timeout=FORGET_WITHIN_S)
    return [row["entry_id"] for row in found]

"""Housekeeping: partitions for the coming days, and an end for cache entries and what was counted about them.

It happens in a tick's own transaction. Whatever it deletes that another transaction holds, it passes over: it waits for
nobody, and so deadlocks with nobody.
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

from shared import database
from shared.clock import Clock
from shared.policy.caching import BoundsPolicy

if TYPE_CHECKING:
    from shared.database import Connection

SQL: Final = database.statements(Path(__file__).with_name("housekeeping.sql"))
EVERY_S: Final = 60.0
# While there are still too many: soon, but not in each tick, because counting a million entries takes most of a second.
CROWDED_EVERY_S: Final = 5.0
# The statistics may lag behind by what has changed since the last analysis: a tenth, and then some.
MARGIN: Final = 1.25
EVICTED_AT_ONCE: Final = 5000
# Among how many times as many as are to go the least valuable are chosen; and among how many at the least.
CHOICE: Final = 5
LEAST_CHOICE: Final = 2000
SWEPT_AT_ONCE: Final = 2000
KEEP_AUDITS: Final = timedelta(days=30)
KEEP_INVALIDATIONS: Final = timedelta(days=1)
KEEP_RATINGS: Final = timedelta(days=365)
KEEP_UNUSED: Final = timedelta(hours=1)
FIRST: Final = UUID(int=0)


class Housekeeping:
    """What is to be done now and then; what was done counts once :meth:`committed` is told so."""

    def __init__(self, clock: Clock, bounds: BoundsPolicy, *, dimensions: int) -> None:
        """``dimensions`` is the length of the vectors that the policy's embedder makes."""
        self._clock = clock
        self._bounds = bounds
        self._dimensions = dimensions
        self._due: float | None = None  # on the monotonic clock
        self._next: float | None = None  # when it is due again, should this transaction be committed
        self._swept = FIRST

    @property
    def due(self) -> bool:
        """Whether there is something to do, also where no row has come."""
        return self._due is None or self._clock.monotonic() >= self._due

    async def begin(self, connection: "Connection") -> None:
        """Before the first row of a transaction, because that may need a partition or an index."""
        self._next = self._clock.monotonic() + EVERY_S if self.due else None
        if self._next is not None:
            await connection.execute(SQL["partitions"])
            await connection.execute(SQL["vector_index"], self._dimensions)

    async def end(self, connection: "Connection", *, brought: int) -> Mapping[str, list[UUID]]:
        """After the last row; returns the ids of the entries that were deleted, by reason.

        As many may expire as have come, twice over: the table does not grow by what is dead.
        """
        expired = await _ids(connection, "expire", self._clock.now(), 2 * brought + 1)
        if self._next is None:
            return {"expired": expired}
        await self._sweep(connection)
        return {"expired": expired, "evicted": await self._evict(connection)}

    async def gone(self, connection: "Connection", entry_ids: list[UUID]) -> None:
        """Delete what was counted for entries that were deleted."""
        if entry_ids:
            await connection.execute(SQL["unused"], entry_ids)

    def committed(self) -> None:
        """The transaction is committed."""
        self._due = self._next or self._due

    async def _sweep(self, connection: "Connection") -> None:
        now = self._clock.now()
        await connection.execute(SQL["old_audits"], now - KEEP_AUDITS, SWEPT_AT_ONCE)
        await connection.execute(SQL["old_invalidations"], now - KEEP_INVALIDATIONS, SWEPT_AT_ONCE)
        await connection.execute(SQL["old_ratings"], now - KEEP_RATINGS, SWEPT_AT_ONCE)
        looked = await _ids(connection, "sweep", self._swept, SWEPT_AT_ONCE, KEEP_UNUSED)
        self._swept = looked[0] if looked else FIRST

    async def _evict(self, connection: "Connection") -> list[UUID]:
        """Delete what is over the bounds, the least valuable first.

        Value is what the answer cost, times how often it was served and once more, by the seconds since it was last
        served. Cost times frequency is GreedyDual-Size-Frequency's (Cherkasova, HPL-98-69R1, 1998; of size one, because
        entries are what is bounded). Dividing by time instead of keeping that algorithm's clock, and choosing among a
        sample because such values change order by themselves, is hyperbolic caching's (Blankstein, Sen and Freedman,
        USENIX ATC 2017). The sample are the entries whose time is over next: they have the least left to give.
        """
        bounds = self._bounds
        if not await connection.fetchval(SQL["evicting"]):
            return []
        about = await connection.fetchval(SQL["about"])
        if about * MARGIN < min(bounds.max_entries, bounds.max_entries_per_tenant):
            return []
        evicted: list[UUID] = []
        for tenant, excess in await connection.fetch(SQL["crowded"], bounds.max_entries, bounds.max_entries_per_tenant):
            # The last row is of all tenants: what went already counts.
            wanted = excess if tenant is not None else excess - len(evicted)
            number = min(wanted, EVICTED_AT_ONCE - len(evicted))
            if number < wanted:
                self._next = self._clock.monotonic() + CROWDED_EVERY_S
            if number > 0:
                choice = max(CHOICE * number, LEAST_CHOICE)
                evicted += await _ids(connection, "evict", tenant, number, choice, self._clock.now())
        return evicted


async def _ids(connection: "Connection", statement: str, *arguments: object) -> list[UUID]:
    return [row["entry_id"] for row in await connection.fetch(SQL[statement], *arguments)]

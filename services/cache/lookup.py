"""Finding entries in PostgreSQL: exactly, and by meaning."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from uuid import UUID

import asyncpg
from pgvector import HalfVector

from services.cache.embedder import Vectors
from shared import database
from shared.events import CacheKey

if TYPE_CHECKING:
    from shared.database import Pool

# Seconds a lookup may take before the answer is bought instead: a database that hangs must not hold up the flow.
PATIENCE_S: Final = 2.0
SQL: Final = database.statements(Path(__file__).with_name("lookup.sql"))


@dataclass(frozen=True, slots=True)
class Entry:
    """A cached answer, and how near its prompt is: cosine similarity, 1 for the same prompt."""

    entry_id: UUID
    prompt: str
    answer: str
    model: str
    tier: str
    category: str
    cost_usd: float
    stored_at: datetime
    expires_at: datetime
    similarity: float
    match: Literal["exact", "semantic"]


class Lookup:
    """Reads the cache.

    All methods raise DatabaseUnavailable while PostgreSQL is away.
    """

    def __init__(self, pool: "Pool", *, candidates: int) -> None:
        self._pool = pool
        self._candidates = candidates

    async def exact(self, key: CacheKey, now: datetime) -> Entry | None:
        """The entry of the same prompt in the same scope."""
        rows = await self._fetch(SQL["exact"], key.scope, key.exact, now)
        return _entry(rows[0], "exact") if rows else None

    async def nearest(self, key: CacheKey, vector: Vectors, now: datetime) -> Sequence[Entry]:
        """The entries of the scope nearest to a vector of shape (384,), nearest first."""
        rows = await self._fetch(SQL["nearest"], key.scope, HalfVector(vector), now, self._candidates)
        return sorted((_entry(row, "semantic") for row in rows), key=lambda entry: -entry.similarity)

    async def _fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._pool.fetch(statement, *arguments)
        except database.FAILED as error:
            raise database.DatabaseUnavailable(f"the cache cannot be read: {error!r}") from error


def _entry(row: asyncpg.Record, match: Literal["exact", "semantic"]) -> Entry:
    return Entry(**dict(row), match=match)

"""Reads of the cache entries: the same prompt, or the nearest ones."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

import asyncpg
from pgvector import HalfVector

from services.cache.embedder import DIMENSIONS, Vectors
from shared import database
from shared.events import Freshness

if TYPE_CHECKING:
    from shared.database import Pool

# Seconds a lookup may take before the answer is bought instead: a database that hangs must not hold up the flow.
PATIENCE_S: Final = 2.0
# Entries of a scope up to which all of them are compared, at about a microsecond each.
SMALL: Final = 1_000
SQL: Final = database.statements(Path(__file__).with_name("lookup.sql"))


@dataclass(frozen=True, slots=True)
class Entry:
    """A cached answer, and how near its prompt is: cosine similarity, 1 for the same prompt.

    Attributes:
        expires_at: until when it is fresh.
        keep_until: until when it may be served at all; later where the policy allows stale answers for a while.
        hits: how often it was served, by what has been counted; good and bad are what audits said.
    """

    entry_id: UUID
    scope: UUID
    exact: UUID
    tenant: str
    prompt: str
    answer: str
    model: str
    tier: str
    category: str
    reason: str
    cost_usd: float
    stored_at: datetime
    expires_at: datetime
    keep_until: datetime
    hits: int
    good: int
    bad: int
    similarity: float
    match: Literal["exact", "semantic"]

    @property
    def freshness(self) -> Freshness:
        """How long its answer may be reused, and why, as it was when the answer was stored."""
        ttl_s = int((self.expires_at - self.stored_at).total_seconds())
        return Freshness(category=self.category, ttl_s=ttl_s, reason=self.reason)

    def age_s(self, now: datetime) -> int:
        """Seconds since it was stored."""
        return max(0, int((now - self.stored_at).total_seconds()))


@dataclass(frozen=True, slots=True)
class Asked:
    """A key to find entries for; without a vector, of shape (dimensions,), only the very same prompt is found."""

    scope: UUID
    exact: UUID
    vector: Vectors | None


@dataclass(frozen=True, slots=True)
class Found:
    """The entry of the same prompt or, where there is none, the nearest of the scope, nearest first."""

    exact: Entry | None = None
    near: Sequence[Entry] = ()


class Lookup:
    """Reads the cache."""

    def __init__(self, pool: "Pool", *, candidates: int, dimensions: int = DIMENSIONS) -> None:
        """``candidates`` is how many near entries are wanted at the most, ``dimensions`` what the vectors have."""
        self._pool = pool
        # Numbers in the text, not parameters: only so does a plan for all parameters know what the index is good for.
        numbers = {"candidates": candidates, "dimensions": dimensions, "small": SMALL}
        self._find = re.sub(r"(?<!:):(\w+)", lambda name: str(int(numbers[name[1]])), SQL["find"])

    async def find(self, asked: Sequence[Asked], now: datetime) -> Sequence[Found]:
        """What there is for each key at a time, in one round trip.

        Raises:
            DatabaseUnavailable: PostgreSQL is away, or takes longer than PATIENCE_S.
        """
        vectors = [None if one.vector is None else HalfVector(one.vector) for one in asked]
        rows = await self._fetch([one.scope for one in asked], [one.exact for one in asked], vectors, now)
        near: list[list[Entry]] = [[] for _ in asked]
        exact: list[Entry | None] = [None for _ in asked]
        for row in rows:
            place, entry = _entry(row)
            if entry.match == "exact":
                exact[place] = entry
            else:
                near[place].append(entry)
        # The index gives them in about the right order only.
        return [
            Found(same, sorted(others, key=lambda entry: -entry.similarity))
            for same, others in zip(exact, near, strict=True)
        ]

    async def _fetch(self, *arguments: object) -> list[asyncpg.Record]:
        async with database.reading("the cache", patience_s=PATIENCE_S):
            return await self._pool.fetch(self._find, *arguments)


def _entry(row: asyncpg.Record) -> tuple[int, Entry]:
    """A row's entry, and the place of the key it was found for."""
    fields: dict[str, Any] = dict(row)
    return fields.pop("place") - 1, Entry(**fields)

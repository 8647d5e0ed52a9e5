"""Reads of the cache entries: the same prompt, or the nearest ones."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from uuid import UUID

import asyncpg
from pgvector import HalfVector

from shared import database
from shared.embedding.builtin import DIMENSIONS, Vectors
from shared.events import Freshness

if TYPE_CHECKING:
    from shared.database import Pool

# Seconds a lookup may take before the answer is bought instead: a database that hangs must not hold up the flow.
PATIENCE_S: Final = 2.0
# Entries of a scope up to which all of them are compared, at about a microsecond each.
SMALL: Final = 1_000
# Scopes known to be larger; a scope takes about 100 bytes.
SCOPES_KEPT: Final = 10_000
SQL: Final = database.statements(Path(__file__).with_name("lookup.sql"))


@dataclass(frozen=True, slots=True)
class Entry:
    """A cached answer, and how near its prompt is: cosine similarity, 1 for the same prompt.

    Attributes:
        expires_at: until when it is fresh.
        keep_until: until when it may be served at all; later where the policy allows stale answers, for a while or in a
            brownout.
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
class Prompt:
    """The keys of a prompt whose own entry is asked for."""

    scope: UUID
    exact: UUID


@dataclass(frozen=True, slots=True)
class Asked:
    """A vector, of shape (dimensions,), to find the nearest entries of a scope for."""

    scope: UUID
    vector: Vectors


class Lookup:
    """Reads the cache: what is asked at the same time goes to PostgreSQL in one round trip, a statement for each."""

    def __init__(self, pool: "Pool", *, candidates: int, dimensions: int = DIMENSIONS) -> None:
        """``pool`` is a ``database.search_pool``.

        ``candidates`` is how many near entries are wanted at the most, ``dimensions`` what the vectors have.
        """
        self._pool = pool
        self._candidates = candidates
        # Numbers in the text, not parameters: only so does a plan for all parameters know what the index is good for.
        numbers = {"candidates": candidates, "dimensions": dimensions, "small": SMALL}
        self._near = re.sub(r"(?<!:):(\w+)", lambda name: str(int(numbers[name[1]])), SQL["near"])
        self._large: set[UUID] = set()

    async def same(self, prompts: Sequence[Prompt], now: datetime) -> Sequence[Entry | None]:
        """The entry of each very prompt that may still be kept at a time.

        Raises:
            DatabaseUnavailable: PostgreSQL is away, or takes longer than PATIENCE_S.
        """
        rows = await self._fetch(SQL["same"], [(n, each.scope, each.exact, now) for n, each in enumerate(prompts)])
        found: list[Entry | None] = [None for _ in prompts]
        for row in rows:
            fields = dict(row)
            place = fields.pop("place")
            found[place] = Entry(**fields)
        return found

    async def near(self, asked: Sequence[Asked], now: datetime) -> Sequence[Sequence[Entry]]:
        """The nearest entries for each that is asked, nearest first, that may still be kept at a time.

        Raises:
            DatabaseUnavailable: PostgreSQL is away, or takes longer than PATIENCE_S.
        """
        known = [each.scope in self._large for each in asked]
        found = await self._nearest(asked, known, now)
        # A scope that was large may have been emptied since.
        doubted = [n for n, large in enumerate(known) if large and len(found[n]) < self._candidates]
        if doubted:
            self._large.difference_update(asked[n].scope for n in doubted)
            again = await self._nearest([asked[n] for n in doubted], [False for _ in doubted], now)
            for n, entries in zip(doubted, again, strict=True):
                found[n] = entries
        return found

    async def _nearest(self, asked: Sequence[Asked], large: Sequence[bool], now: datetime) -> list[list[Entry]]:
        arguments = [
            (n, each.scope, HalfVector(each.vector), now, known)
            for n, (each, known) in enumerate(zip(asked, large, strict=True))
        ]
        found: list[list[Entry]] = [[] for _ in asked]
        for row in await self._fetch(self._near, arguments):
            fields = dict(row)
            if fields.pop("large"):
                self._remember(fields["scope"])
            found[fields.pop("place")].append(Entry(**fields))
        # The index gives them in about the right order only.
        return [sorted(entries, key=lambda entry: -entry.similarity) for entries in found]

    def _remember(self, scope: UUID) -> None:
        if len(self._large) >= SCOPES_KEPT:
            self._large.clear()
        self._large.add(scope)

    async def _fetch(self, statement: str, arguments: Sequence[tuple[object, ...]]) -> list[asyncpg.Record]:
        if not arguments:
            return []
        async with database.reading("the cache", patience_s=PATIENCE_S), self._pool.acquire() as connection:
            try:
                return await connection.fetchmany(statement, arguments)
            except BaseException:
                connection.terminate()  # nothing resets it: the next one to use it would trip over what is left
                raise

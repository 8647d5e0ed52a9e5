"""A database full of cache entries, for benches: the repository's own schema in a private PostgreSQL."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from pgvector.asyncpg import register_vector

from infra.local import stack as local
from infra.local.stack import Stack
from shared import database
from shared.embedding.builtin import Vectors

STORED: datetime = datetime(2026, 1, 1, tzinfo=UTC)
KEPT_UNTIL: datetime = STORED + timedelta(days=3650)
COLUMNS = (
    *("scope", "exact", "entry_id", "tenant", "prompt", "embedding", "answer", "model", "tier", "category", "cost_usd"),
    *("stored_at", "expires_at", "base", "embedder", "reason", "keep_until"),
)
COPIED_AT_ONCE = 5_000
ANSWER = "An answer of the usual length says what was asked for, then why, then what to do next. " * 6


@dataclass(frozen=True)
class Entries:
    """What is in the database.

    Attributes:
        scopes: the scope of each entry, as a number; ``scope_id`` makes the UUID.
        vectors: shape (entries, 384), rounded to halves as PostgreSQL keeps them.
    """

    texts: Sequence[str]
    vectors: Vectors
    scopes: NDArray[np.int64]


def scope_id(number: int) -> UUID:
    """Scopes as they come: random, so that hash partitions are even."""
    return UUID(bytes=np.random.default_rng(number + 1).bytes(16), version=4)


def exact_id(place: int) -> UUID:
    """The exact key of an entry."""
    return UUID(bytes=np.random.default_rng((7, place)).bytes(16), version=4)


def spread(count: int, scopes: int) -> NDArray[np.int64]:
    """A scope for each entry, sizes by Zipf's law: tenants differ."""
    weights = 1 / np.arange(1, scopes + 1)
    return np.random.default_rng(3).choice(scopes, size=count, p=weights / weights.sum())


@contextmanager
def running(folder: Path) -> Iterator[Stack]:
    """An embedded PostgreSQL with the schema in it, alone in a folder."""
    stack = local.up(folder, say=lambda _: None, services=(), infrastructure=("postgres",), migrate=database.migrate)
    try:
        yield stack
    finally:
        local.down(folder, lambda _: None)


async def fill(dsn: str, entries: Entries) -> float:
    """Put entries into the empty table, then make the index anew; returns the seconds that took."""
    # Room for the largest index as a whole: beyond 64 MB, the default, building one takes several times as long.
    connection = await asyncpg.connect(dsn, server_settings={"maintenance_work_mem": "2GB"})
    try:
        await register_vector(connection)
        await connection.execute("TRUNCATE cache_entries, cache_uses")
        # Filled first and indexed then, as a restored or migrated database is; indexes are what a filling waits for.
        dropped = await connection.fetch(
            "SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS statement FROM pg_index"
            " WHERE indrelid = 'cache_entries'::regclass AND NOT indisprimary"
        )
        for index in dropped:
            await connection.execute(f"DROP INDEX {index['name']}")
        for start in range(0, len(entries.texts), COPIED_AT_ONCE):
            rows = [_row(entries, place) for place in range(start, min(start + COPIED_AT_ONCE, len(entries.texts)))]
            await connection.copy_records_to_table("cache_entries", records=rows, columns=COLUMNS)
        took = 0.0
        for index in dropped:
            began = time.perf_counter()
            # The definition of a partitioned index speaks of the parent alone.
            await connection.execute(index["statement"].replace(" ON ONLY ", " ON "), timeout=3600)
            if " hnsw " in index["statement"]:
                took += time.perf_counter() - began
        await connection.execute("VACUUM ANALYZE cache_entries", timeout=600)
        return took
    finally:
        await connection.close()


def _row(entries: Entries, place: int) -> tuple[object, ...]:
    scope = int(entries.scopes[place])
    return (
        *(scope_id(scope), exact_id(place), exact_id(place), f"tenant-{scope}", entries.texts[place]),
        *(HalfVector(entries.vectors[place]), ANSWER, "m", "light", "static", 0.001, STORED, KEPT_UNTIL),
        *(scope_id(scope), "bench", "", KEPT_UNTIL),
    )

"""Several embedders in one table, on a real PostgreSQL: vectors of two lengths side by side, and the move."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast
from uuid import UUID, uuid4

import asyncpg
import numpy as np
import pytest
from pgvector import HalfVector

from services.cache.lookup import Asked, Lookup
from services.cache.reembedding import SQL, Reembedding
from services.cache.scope import exact_of, scope_of
from shared import database, envelope
from shared.broker import Message
from shared.embedding.builtin import Vectors
from shared.events import CacheFilled
from shared.memory import MemoryBroker
from shared.topology import topology
from tests.contract.persistence.conftest import Database, Persistence
from tests.support.clock import HurriedClock

if TYPE_CHECKING:
    from shared.database import Pool

NOW = datetime.now(UTC)
BASE = UUID(int=7)
INSERT = """
INSERT INTO cache_entries (scope, exact, entry_id, base, embedder, tenant, prompt, embedding, answer, model, tier,
                           category, reason, cost_usd, stored_at, expires_at, keep_until)
VALUES ($1, $2, $3, $4, $5, 'acme', $6, $7, 'Paris.', 'm', 'light', 'static', 'nothing changes', 0.1, $8, $9, $9)
"""


@pytest.fixture
async def pool(schema: str, db: Database) -> AsyncIterator["Pool"]:
    """Connections as the cache has them."""
    async with database.vector_pool(schema, size=2) as connections:
        yield connections


async def stored(
    pool: "Pool",
    embedder: str,
    prompt: str,
    vector: Vectors | None,
    *,
    entry_id: UUID | None = None,
    stored_at: datetime = NOW - timedelta(hours=1),
    ttl: timedelta = timedelta(hours=3),
) -> UUID:
    """An entry under an embedder; its scope."""
    scope = scope_of(BASE, embedder)
    exact, embedding = exact_of(scope, prompt), None if vector is None else HalfVector(vector)
    keys = (scope, exact, entry_id or uuid4(), BASE, embedder, prompt, embedding)
    await pool.execute(INSERT, *keys, stored_at, stored_at + ttl)
    return scope


def unit(*numbers: float, dimensions: int) -> Vectors:
    vector = np.zeros(dimensions, dtype=np.float32)
    vector[: len(numbers)] = numbers
    found: Vectors = vector / np.linalg.norm(vector)
    return found


async def test_vectors_of_two_lengths_are_found_side_by_side(pool: "Pool") -> None:
    for dimensions in (384, 8):
        embedder = f"test/{dimensions}"
        await stored(pool, embedder, "near", unit(1, 0.1, dimensions=dimensions))
        await stored(pool, embedder, "far", unit(0, 1, dimensions=dimensions))
        await stored(pool, embedder, "not embedded", None)
    for dimensions in (384, 8):
        asked = Asked(scope_of(BASE, f"test/{dimensions}"), unit(1, dimensions=dimensions))
        (found,) = await Lookup(pool, candidates=3, dimensions=dimensions).near([asked], NOW)
        assert [entry.prompt for entry in found] == ["near", "far"]
        assert found[0].similarity == pytest.approx(0.995, abs=0.001)


async def test_each_length_has_an_index_that_its_searches_use(pool: "Pool") -> None:
    ensure = "SELECT forebay_ensure_vector_index($1)"
    assert [await pool.fetchval(ensure, dimensions) for dimensions in (384, 9, 9)] == [False, True, False]
    assert sorted(await asyncio.gather(*(pool.fetchval(ensure, 17) for _ in range(2)))) == [False, True]
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL enable_sort = off")
        for dimensions in (384, 9):
            plan = await connection.fetch(
                f"EXPLAIN SELECT 1 FROM cache_entries WHERE scope = $1 AND dimensions = {dimensions} "
                f"ORDER BY embedding::halfvec({dimensions}) <=> $2 LIMIT 3",
                uuid4(),
                HalfVector([1.0] * dimensions),
            )
            assert f"halfvec({dimensions})" in str(plan)
            assert "Order By" in str(plan)


async def test_more_numbers_than_can_be_indexed_are_refused(pool: "Pool") -> None:
    with pytest.raises(asyncpg.PostgresError, match="4000"):
        await pool.fetchval("SELECT forebay_ensure_vector_index(4001)")


class NewEmbedder:
    version = "local/new/8"

    async def embed_each(self, texts: Sequence[str]) -> Sequence[Vectors | None]:
        return [unit(1, float(len(text)), dimensions=8) for text in texts]


async def reembedded(pool: "Pool", writer: Persistence, previous: str) -> list[CacheFilled]:
    """What the job announces, while persistence writes it."""
    broker, clock = MemoryBroker(), HurriedClock(NOW)
    await broker.declare(topology(["light"]))
    publish = broker.publish

    async def written(messages: Sequence[Message]) -> None:
        await publish(messages)
        await writer.entries(*map(envelope.decode, messages))

    broker.publish = written  # type: ignore[method-assign]  # the queue between the two, in one line
    await Reembedding(pool, NewEmbedder(), broker, clock, previous=previous, max_prompt_chars=100).run()
    return [cast("CacheFilled", envelope.decode(message)) for message in broker.published]


async def test_entries_move_and_keep_their_id_and_their_time(pool: "Pool", writer: Persistence) -> None:
    old = "all-MiniLM-L6-v2/1.0.0"
    await pool.fetchval("SELECT forebay_ensure_vector_index(8)")
    ids = sorted(uuid4() for _ in range(70))
    for number, entry_id in enumerate(ids):
        await stored(pool, old, f"prompt {number}", unit(1, dimensions=384), entry_id=entry_id)
    await stored(pool, old, "expired", unit(1, dimensions=384), ttl=timedelta(minutes=1))
    await stored(pool, "all-MiniLM-L6-v2-other/1", "another model", unit(1, dimensions=384))
    events = await reembedded(pool, writer, "builtin")
    assert [event.entry_id for event in events] == ids
    rows = await pool.fetch("SELECT entry_id, stored_at, expires_at FROM cache_entries WHERE embedder = 'local/new/8'")
    assert {row["entry_id"] for row in rows} == set(ids)
    assert {(row["stored_at"], row["expires_at"] - row["stored_at"]) for row in rows} == {
        (NOW - timedelta(hours=1), timedelta(hours=3))
    }
    asked = Asked(scope_of(BASE, "local/new/8"), unit(1, 8, dimensions=8))
    (found,) = await Lookup(pool, candidates=3, dimensions=8).near([asked], NOW)
    assert {entry.prompt for entry in found} <= {f"prompt {number}" for number in range(10)}
    assert await reembedded(pool, writer, "builtin") == []


async def test_a_version_may_be_named_too(pool: "Pool", writer: Persistence) -> None:
    await stored(pool, "local/old/8", "one", unit(1, dimensions=8))
    await stored(pool, "local/old/16", "two", unit(1, dimensions=16))
    await stored(pool, "local/new/8", "already there", unit(1, dimensions=8))
    assert [event.key.prompt for event in await reembedded(pool, writer, "local/old/8")] == ["one"]
    assert [event.key.prompt for event in await reembedded(pool, writer, "local/old")] == ["two"]


async def test_one_session_holds_the_lock_until_it_ends(pool: "Pool") -> None:
    async with pool.acquire() as first, pool.acquire() as second:
        assert await first.fetchval(SQL["lock"])
        assert not await second.fetchval(SQL["lock"])
    assert await pool.fetchval(SQL["lock"])

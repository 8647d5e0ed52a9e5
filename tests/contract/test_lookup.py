"""The lookup's one statement, by a real PostgreSQL: what it finds, and how it looks."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import numpy as np
import pytest
from pgvector import HalfVector

from infra.local.stack import Stack
from services.cache.embedder import Vectors
from services.cache.lookup import Asked, Lookup
from shared import database
from tests.bench.entries import COLUMNS
from tests.support.clock import START

if TYPE_CHECKING:
    from shared.database import Pool

NAME = "lookup"
SCOPE, OTHER = UUID(int=1), UUID(int=2)


@pytest.fixture(scope="module")
def dsn(infrastructure: Stack) -> str:
    """The address of a database of their own, with the schema in it."""
    start, _, options = infrastructure.postgres_dsn.partition("?")
    address = f"{start.rpartition('/')[0]}/{NAME}?{options}"

    async def made() -> None:
        connection = await asyncpg.connect(infrastructure.postgres_dsn)
        await connection.execute(f"CREATE DATABASE {NAME}")
        await connection.close()
        await database.migrate(address)

    asyncio.run(made())
    return address


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator["Pool"]:
    """A connection of the cache's kind; there are no entries."""
    async with database.vector_pool(dsn, size=1) as opened:
        await opened.execute("TRUNCATE cache_entries, cache_uses")
        yield opened


def direction(angle: float, dimensions: int = 384) -> Vectors:
    vector = np.zeros(dimensions, dtype=np.float32)
    vector[:2] = np.cos(angle), np.sin(angle)
    return vector


async def store(pool: "Pool", number: int, angle: float | None, **changes: Any) -> None:
    dimensions = changes.pop("dimensions", 384)
    fields = {
        "scope": SCOPE,
        "exact": UUID(int=number),
        "entry_id": UUID(int=1000 + number),
        "tenant": "default",
        "prompt": f"prompt {number}",
        "embedding": None if angle is None else HalfVector(direction(angle, dimensions)),
        "answer": f"answer {number}",
        "model": "m",
        "tier": "light",
        "category": "static",
        "cost_usd": 0.5,
        "stored_at": START,
        "expires_at": START + timedelta(hours=1),
        "base": SCOPE,
        "embedder": "test/1",
        "reason": "",
        "keep_until": START + timedelta(hours=2),
    } | changes
    places = ", ".join(f"${place}" for place in range(1, len(COLUMNS) + 1))
    await pool.execute(
        f"INSERT INTO cache_entries ({', '.join(COLUMNS)}) VALUES ({places})", *(fields[name] for name in COLUMNS)
    )


def asked(number: int = 99, angle: float | None = 0.0, scope: UUID = SCOPE) -> Asked:
    return Asked(scope, UUID(int=number), None if angle is None else direction(angle))


@pytest.fixture(params=[1000, 2], ids=["small scope", "large scope"])
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to look for what is near."""
    monkeypatch.setattr("services.cache.lookup.SMALL", request.param)


@pytest.mark.usefixtures("size")
async def test_the_nearest_of_the_scope_are_found_nearest_first(pool: "Pool") -> None:
    for number, angle in enumerate((0.5, 0.1, 0.9, 0.3, -0.2)):
        await store(pool, number, angle)
    await store(pool, 50, 0.0, scope=OTHER)
    (found,) = await Lookup(pool, candidates=3).find([asked()], START)
    assert found.exact is None
    assert [entry.prompt for entry in found.near] == ["prompt 1", "prompt 4", "prompt 3"]
    assert [entry.similarity for entry in found.near] == pytest.approx(np.cos([0.1, 0.2, 0.3]), abs=1e-3)


@pytest.mark.usefixtures("size")
async def test_what_may_not_be_kept_is_not_found_and_what_is_only_stale_is(pool: "Pool") -> None:
    for number in range(3):
        await store(pool, number, 0.1 * number, keep_until=START)
    await store(pool, 3, 0.5, expires_at=START)
    gone, near = await Lookup(pool, candidates=3).find([asked(0, None), asked()], START)
    assert (gone.exact, gone.near) == (None, [])
    assert [entry.prompt for entry in near.near] == ["prompt 3"]


@pytest.mark.usefixtures("size")
async def test_entries_without_a_vector_or_with_another_models_are_not_near(pool: "Pool") -> None:
    await store(pool, 1, None)
    await store(pool, 2, 0.0, dimensions=3)
    await store(pool, 3, 0.2)
    near, same = await Lookup(pool, candidates=3).find([asked(), asked(1)], START)
    assert [entry.prompt for entry in near.near] == ["prompt 3"]
    assert same.exact is not None


async def test_each_of_a_batch_gets_its_own_and_what_became_of_it(pool: "Pool") -> None:
    await store(pool, 1, 0.0)
    await store(pool, 2, 0.1, scope=OTHER)
    await pool.execute(
        "INSERT INTO cache_uses (entry_id, hits, good, bad, saved_usd, counted_at) VALUES ($1, 7, 2, 1, 0, $2)",
        UUID(int=1001),
        START,
    )
    keys = [asked(1), asked(3), asked(2), asked(2, scope=OTHER), asked(4, scope=UUID(int=3)), asked(5, None)]
    found = await Lookup(pool, candidates=3).find(keys, START)
    assert [one.exact.prompt if one.exact else None for one in found] == [
        "prompt 1",
        None,
        None,
        "prompt 2",
        None,
        None,
    ]
    assert [[entry.prompt for entry in one.near] for one in found] == [[], ["prompt 1"], ["prompt 1"], [], [], []]
    assert found[0].exact is not None
    assert (found[0].exact.hits, found[0].exact.good, found[0].exact.bad) == (7, 2, 1)


async def test_nothing_asked_is_nothing_found(pool: "Pool") -> None:
    assert await Lookup(pool, candidates=3).find([], START) == []


async def test_one_partition_is_read_by_its_vector_index_and_none_where_the_prompt_is_known(
    pool: "Pool", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.cache.lookup.SMALL", 2)
    for number in range(20):
        await store(pool, number, 0.01 * number)
        await store(pool, 100 + number, 0.01 * number, scope=UUID(int=100 + number))
    await pool.execute("ANALYZE cache_entries")
    statement = Lookup(pool, candidates=3)._find
    assert len(await _vector_scans(pool, statement, [asked(), asked(98)])) == 1
    assert await _vector_scans(pool, statement, [asked(1), asked(2)]) == []


async def _vector_scans(pool: "Pool", statement: str, keys: Sequence[Asked]) -> list[str]:
    """The vector indexes that were read."""
    vectors = [None if key.vector is None else HalfVector(key.vector) for key in keys]
    plan = await pool.fetchval(
        f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}",
        [key.scope for key in keys],
        [key.exact for key in keys],
        vectors,
        START,
    )
    return sorted(set(_read(json.loads(plan)[0]["Plan"])))


def _read(node: dict[str, Any]) -> list[str]:
    name = str(node.get("Index Name", ""))
    own = [name] if "embedding" in name and node["Actual Loops"] > 0 else []
    return own + [each for child in node.get("Plans", ()) for each in _read(child)]

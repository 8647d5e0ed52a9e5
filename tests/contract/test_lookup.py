"""The lookup's one statement, by a real PostgreSQL: what it finds, and how it looks."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import numpy as np
import pytest
from pgvector import HalfVector

from infra.local.stack import Stack
from services.cache.lookup import SQL, Asked, Lookup, Prompt
from shared import database
from shared.embedding.builtin import Vectors
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
    async with database.search_pool(dsn) as opened:
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


def asked(angle: float = 0.0, scope: UUID = SCOPE) -> Asked:
    return Asked(scope, direction(angle))


def prompt(number: int, scope: UUID = SCOPE) -> Prompt:
    return Prompt(scope, UUID(int=number))


@pytest.fixture(params=[1000, 2], ids=["small scope", "large scope"])
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to look for what is near."""
    monkeypatch.setattr("services.cache.lookup.SMALL", request.param)


@pytest.mark.usefixtures("size")
async def test_the_nearest_of_the_scope_are_found_nearest_first(pool: "Pool") -> None:
    for number, angle in enumerate((0.5, 0.1, 0.9, 0.3, -0.2)):
        await store(pool, number, angle)
    await store(pool, 50, 0.0, scope=OTHER)
    (found,) = await Lookup(pool, candidates=3).near([asked()], START)
    assert [entry.prompt for entry in found] == ["prompt 1", "prompt 4", "prompt 3"]
    assert [entry.similarity for entry in found] == pytest.approx(np.cos([0.1, 0.2, 0.3]), abs=1e-3)


@pytest.mark.usefixtures("size")
async def test_what_may_not_be_kept_is_not_found_and_what_is_only_stale_is(pool: "Pool") -> None:
    for number in range(3):
        await store(pool, number, 0.1 * number, keep_until=START)
    await store(pool, 3, 0.5, expires_at=START)
    lookup = Lookup(pool, candidates=3)
    gone, stale = await lookup.same([prompt(0), prompt(3)], START)
    assert gone is None
    assert stale is not None
    (near,) = await lookup.near([asked()], START)
    assert [entry.prompt for entry in near] == ["prompt 3"]


@pytest.mark.usefixtures("size")
async def test_entries_without_a_vector_or_with_another_models_are_not_near(pool: "Pool") -> None:
    await store(pool, 1, None)
    await store(pool, 2, 0.0, dimensions=3)
    await store(pool, 3, 0.2)
    lookup = Lookup(pool, candidates=3)
    (near,) = await lookup.near([asked()], START)
    assert [entry.prompt for entry in near] == ["prompt 3"]
    assert await lookup.same([prompt(1)], START) != [None]


async def test_each_of_a_batch_gets_its_own_and_what_became_of_it(pool: "Pool") -> None:
    await store(pool, 1, 0.0)
    await store(pool, 2, 0.1, scope=OTHER)
    await pool.execute(
        "INSERT INTO cache_uses (entry_id, hits, good, bad, saved_usd, counted_at) VALUES ($1, 7, 2, 1, 0, $2)",
        UUID(int=1001),
        START,
    )
    lookup = Lookup(pool, candidates=3)
    same = await lookup.same([prompt(1), prompt(3), prompt(2), prompt(2, OTHER), prompt(5, UUID(int=3))], START)
    assert [one and one.prompt for one in same] == ["prompt 1", None, None, "prompt 2", None]
    assert same[0] is not None
    assert (same[0].hits, same[0].good, same[0].bad) == (7, 2, 1)
    near = await lookup.near([asked(), asked(scope=UUID(int=3)), asked(scope=OTHER)], START)
    assert [[entry.prompt for entry in one] for one in near] == [["prompt 1"], [], ["prompt 2"]]
    assert (near[0][0].hits, near[0][0].good, near[0][0].bad) == (7, 2, 1)


async def test_a_scope_that_is_large_no_more_is_not_empty(pool: "Pool", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.cache.lookup.SMALL", 2)
    lookup = Lookup(pool, candidates=3)
    for number in range(5):
        await store(pool, number, 0.1 * number)
    assert [len(found) for found in await lookup.near([asked()], START)] == [3]
    await pool.execute("DELETE FROM cache_entries WHERE exact < $1", UUID(int=4))
    (found,) = await lookup.near([asked()], START)
    assert [entry.prompt for entry in found] == ["prompt 4"]


async def test_one_partition_alone_is_opened_and_read_by_its_vector_index(
    pool: "Pool", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.cache.lookup.SMALL", 2)
    for number in range(20):
        await store(pool, number, 0.01 * number)
        await store(pool, 100 + number, 0.01 * number, scope=UUID(int=100 + number))
    await pool.execute("ANALYZE cache_entries")
    statement = Lookup(pool, candidates=3)._near
    for known in (False, True):
        plan = await _plan(pool, statement, 0, SCOPE, HalfVector(direction(0.0)), START, known)
        assert len([name for name in _names(plan, "Index Name", read=True) if "embedding" in name]) == 1
        assert len(_partitions(plan)) == 1
    assert len(_partitions(await _plan(pool, SQL["same"], 0, SCOPE, UUID(int=1), START))) == 1


async def test_a_lookup_that_failed_halfway_or_was_given_up_does_not_spoil_the_next(pool: "Pool") -> None:
    await store(pool, 1, 0.0)
    lookup = Lookup(pool, candidates=3)
    good, bad = Asked(SCOPE, direction(0.0)), Asked(SCOPE, direction(0.0)[:2])
    for _ in range(3):
        with pytest.raises(database.DatabaseUnavailable):
            await lookup.near([good, bad, good], START)
        (found,) = await lookup.near([good], START)
        assert [entry.prompt for entry in found] == ["prompt 1"]
    given_up = asyncio.create_task(lookup.near([good] * 32, START))
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert len(await lookup.near([good] * 4, START)) == 4
    (same,) = await lookup.same([Prompt(SCOPE, UUID(int=1))], START)
    assert same is not None


async def test_connections_that_the_server_ended_cost_one_lookup_each_at_the_most(pool: "Pool", dsn: str) -> None:
    await store(pool, 1, 0.0)
    lookup, asked = Lookup(pool, candidates=3), Asked(SCOPE, direction(0.0))
    await asyncio.gather(*(lookup.near([asked], START) for _ in range(4)))
    other = await asyncpg.connect(dsn)
    await other.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await other.close()
    failed = 0
    for _ in range(2 + 1):
        try:
            (found,) = await lookup.near([asked], START)
        except database.DatabaseUnavailable:
            failed += 1
    assert [entry.prompt for entry in found] == ["prompt 1"]
    assert failed <= 2


async def _plan(pool: "Pool", statement: str, *arguments: object) -> dict[str, Any]:
    """How the statement was carried out."""
    plan = await pool.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *arguments)
    found: dict[str, Any] = json.loads(plan)[0]["Plan"]
    return found


def _partitions(plan: dict[str, Any]) -> set[str]:
    """The parts of the table that were opened, whether they were read or not."""
    return {name for name in _names(plan, "Relation Name") if name.startswith("cache_entries")}


def _names(node: dict[str, Any], kind: str, *, read: bool = False) -> list[str]:
    """All names of a kind in a plan; those of nodes that were carried out, where it says so."""
    own = [str(node[kind])] if kind in node and (node["Actual Loops"] > 0 or not read) else []
    return own + [each for child in node.get("Plans", ()) for each in _names(child, kind, read=read)]

"""What was to be forgotten is gone, and stays so."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from shared.events import CacheAudited, CacheInvalidate, ResponseCompleted, Selector
from shared.topology import RECORDS
from tests.contract.persistence.conftest import ENTRIES, Database, Persistence
from tests.support import make
from tests.support.clock import START
from tests.support.sample import sample

HELD = UUID(int=7)  # the entry for which a test keeps writers from counting


def answer(prompt: str = "Who won?", **changes: Any) -> ResponseCompleted:
    """A bought answer, under a key of its own, that may be reused for years."""
    fields: dict[str, Any] = {"key": make.key(prompt, exact=make.new_id()), "freshness": make.freshness(ttl_s=10**9)}
    return make.completed(**fields | changes)


def invalidation(at: datetime = START, **selector: Any) -> CacheInvalidate:
    return CacheInvalidate(
        invalidation_id=make.new_id(), selector=Selector(**selector), reason="it changed", invalidated_at=at
    )


def audit() -> CacheAudited:
    return sample(CacheAudited, audit_id=make.new_id(), entry_id=HELD)


async def prompts(db: Database) -> list[str]:
    return [row["prompt"] for row in await db.all("SELECT prompt FROM cache_entries ORDER BY prompt")]


async def test_entries_stored_up_to_then_are_deleted_with_what_was_counted(writer: Persistence, db: Database) -> None:
    old, new, other = (
        answer("old", completed_at=START),
        answer("new", completed_at=START + timedelta(seconds=1)),
        answer("other", tenant="other"),
    )
    served = make.completed(source="coalesced", leader_id=old.request_id)
    await writer.entries(old, new, other)
    await writer.records(served)
    assert await db.uses(old.request_id) is not None
    await writer.records(invalidation(tenant="acme"))
    assert await prompts(db) == ["new", "other"]
    assert await db.uses(old.request_id) is None


async def test_an_entry_that_was_on_its_way_does_not_come_back(writer: Persistence, db: Database) -> None:
    await writer.records(invalidation(START, topic="earthquake tokyo"))
    late, other = answer("Tokyo, an EARTHQUAKE?"), answer("Earthquake in Lima?")
    newer = answer("Tokyo: earthquake today?", completed_at=START + timedelta(microseconds=1))
    for _ in range(2):
        await writer.entries(late, newer, other)
    assert await prompts(db) == ["Earthquake in Lima?", "Tokyo: earthquake today?"]


async def test_an_invalidation_that_is_told_again_changes_nothing(writer: Persistence, db: Database) -> None:
    said = invalidation(tenant="acme")
    await writer.records(said, said)
    await writer.records(said)
    assert await db.count("cache_invalidations") == 1


async def test_entries_and_invalidation_in_one_tick(writer: Persistence, db: Database) -> None:
    batch = [(ENTRIES, answer("old")), (ENTRIES, answer("new", completed_at=START + timedelta(hours=1)))]
    await writer.write([*batch, (RECORDS, invalidation(everything=True))])
    assert await prompts(db) == ["new"]


async def test_an_invalidation_from_the_future_counts_from_now(writer: Persistence, db: Database) -> None:
    await writer.records(invalidation(datetime(9999, 1, 1, tzinfo=UTC), everything=True))
    await writer.entries(answer("later", completed_at=datetime.now(UTC) + timedelta(hours=1)))
    assert await prompts(db) == ["later"]


async def test_of_many_with_one_selector_the_latest_counts(writer: Persistence, db: Database) -> None:
    await writer.entries(*(answer(str(hour), completed_at=START + timedelta(hours=hour)) for hour in range(4)))
    await writer.records(*(invalidation(START + timedelta(hours=hour), tenant="acme") for hour in (1, 2, 0)))
    assert await prompts(db) == ["3"]


@asynccontextmanager
async def counting_held_up(db: Database) -> AsyncIterator[None]:
    """While this is open, a writer that counts for HELD has done all before that, and is not committed."""
    async with db.pool.acquire() as connection, connection.transaction():
        await connection.execute("INSERT INTO cache_uses VALUES ($1, 0, 0, 0, 0, NULL, now())", HELD)
        yield


async def waiting(db: Database, kind: str) -> None:
    """Return once a transaction waits for a lock of a kind."""
    async with asyncio.timeout(20):
        while not await db.one("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = $1", kind):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("entry_first", [True, False])
async def test_of_two_writers_under_way_at_once_the_entry_never_survives(
    entry_first: bool, another: Any, db: Database
) -> None:
    bringing, forgetting = await another(), await another()
    brought, said = (ENTRIES, answer("old")), (RECORDS, invalidation(everything=True))
    first, second = (bringing, forgetting) if entry_first else (forgetting, bringing)
    one, other = (brought, said) if entry_first else (said, brought)
    async with asyncio.TaskGroup() as tasks, counting_held_up(db):
        tasks.create_task(first.write([one, (RECORDS, audit())]))
        await waiting(db, "transactionid")
        late = tasks.create_task(second.write([other]))
        await waiting(db, "advisory")
        assert not late.done()
    assert await prompts(db) == []
    assert await db.count("cache_invalidations") == 1


async def test_writers_who_bring_entries_do_not_wait_for_each_other(another: Any, db: Database) -> None:
    one, other = await another(), await another()
    async with asyncio.TaskGroup() as tasks, counting_held_up(db):
        tasks.create_task(one.write([(ENTRIES, answer("a")), (RECORDS, audit())]))
        await waiting(db, "transactionid")
        await other.entries(answer("b"))
        assert await prompts(db) == ["b"]
    assert await prompts(db) == ["a", "b"]

"""The table stays within its bounds, and loses what is worth least."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from services.persistence.housekeeping import EVERY_S
from shared.events import CacheAudited, CacheInvalidate, ResponseCompleted, Selector
from tests.contract.persistence.conftest import Database, Persistence
from tests.support import make
from tests.support.clock import START, ManualClock
from tests.support.sample import sample

Make = Callable[..., Awaitable[Persistence]]


def answer(prompt: str, **changes: Any) -> ResponseCompleted:
    fields: dict[str, Any] = {"key": make.key(prompt, exact=make.new_id()), "freshness": make.freshness(ttl_s=10**8)}
    return make.completed(**fields | changes)


def served(answer: ResponseCompleted, times: int = 1, **changes: Any) -> list[ResponseCompleted]:
    """Answers of the cache that come from another."""
    fields: dict[str, Any] = {
        "source": "coalesced",
        "leader_id": answer.request_id,
        "cost_usd": 0.0,
        "saved_usd": answer.cost_usd,
    }
    return [make.completed(**fields | changes) for _ in range(times)]


async def prompts(db: Database) -> list[str]:
    return [row["prompt"] for row in await db.all("SELECT prompt FROM cache_entries ORDER BY prompt")]


async def a_minute_later(writer: Persistence, clock: ManualClock) -> None:
    clock.skip(EVERY_S)
    await writer.records()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def test_an_expired_entry_stays_while_it_may_be_served_stale(
    another: Make, db: Database, clock: ManualClock
) -> None:
    categories = {"static": {"ttl": "7d"}, "dynamic": {"ttl": "1m", "stale_while_revalidate": "5m"}}
    writer = await another(make.policy(freshness__categories=categories), clock)
    entry = answer("now", freshness=make.freshness(ttl_s=60, category="dynamic"))
    await writer.entries(entry)
    await writer.records(*served(entry))
    clock.skip(359)
    await writer.records()
    assert await prompts(db) == ["now"]
    await a_minute_later(writer, clock)
    assert await prompts(db) == []
    assert await db.uses(entry.request_id) is None


async def test_the_least_valuable_go_first(another: Make, db: Database, clock: ManualClock) -> None:
    writer = await another(make.policy(cache__bounds={"max_entries": 3}), clock)
    hour = timedelta(hours=1)
    long_ago = START - 2 * hour
    entries = {
        "cheap": answer("cheap", cost_usd=0.001, completed_at=long_ago),
        "dear": answer("dear", cost_usd=1.0, completed_at=long_ago),
        "popular": answer("popular", cost_usd=0.01, completed_at=long_ago),
        "forgotten": answer("forgotten", cost_usd=0.01, completed_at=long_ago),
        "new": answer("new", cost_usd=0.01, completed_at=START),
    }
    await writer.entries(*entries.values())
    await writer.records(*served(entries["popular"], 9, completed_at=START - hour), *served(entries["cheap"]))
    await a_minute_later(writer, clock)
    assert await prompts(db) == ["dear", "new", "popular"]
    assert await db.uses(entries["cheap"].request_id) is None
    assert await db.uses(entries["popular"].request_id) is not None


async def test_a_tenant_that_fills_its_share_makes_room_in_it(another: Make, db: Database, clock: ManualClock) -> None:
    writer = await another(make.policy(cache__bounds={"max_entries_per_tenant": 2}), clock)
    own = [answer(f"own {number}", cost_usd=1.0 + number) for number in range(4)]
    await writer.entries(*own, answer("other's", tenant="other", cost_usd=0.0))
    await a_minute_later(writer, clock)
    assert await prompts(db) == ["other's", "own 2", "own 3"]


async def test_what_a_tenant_loses_counts_for_all(another: Make, db: Database, clock: ManualClock) -> None:
    writer = await another(make.policy(cache__bounds={"max_entries": 3, "max_entries_per_tenant": 2}), clock)
    own = [answer(f"own {number}", cost_usd=1.0 + number) for number in range(3)]
    others = [answer(f"other {number}", tenant="other", cost_usd=9.0) for number in range(2)]
    await writer.entries(*own, *others)
    await a_minute_later(writer, clock)
    assert await prompts(db) == ["other 0", "other 1", "own 2"]


async def test_two_that_count_the_same_excess_do_not_evict_it_twice(
    another: Make, db: Database, clock: ManualClock
) -> None:
    writer = await another(make.policy(cache__bounds={"max_entries": 3}), clock)
    await writer.entries(*(answer(str(number)) for number in range(5)))
    async with db.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('forebay_eviction'))")
        await a_minute_later(writer, clock)
    assert await db.count("cache_entries") == 5
    await a_minute_later(writer, clock)
    assert await db.count("cache_entries") == 3


async def test_the_statistics_are_believed_where_there_are_any(another: Make, db: Database, clock: ManualClock) -> None:
    writer = await another(make.policy(cache__bounds={"max_entries": 3}), clock)
    await writer.entries(*(answer(str(number)) for number in range(5)))
    await db.pool.execute("ANALYZE cache_entries")
    await a_minute_later(writer, clock)
    assert await db.count("cache_entries") == 3


async def test_answers_that_are_too_long_are_not_kept(another: Make, db: Database) -> None:
    writer = await another(make.policy(cache__bounds={"max_answer_chars": 10}))
    await writer.entries(answer("short", output_text="x" * 10), answer("long", output_text="x" * 11))
    assert await prompts(db) == ["short"]


async def test_what_is_old_is_swept_away(another: Make, db: Database, clock: ManualClock) -> None:
    writer = await another(None, clock)
    entry, nothing, recent = answer("kept"), answer("never stored"), answer("not stored yet")
    ages = [timedelta(days=31), timedelta(days=29)]
    audits = [
        sample(CacheAudited, entry_id=entry.request_id, audit_id=make.new_id(), audited_at=START - age) for age in ages
    ]
    said = [
        CacheInvalidate(
            invalidation_id=make.new_id(), selector=Selector(tenant="none"), reason="", invalidated_at=START - age
        )
        for age in (timedelta(hours=25), timedelta(hours=23))
    ]
    await writer.entries(entry)
    await writer.records(*served(entry), *served(nothing), *served(recent), *audits, *said)
    long_ago = [entry.request_id, nothing.request_id]
    await db.pool.execute(
        "UPDATE cache_uses SET counted_at = now() - interval '2 h' WHERE entry_id = ANY ($1)", long_ago
    )
    await a_minute_later(writer, clock)
    assert await db.one("SELECT array_agg(audit_id) FROM cache_audits") == [audits[1].audit_id]
    assert await db.one("SELECT array_agg(invalidation_id) FROM cache_invalidations") == [said[1].invalidation_id]
    counted = await db.one("SELECT array_agg(entry_id ORDER BY entry_id) FROM cache_uses")
    assert counted == sorted((entry.request_id, recent.request_id))


async def test_an_entry_that_is_there_for_two_embedders_keeps_its_counts(
    another: Make, db: Database, clock: ManualClock
) -> None:
    writer = await another(None, clock)
    old = answer("?", freshness=make.freshness(ttl_s=60))
    new = old.model_copy(update={"key": make.key(scope=make.new_id()), "freshness": make.freshness(ttl_s=10**8)})
    await writer.entries(old, new)
    await writer.records(*served(old))
    clock.skip(61)
    await writer.records()
    assert await db.count("cache_entries") == 1
    assert await db.uses(old.request_id) is not None

"""What PostgreSQL knows of entries, as ingest asks for it."""

import json
from typing import Any

import pytest

from services.ingest.entries import SQL, UNKNOWN_SCOPE, Audience, Entries, Meant, Origin, Served
from shared.database import DatabaseUnavailable
from shared.events import Selector
from tests.support import make
from tests.support.clock import START
from tests.support.pool import FakePool

ENTRY = make.new_id()


@pytest.fixture
def pool() -> FakePool:
    return FakePool()


@pytest.fixture
def entries(pool: FakePool) -> Entries:
    return Entries(pool.as_pool)


def row(**changes: Any) -> dict[str, Any]:
    """A row of the statement ``selected``."""
    about = {"entry_id": ENTRY, "prompt": "Hello?", "model": "m", "category": "static", "stored_at": START, "hits": 3}
    return about | {"entries": 12, "oldest": START, "newest": START} | changes


async def test_a_selector_is_asked_for_with_the_tenant_and_without_what_it_does_not_say(
    entries: Entries, pool: FakePool
) -> None:
    await entries.meant("acme", Selector(tenant="acme", topic="x"), START)
    assert [(tenant, json.loads(str(selector)), at) for tenant, selector, at in pool.asked] == [
        ("acme", {"tenant": "acme", "topic": "x"}, START)
    ]


async def test_what_a_selector_means_is_counted_and_shown(entries: Entries, pool: FakePool) -> None:
    pool.rows = [row(), row(prompt="x" * 201)]
    meant = await entries.meant("acme", Selector(topic="x"), START)
    assert (meant.entries, meant.oldest, meant.newest) == (12, START, START)
    first, second = meant.examples
    assert (first.entry_id, first.prompt, first.model, first.category, first.hits) == (
        ENTRY,
        "Hello?",
        "m",
        "static",
        3,
    )
    assert second.prompt == "x" * 199 + "…"


async def test_a_selector_may_mean_nothing(entries: Entries) -> None:
    assert await entries.meant("acme", Selector(topic="x"), START) == Meant(0, None, None, ())


async def test_an_entry_that_is_gone_has_no_scope(entries: Entries, pool: FakePool) -> None:
    pool.rows = [{"entry_id": ENTRY, "scope": None, "good": 0, "bad": 0}]
    assert await entries.behind(ENTRY) == Origin(ENTRY, UNKNOWN_SCOPE)
    pool.rows = [{"entry_id": ENTRY, "scope": make.key().scope, "good": 2, "bad": 1}]
    assert await entries.behind(ENTRY) == Origin(ENTRY, make.key().scope, good=2, bad=1)


async def test_who_was_served_is_told(entries: Entries, pool: FakePool) -> None:
    request_id = make.new_id()
    served = [{"request_id": str(request_id), "at": "2026-01-02T03:04:05+00:00", "similarity": None}]
    pool.rows = [{"others": 4, "served": json.dumps(served)}]
    assert await entries.audience("acme", ENTRY, START) == Audience([Served(request_id=request_id, at=START)], 4)
    assert pool.asked == [("acme", ENTRY, START)]


@pytest.mark.parametrize("error", [ConnectionRefusedError(), TimeoutError()])
async def test_while_the_database_is_away_nothing_is_known(entries: Entries, pool: FakePool, error: Exception) -> None:
    pool.error = error
    with pytest.raises(DatabaseUnavailable):
        await entries.meant("acme", Selector(topic="x"), START)
    with pytest.raises(DatabaseUnavailable):
        await entries.behind(ENTRY)
    with pytest.raises(DatabaseUnavailable):
        await entries.audience("acme", ENTRY, START)


def test_every_statement_is_there() -> None:
    assert set(SQL) == {"selected", "behind", "served"}

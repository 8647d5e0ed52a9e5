"""Entries from rows."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np
import pytest

from services.cache.lookup import Asked, Lookup, Prompt
from shared.database import DatabaseUnavailable
from tests.support import make
from tests.support.clock import START
from tests.support.pool import FakePool

VECTOR = np.zeros(384, dtype=np.float32)
ASKED = Asked(UUID(int=1), VECTOR)
PROMPT = Prompt(UUID(int=1), UUID(int=2))


def row(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "place": 0,
        "entry_id": make.new_id(),
        "scope": UUID(int=1),
        "exact": UUID(int=2),
        "tenant": "default",
        "prompt": "p",
        "answer": "a",
        "model": "m",
        "tier": "light",
        "category": "static",
        "reason": "",
        "cost_usd": 0.5,
        "stored_at": START,
        "expires_at": START + timedelta(hours=1),
        "keep_until": START + timedelta(hours=2),
        "hits": 0,
        "good": 0,
        "bad": 0,
        "similarity": 1.0,
        "match": "semantic",
    }
    return fields | changes


def near_row(**changes: Any) -> dict[str, Any]:
    return row(large=False, **changes)


async def test_all_prompts_are_asked_for_at_once() -> None:
    pool = FakePool(row(place=1, match="exact", answer="Paris."))
    none, same = await Lookup(pool.as_pool, candidates=3).same([Prompt(UUID(int=3), UUID(int=4)), PROMPT], START)
    assert pool.asked == [((0, UUID(int=3), UUID(int=4), START), (1, UUID(int=1), UUID(int=2), START))]
    assert none is None
    assert same is not None
    assert (same.answer, same.match) == ("Paris.", "exact")


async def test_each_gets_what_is_near_to_it() -> None:
    pool = FakePool(near_row(place=1, answer="Paris."), near_row(place=1, answer="Lyon."), near_row(answer="Rome."))
    one, two, none = await Lookup(pool.as_pool, candidates=3).near([ASKED, ASKED, ASKED], START)
    assert ([entry.answer for entry in one], [entry.answer for entry in two]) == (["Rome."], ["Paris.", "Lyon."])
    assert none == []
    assert len(pool.asked) == 1


async def test_the_nearest_come_first_whatever_order_the_index_gave_them() -> None:
    pool = FakePool(near_row(similarity=0.91), near_row(similarity=0.99), near_row(similarity=0.95))
    (found,) = await Lookup(pool.as_pool, candidates=3).near([ASKED], START)
    assert [entry.similarity for entry in found] == [0.99, 0.95, 0.91]
    assert {entry.match for entry in found} == {"semantic"}


async def test_nobody_is_asked_for_nothing() -> None:
    pool = FakePool()
    lookup = Lookup(pool.as_pool, candidates=3)
    assert (await lookup.same([], START), await lookup.near([], START), pool.asked) == ([], [], [])


def said_large(pool: FakePool) -> list[bool]:
    """What the near search was told about the scope, each time."""
    return [bool(arguments[-1]) for (arguments,) in pool.asked if isinstance(arguments, tuple)]


async def test_a_scope_that_was_large_is_not_counted_again() -> None:
    pool = FakePool(row(large=True))
    lookup = Lookup(pool.as_pool, candidates=1)
    await lookup.near([ASKED], START)
    await lookup.near([ASKED], START)
    assert said_large(pool) == [False, True]


async def test_a_large_scope_with_too_few_entries_near_is_counted_again() -> None:
    pool = FakePool(row(large=True))
    lookup = Lookup(pool.as_pool, candidates=1)
    await lookup.near([ASKED], START)
    pool.rows = []
    assert await lookup.near([ASKED], START) == [[]]
    await lookup.near([ASKED], START)
    assert said_large(pool) == [False, True, False, False]


async def test_the_scopes_it_knows_to_be_large_do_not_become_ever_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.cache.lookup.SCOPES_KEPT", 1)
    pool = FakePool(row(large=True))
    lookup = Lookup(pool.as_pool, candidates=1)
    await lookup.near([ASKED], START)
    pool.rows = [row(large=True, scope=UUID(int=9))]
    await lookup.near([Asked(UUID(int=9), VECTOR)], START)
    await lookup.near([ASKED], START)
    assert said_large(pool) == [False, False, False]


def test_what_the_plan_depends_on_is_in_the_statement() -> None:
    statement = Lookup(FakePool().as_pool, candidates=7, dimensions=768)._near
    assert "LIMIT 7" in statement
    assert "::halfvec(768)" in statement
    assert "dimensions = 768" in statement
    assert ":candidates" not in statement


async def test_a_database_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(FakePool):
        async def fetchmany(self, _: str, arguments: Sequence[tuple[object, ...]]) -> Sequence[Mapping[str, Any]]:
            await asyncio.Event().wait()
            return []

    monkeypatch.setattr("services.cache.lookup.PATIENCE_S", 0.01)
    pool = Hanging()
    with pytest.raises(DatabaseUnavailable):
        await Lookup(pool.as_pool, candidates=3).near([ASKED], START)
    assert pool.terminated == 1


@pytest.mark.parametrize(
    "error",
    [ConnectionRefusedError(), TimeoutError(), asyncpg.ConnectionDoesNotExistError(), asyncpg.InterfaceError("x")],
)
async def test_a_database_that_is_away_says_so(error: Exception) -> None:
    pool = FakePool()
    pool.error = error
    with pytest.raises(DatabaseUnavailable):
        await Lookup(pool.as_pool, candidates=3).near([ASKED], START)
    assert pool.terminated == 1  # it is not reset, and may be in any state
    with pytest.raises(DatabaseUnavailable):
        await Lookup(pool.as_pool, candidates=3).same([PROMPT], START)

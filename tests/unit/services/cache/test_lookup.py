"""Entries from rows."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np
import pytest

from services.cache.lookup import Asked, Lookup
from shared.database import DatabaseUnavailable
from tests.support import make
from tests.support.clock import START
from tests.support.pool import FakePool

VECTOR = np.zeros(384, dtype=np.float32)
ASKED = Asked(UUID(int=1), UUID(int=2), VECTOR)


def row(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "place": 1,
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


async def test_all_keys_are_asked_for_at_once() -> None:
    pool = FakePool()
    other = Asked(UUID(int=3), UUID(int=4), None)
    found = await Lookup(pool.as_pool, candidates=3).find([ASKED, other], START)
    assert [(one.exact, one.near) for one in found] == [(None, []), (None, [])]
    ((scopes, exacts, vectors, now),) = pool.asked
    assert (scopes, exacts, now) == ([UUID(int=1), UUID(int=3)], [UUID(int=2), UUID(int=4)], START)
    assert isinstance(vectors, list)
    assert vectors[1] is None


async def test_each_gets_what_was_found_for_it() -> None:
    pool = FakePool(row(place=2, match="exact", answer="Paris."), row(place=1, answer="Rome."))
    near, same = await Lookup(pool.as_pool, candidates=3).find([ASKED, ASKED], START)
    assert near.exact is None
    assert [entry.answer for entry in near.near] == ["Rome."]
    assert same.exact is not None
    assert (same.exact.answer, same.near) == ("Paris.", [])


async def test_the_nearest_come_first_whatever_order_the_index_gave_them() -> None:
    pool = FakePool(row(similarity=0.91), row(similarity=0.99), row(similarity=0.95))
    (found,) = await Lookup(pool.as_pool, candidates=3).find([ASKED], START)
    assert [entry.similarity for entry in found.near] == [0.99, 0.95, 0.91]
    assert {entry.match for entry in found.near} == {"semantic"}


def test_what_the_plan_depends_on_is_in_the_statement() -> None:
    statement = Lookup(FakePool().as_pool, candidates=7, dimensions=768)._find
    assert "LIMIT 7" in statement
    assert "::halfvec(768)" in statement
    assert "dimensions = 768" in statement
    assert ":candidates" not in statement


async def test_a_database_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(FakePool):
        async def fetch(self, _: str, *arguments: object) -> Sequence[Mapping[str, Any]]:
            await asyncio.Event().wait()
            return []

    monkeypatch.setattr("services.cache.lookup.PATIENCE_S", 0.01)
    with pytest.raises(DatabaseUnavailable):
        await Lookup(Hanging().as_pool, candidates=3).find([ASKED], START)


@pytest.mark.parametrize(
    "error",
    [ConnectionRefusedError(), TimeoutError(), asyncpg.ConnectionDoesNotExistError(), asyncpg.InterfaceError("x")],
)
async def test_a_database_that_is_away_says_so(error: Exception) -> None:
    pool = FakePool()
    pool.error = error
    with pytest.raises(DatabaseUnavailable):
        await Lookup(pool.as_pool, candidates=3).find([ASKED], START)

"""Entries from rows."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import asyncpg
import numpy as np
import pytest

from services.cache.lookup import Lookup
from shared.database import DatabaseUnavailable
from tests.support import make
from tests.support.clock import START
from tests.support.pool import FakePool

VECTOR = np.zeros(384, dtype=np.float32)


def row(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "entry_id": make.new_id(),
        "prompt": "p",
        "answer": "a",
        "model": "m",
        "tier": "light",
        "category": "static",
        "cost_usd": 0.5,
        "stored_at": START,
        "expires_at": START + timedelta(hours=1),
        "similarity": 1.0,
    }
    return fields | changes


async def test_the_exact_entry_is_asked_for_by_scope_key_and_time() -> None:
    pool, key = FakePool(row(answer="Paris.")), make.key()
    entry = await Lookup(pool.as_pool, candidates=3).exact(key, START)
    assert entry is not None
    assert (entry.answer, entry.match) == ("Paris.", "exact")
    assert pool.asked == [(key.scope, key.exact, START)]


async def test_no_row_is_no_entry() -> None:
    lookup = Lookup(FakePool().as_pool, candidates=3)
    assert await lookup.exact(make.key(), START) is None
    assert await lookup.nearest(make.key(), VECTOR, START) == []


async def test_the_nearest_come_first_whatever_order_the_index_gave_them() -> None:
    pool, key = FakePool(row(similarity=0.91), row(similarity=0.99), row(similarity=0.95)), make.key()
    found = await Lookup(pool.as_pool, candidates=3).nearest(key, VECTOR, START)
    assert [entry.similarity for entry in found] == [0.99, 0.95, 0.91]
    assert {entry.match for entry in found} == {"semantic"}
    scope, _, now, limit = pool.asked[0]
    assert (scope, now, limit) == (key.scope, START, 3)


async def test_a_database_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(FakePool):
        async def fetch(self, _: str, *arguments: object) -> Sequence[Mapping[str, Any]]:
            await asyncio.Event().wait()
            return []

    monkeypatch.setattr("services.cache.lookup.PATIENCE_S", 0.01)
    with pytest.raises(DatabaseUnavailable):
        await Lookup(Hanging().as_pool, candidates=3).exact(make.key(), START)


@pytest.mark.parametrize(
    "error",
    [ConnectionRefusedError(), TimeoutError(), asyncpg.ConnectionDoesNotExistError(), asyncpg.InterfaceError("x")],
)
async def test_a_database_that_is_away_says_so(error: Exception) -> None:
    pool = FakePool()
    pool.error = error
    lookup = Lookup(pool.as_pool, candidates=3)
    with pytest.raises(DatabaseUnavailable):
        await lookup.exact(make.key(), START)
    with pytest.raises(DatabaseUnavailable):
        await lookup.nearest(make.key(), VECTOR, START)

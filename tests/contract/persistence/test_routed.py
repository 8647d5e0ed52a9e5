"""What the router reads of what persistence has put on record: what was spent today, and what was asked."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

import numpy as np
import pytest

from services.router.ledger import FEW, Ledger
from services.router.replay import stored
from tests.contract.persistence.conftest import Database, Persistence
from tests.support import make
from tests.support.clock import START, ManualClock

# Ids derived from a client's key begin with f; those made by the doors with the time.
KEYED = UUID("f4c1a3f2-7f0e-8b5a-9c6d-0a1b2c3d4e5f")


def timed(number: int) -> UUID:
    """An id as the doors make it, of the test's day: milliseconds first (RFC 9562, version 7)."""
    return UUID(int=(int(START.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62) | number)


async def test_what_was_bought_today_is_read_by_tenant(writer: Persistence, db: Database) -> None:
    clock = ManualClock()
    yesterday = START - timedelta(days=1)
    await writer.records(
        make.completed(cost_usd=1.0, request_id=timed(1)),
        make.completed(cost_usd=0.5, request_id=KEYED),
        make.completed(cost_usd=2.0, tenant="globex", request_id=timed(2)),
        make.completed(cost_usd=4.0, completed_at=yesterday, request_id=timed(3)),
        make.completed(cost_usd=8.0, source="cache", request_id=timed(4)),
        *(make.completed(cost_usd=0.25, route=make.route("premium"), request_id=timed(10 + n)) for n in range(FEW)),
    )
    clock.skip(1)
    ledger = Ledger(clock)
    ledger.subscribed()
    task = asyncio.create_task(ledger.recall(db.pool))
    while ledger.behind:
        await clock.sleeper()
        await clock.advance(10)
    tenant = make.request().tenant
    assert (ledger.spent(), ledger.spent(tenant), ledger.spent("globex")) == (3.5 + 0.25 * FEW, 1.5 + 0.25 * FEW, 2.0)
    assert (ledger.cost_of("premium"), ledger.cost_of("light")) == (0.25, None)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_what_was_run_is_read_in_the_order_it_was_asked_in(writer: Persistence, db: Database) -> None:
    asked = [
        make.request(prompt, id=request_id, accepted_at=START + timedelta(seconds=number))
        for number, (prompt, request_id) in enumerate(
            {"one": timed(1), "two": KEYED, "three": timed(3), "four": timed(4)}.items()
        )
    ]
    first, keyed, hit, other = asked
    answers = [
        make.completed(first, completed_at=START + timedelta(seconds=9)),
        make.completed(keyed, completed_at=START + timedelta(seconds=5), cost_usd=0.125),
        make.completed(hit, source="cache"),
        make.completed(other, tenant="globex"),
    ]
    await writer.records(*[make.accepted(each) for each in asked], *answers)
    await writer.entries(answers[0])
    until = START + timedelta(minutes=1)
    rows = await stored(db.pool, START, until, tenant=first.tenant, limit=10)
    assert [row.request.prompt for row in rows] == ["one", "two"]
    assert [(row.tier, row.tokens, row.cost_usd) for row in rows] == [("light", 17, 0.25), ("light", 17, 0.125)]
    assert rows[1].embedding is None
    assert rows[0].embedding is not None
    assert rows[0].embedding.embedder == "test/1"
    assert float(np.linalg.norm(rows[0].embedding.vector)) == pytest.approx(1.0)
    latest = await stored(db.pool, START, until, tenant=None, limit=1)
    assert [row.request.prompt for row in latest] == ["one"]
    assert await stored(db.pool, START, START + timedelta(seconds=5), tenant=first.tenant, limit=10) == []

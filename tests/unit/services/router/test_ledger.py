"""What was spent today."""

import asyncio
from contextlib import suppress

import pytest

from services.router.ledger import AGAIN_AFTER_S, FEW, WRITTEN_WITHIN, Ledger
from shared.events import ResponseCompleted
from tests.support import make
from tests.support.clock import START, ManualClock
from tests.support.pool import FakePool


def answer(
    usd: float, clock: ManualClock, *, tenant: str = "acme", tier: str = "light", source: str | None = None
) -> ResponseCompleted:
    return make.completed(tenant=tenant, tier=tier, source=source or tier, cost_usd=usd, completed_at=clock.now())


def test_only_what_was_bought_is_spent() -> None:
    clock = ManualClock()
    ledger = Ledger(clock)
    ledger.heard(answer(0.5, clock))
    ledger.heard(answer(0.25, clock, tenant="globex"))
    ledger.heard(answer(9.0, clock, source="cache"))
    assert (ledger.spent(), ledger.spent("acme"), ledger.spent("nobody")) == (0.75, 0.5, 0.0)


def test_an_answer_of_yesterday_that_comes_late_is_not_of_today() -> None:
    clock = ManualClock()
    ledger = Ledger(clock)
    late = answer(0.5, clock)
    clock.skip(86_400)
    ledger.heard(late)
    assert ledger.spent() == 0


def test_the_mean_cost_of_a_tier_is_known_after_a_few() -> None:
    clock = ManualClock()
    ledger = Ledger(clock)
    for _ in range(FEW):
        assert ledger.cost_of("light") is None
        ledger.heard(answer(0.5, clock))
    assert ledger.cost_of("light") == pytest.approx(0.5)


async def test_what_was_spent_before_it_listened_is_read_once_it_is_written() -> None:
    clock = ManualClock()
    ledger = Ledger(clock)
    before = answer(4.0, clock)
    clock.skip(1)
    ledger.subscribed()
    ledger.heard(before)  # on its way when the queue was made: PostgreSQL will tell of it
    clock.skip(1)
    ledger.heard(answer(0.5, clock))
    pool = FakePool({"tenant": "acme", "tier": "light", "usd": 4.0, "answers": 40})
    task = asyncio.create_task(ledger.recall(pool.as_pool))
    await clock.advance(1)
    assert ledger.spent() == 0.5
    await clock.advance(WRITTEN_WITHIN.total_seconds() + AGAIN_AFTER_S)
    assert (ledger.spent(), ledger.behind) == (4.5, False)
    assert ledger.cost_of("light") == pytest.approx(0.1)
    ledger.subscribed()  # a connection was lost: what is known is not forgotten over that
    assert ledger.spent() == 4.5
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_database_that_is_away_is_asked_again() -> None:
    clock = ManualClock()
    ledger = Ledger(clock)
    ledger.subscribed()
    pool = FakePool()
    pool.error = OSError("away")
    task = asyncio.create_task(ledger.recall(pool.as_pool))
    await clock.advance(60)
    assert ledger.behind
    assert not task.done()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def test_what_a_cheaper_tier_answered_counts_for_the_tier_it_was_routed_to() -> None:
    clock = ManualClock()
    ledger = Ledger(clock)
    for _ in range(FEW):
        ledger.heard(answer(0.5, clock).model_copy(update={"route": make.route("premium")}))
    assert (ledger.cost_of("premium"), ledger.cost_of("light")) == (0.5, None)


def test_the_day_ends_at_midnight_in_utc() -> None:
    clock = ManualClock(START.replace(hour=23, minute=0, second=0))
    assert Ledger(clock).left_of_day() == 3600

"""What refusals of a first burst teach of a lane's limit, and how a limit is searched for."""

from collections.abc import Iterator
from itertools import pairwise

import pytest

from services.inference.errors import RateLimited
from services.inference.lanes.gate import Gate
from services.inference.lanes.limit import GUESS, HEADROOM, QUIET, SEARCH_MOST, Limit
from services.inference.lanes.said import Allowance, Said
from shared.events import LaneThrottled
from shared.policy.tiers import Lane
from tests.support import make
from tests.support.clock import ManualClock


def search(limit: Limit, from_s: float, to_s: float) -> Iterator[tuple[float, float]]:
    """Take all that a limit gives; its rate each second."""
    for second in range(int(from_s), int(to_s)):
        rate = limit.rate
        assert rate is not None
        limit.accepted(float(second), rate, held_back=rate)
        yield float(second), limit.rate or 0.0


def test_a_burst_that_was_refused_takes_nothing_from_what_the_provider_told() -> None:
    limit = Limit(None)
    limit.told(20)
    for _ in range(30):
        limit.overrun(0.1, under_way=5)
    assert limit.rate == pytest.approx(20 * HEADROOM)


def test_where_nothing_was_told_the_pace_begins_at_what_came_through() -> None:
    limit = Limit(None)
    limit.accepted(10.0, 15, held_back=0)
    limit.overrun(10.1, under_way=5)
    assert limit.rate == pytest.approx(20)


def test_where_nothing_came_through_the_pace_begins_at_a_guess() -> None:
    limit = Limit(None)
    limit.overrun(10.0)
    assert limit.rate == GUESS


@pytest.mark.parametrize("rate", [2.0, 40.0, 100.0])
def test_after_a_burst_the_limit_is_searched_for_at_once_and_at_any_size_as_fast(rate: float) -> None:
    limit = Limit(None)
    limit.accepted(0.0, rate, held_back=0)
    limit.overrun(0.0)
    reached = [second for second, now in search(limit, 0, 30) if now >= 2 * rate]
    assert 7 <= reached[0] <= 14


def test_a_search_never_takes_a_step_that_no_news_could_follow() -> None:
    limit = Limit(None)
    limit.accepted(0.0, 10, held_back=0)
    limit.overrun(0.0)
    rates = [rate for _, rate in search(limit, 0, 40)]
    assert max(later / earlier for earlier, later in pairwise(rates)) <= 1.01 + SEARCH_MOST * 1.1


def test_after_a_refusal_of_a_paced_call_the_search_waits_until_there_was_none_for_long() -> None:
    limit = Limit(None)
    limit.accepted(0.0, 40, held_back=0)
    limit.overrun(0.0)
    limit.refused(5.0)
    before = limit.rate or 0.0
    limit.accepted(6.0, QUIET - 1, held_back=QUIET - 1)
    assert limit.rate is not None
    assert before < limit.rate < 1.05 * before


def test_a_limit_that_was_doubled_doubles_the_part_that_was_learned_to_be_free() -> None:
    limit = Limit(None)
    limit.told(20)
    limit.refused(0.0, 10)
    before = limit.rate or 0.0
    limit.told(40)
    assert limit.rate == pytest.approx(2 * before)


async def refused(gate: Gate, calls: int, *, said: Said | None = None) -> None:
    """Calls that leave together and are all refused, by a provider that does not say when to come back."""
    passes = [gate.call(10, patience_s=5) for _ in range(calls)]
    for one in passes:
        await one.__aenter__()
    for one in passes:
        error = RateLimited("full")
        error.said = said
        await one.__aexit__(RateLimited, error, None)


def gate(clock: ManualClock, told: list[LaneThrottled]) -> Gate:
    """A gate of a lane of which nothing is known."""
    return Gate(Lane(name="x", model="x/y"), clock, told.append, make.new_id())


async def test_the_refusals_of_one_burst_are_one_reason_to_pause() -> None:
    clock, told = ManualClock(), list[LaneThrottled]()
    await refused(gate(clock, told), 20)
    pauses = [each for each in told if each.until is not None]
    assert len(pauses) == 1
    assert (pauses[0].until - clock.now()).total_seconds() <= 0.5  # type: ignore[operator]  # filtered above


async def test_a_burst_that_was_refused_leaves_the_pace_at_what_the_provider_says() -> None:
    clock = ManualClock()
    one = gate(clock, [])
    await refused(one, 20, said=Said(Allowance(1200, 0, 1.0), None))
    assert one.calls.limit.rate == pytest.approx(20 * HEADROOM)
    assert one.report().calls.refused == 0

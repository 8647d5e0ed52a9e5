"""What refusals of a first burst teach of a lane's limit."""

import pytest

from services.inference.errors import RateLimited
from services.inference.lanes.gate import Gate
from services.inference.lanes.limit import HEADROOM, Limit
from services.inference.lanes.said import Allowance, Said
from shared.events import LaneThrottled
from shared.policy.tiers import Lane
from tests.support import make
from tests.support.clock import ManualClock


def test_a_limit_that_was_doubled_doubles_the_part_that_was_learned_to_be_free() -> None:
    limit = Limit(None, 0.0)
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

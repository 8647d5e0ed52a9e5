"""Which lane a request is run on next."""

from collections import Counter
from typing import Any
from uuid import uuid4

import pytest

from services.inference.errors import ProviderAuth, ProviderFault
from services.inference.lanes.choice import Candidate
from services.inference.lanes.gate import WRONG_KEY_S
from services.inference.lanes.lanes import Lanes
from tests.support import make
from tests.support.clock import ManualClock

TWO = [{"name": "first", "model": "local/tiny"}, {"name": "second", "model": "local/tiny", "order": 1}]


class Choosing:
    """The lanes of a tier, and calls that fail on them."""

    def __init__(self, lanes: list[dict[str, Any]] | None = None, **light: Any) -> None:
        self.clock = ManualClock()
        policy = make.policy(tiers__light={"lanes": lanes or TWO, **light})
        self.lanes = Lanes(policy, self.clock, replica=uuid4())

    def next(self, model: str = "auto", *failed: str) -> Candidate:
        return self.lanes.choice.next("light", model, failed)

    async def fails(self, lane: str, error: ProviderFault | ProviderAuth, times: int = 1) -> None:
        for _ in range(times):
            with pytest.raises(type(error)):
                async with self.lanes.gates[lane].call(1, patience_s=0):
                    raise error

    async def works(self, lane: str) -> None:
        async with self.lanes.gates[lane].call(1, patience_s=0):
            pass


async def test_the_first_by_order_that_has_not_failed_the_request() -> None:
    it = Choosing()
    assert [it.next().lane.name, it.next("auto", "first").lane.name] == ["first", "second"]
    assert it.next("auto", "first", "second").lane.name == "first"


async def test_lanes_of_one_order_share_the_calls_by_weight() -> None:
    it = Choosing([{"name": "a", "model": "x", "weight": 3.0}, {"name": "b", "model": "x"}])
    seen = Counter(it.next().lane.name for _ in range(2_000))
    assert 0.7 < seen["a"] / 2_000 < 0.8


async def test_a_lane_that_was_broken_is_tried_again_by_one_call_though_another_is_well() -> None:
    it = Choosing()
    await it.fails("first", ProviderAuth("401"))
    assert it.next().lane.name == "second"
    await it.clock.advance(2 * WRONG_KEY_S)
    assert it.next().lane.name == "first"
    async with it.lanes.gates["first"].call(1, patience_s=0):  # the probe is under way
        assert it.next().lane.name == "second"
    assert it.next().lane.name == "first", "it is well again"


async def test_so_is_the_tier_itself_though_the_one_it_falls_back_on_is_well() -> None:
    it = Choosing([{"name": "only", "model": "local/tiny"}], fall_back="premium")
    await it.fails("only", ProviderFault("500"), times=5)
    assert it.next().tier == "premium"
    await it.clock.advance(60)
    assert it.next().tier == "light"
    await it.fails("only", ProviderFault("500"))
    assert it.next().tier == "premium"


async def test_who_wants_one_lane_gets_it_and_does_not_wait_for_it_while_others_are_well() -> None:
    it = Choosing()
    await it.fails("first", ProviderAuth("401"))
    wanted = it.next("first")
    assert (wanted.lane.name, wanted.patience_s) == ("first", 0.0)


async def test_where_no_lane_is_well_the_one_that_is_back_soonest_is_waited_for() -> None:
    it = Choosing()
    await it.fails("first", ProviderAuth("401"))
    await it.fails("second", ProviderFault("500"), times=5)
    soonest = it.next()
    assert soonest.lane.name == "second"
    assert soonest.patience_s > 0

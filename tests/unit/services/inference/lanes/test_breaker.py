"""The breaker: when it opens, that one call at a time tries, and that it never stays open for good."""

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.inference.lanes.breaker import IN_A_ROW, JITTER, OPEN_FIRST_S, OPEN_LONGEST_S, Breaker, Probe


def broken(now_s: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(IN_A_ROW):
        breaker.failed(now_s, breaker.begin())
    assert not breaker.closed
    return breaker


def test_it_opens_after_so_many_failures_in_a_row_and_not_before() -> None:
    breaker = Breaker()
    opened = [breaker.failed(0, breaker.begin()) for _ in range(IN_A_ROW)]
    assert opened[:-1] == [None] * (IN_A_ROW - 1)
    assert opened[-1] == pytest.approx(OPEN_FIRST_S, rel=JITTER)
    assert breaker.wait_s(0) == opened[-1]


def test_it_opens_where_half_of_the_calls_fail() -> None:
    breaker = Breaker()
    opened = []
    for _ in range(10):
        breaker.succeeded(breaker.begin())
        opened.append(breaker.failed(0, breaker.begin()))
    assert any(opened)


def test_a_failure_now_and_then_opens_nothing() -> None:
    breaker = Breaker()
    for number in range(200):
        if number % 4:
            breaker.succeeded(breaker.begin())
        else:
            assert breaker.failed(0, breaker.begin()) is None
    assert breaker.closed


def test_one_call_tries_and_the_others_wait_for_it() -> None:
    breaker = broken()
    assert breaker.wait_s(100) == 0
    probe = breaker.begin()
    assert probe is not None
    assert breaker.wait_s(100) == math.inf
    assert breaker.succeeded(probe)
    assert (breaker.closed, breaker.wait_s(100)) == (True, 0)


def test_each_probe_that_fails_doubles_the_time_up_to_a_bound() -> None:
    breaker = broken()
    opened = [breaker.failed(100.0 * number, breaker.begin()) for number in range(1, 7)]
    assert opened[0] == pytest.approx(2 * OPEN_FIRST_S, rel=JITTER)
    assert opened[-1] == pytest.approx(OPEN_LONGEST_S, rel=JITTER)


def test_a_probe_that_was_given_up_makes_room_for_the_next() -> None:
    breaker = broken()
    breaker.abandoned(breaker.begin())
    assert breaker.wait_s(100) == 0


def test_what_does_not_pass_by_itself_opens_it_at_once() -> None:
    breaker = Breaker()
    assert breaker.failed(0, breaker.begin(), for_s=60) == pytest.approx(60, rel=JITTER)


def test_a_call_that_left_before_it_opened_says_nothing() -> None:
    breaker = Breaker()
    early = breaker.begin()
    for _ in range(IN_A_ROW):
        breaker.failed(0, breaker.begin())
    assert not breaker.succeeded(early)
    assert breaker.failed(0, early) is None
    assert not breaker.closed


def test_another_replica_opens_and_closes_it() -> None:
    breaker = Breaker()
    breaker.open(5)
    assert breaker.wait_s(2) == 3
    breaker.open(4)
    assert breaker.wait_s(2) == 3
    breaker.close()
    assert breaker.closed


def test_a_probe_that_was_overtaken_is_an_ordinary_call() -> None:
    breaker = broken()
    overtaken = breaker.begin()
    breaker.close()
    assert breaker.failed(100, overtaken) is None
    assert breaker.closed
    for _ in range(IN_A_ROW):
        breaker.failed(100, breaker.begin())
    probe = breaker.begin()
    assert breaker.failed(200, overtaken) is None
    breaker.abandoned(overtaken)
    assert not breaker.succeeded(overtaken)
    assert breaker.wait_s(200) == math.inf
    assert breaker.succeeded(probe)


class AnyOrder(RuleBasedStateMachine):
    """Calls that begin when they may and end in any order, and what other replicas say meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker()
        self.now_s = 0.0
        self.under_way: list[Probe | None] = []
        self.probes: list[Probe] = []

    @rule(seconds=st.floats(0, 15))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @precondition(lambda self: self.breaker.wait_s(self.now_s) == 0)
    @rule()
    def call(self) -> None:
        probe = self.breaker.begin()
        assert (probe is None) == self.breaker.closed
        self.under_way.append(probe)
        if probe is not None:
            assert not self.probes
            self.probes.append(probe)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), end=st.sampled_from(["succeeded", "failed", "abandoned"]))
    def end(self, data: st.DataObject, end: str) -> None:
        probe = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        if probe in self.probes:
            self.probes.remove(probe)
        if end == "succeeded":
            self.breaker.succeeded(probe)
        elif end == "failed":
            self.breaker.failed(self.now_s, probe)
        else:
            self.breaker.abandoned(probe)

    @rule()
    def others_say_it_is_well(self) -> None:
        self.breaker.close()
        self.probes.clear()

    @rule(seconds=st.floats(-5, 15))
    def others_say_it_is_broken(self, seconds: float) -> None:
        self.breaker.open(self.now_s + seconds)

    @invariant()
    def it_always_tries_again(self) -> None:
        wait_s = self.breaker.wait_s(self.now_s)
        assert wait_s <= 16 or self.probes


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, deadline=None)

"""Even pacing: no window of time sees more than the rate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.lanes.pacing import TOLERANCE_S, Pace

RATES = st.floats(0.2, 500)


@given(RATES, st.lists(st.floats(0, 20), min_size=2, max_size=60))
def test_no_window_sees_more_than_the_rate_and_the_tolerance(rate: float, gaps: list[float]) -> None:
    """Callers come when they like, wait as long as they are told, and leave."""
    pace, now_s, left = Pace(), 0.0, []
    for gap in gaps:
        now_s += gap / rate
        now_s += pace.wait_s(now_s, rate)
        pace.take(now_s, 1, rate)
        left.append(now_s)
    for first, begin in enumerate(left):
        for last in range(first, len(left)):
            assert last - first <= rate * (left[last] - begin + TOLERANCE_S) + 1e-3


@given(RATES)
def test_who_always_has_work_gets_the_rate(rate: float) -> None:
    pace, now_s = Pace(), 0.0
    for _ in range(100):
        now_s += pace.wait_s(now_s, rate)
        pace.take(now_s, 1, rate)
    assert now_s == pytest.approx(99 / rate)


def test_time_that_was_not_used_is_gone() -> None:
    pace = Pace()
    pace.take(0, 1, 2)
    pace.take(1_000, 1, 2)
    assert pace.wait_s(1_000, 2) == pytest.approx(0.5 - TOLERANCE_S)


def test_a_call_waits_by_the_rate_of_now_whatever_it_was_when_the_last_one_left() -> None:
    pace = Pace()
    pace.take(0, 600, 0.01)
    assert pace.wait_s(0, 0.01) > 50_000
    assert pace.wait_s(0, 600) <= 1


@given(st.floats(1, 1e6), st.floats(0.1, 1e4))
def test_a_call_of_any_size_leaves_in_the_end(cost: float, rate: float) -> None:
    pace = Pace()
    pace.take(0, cost, rate)
    wait_s = pace.wait_s(0, rate)
    assert wait_s <= cost / rate
    assert pace.wait_s(wait_s + 1e-6, rate) <= 1e-5


def test_those_behind_wait_for_those_before_them() -> None:
    pace = Pace()
    pace.take(0, 1, 2)
    alone, behind = pace.wait_s(0, 2), pace.wait_s(0, 2, behind=3)
    assert behind == pytest.approx(alone + 1.5)


def test_what_a_call_did_not_use_is_given_back() -> None:
    pace = Pace()
    pace.take(0, 600, 100)
    pace.correct(-500)
    assert pace.wait_s(0, 100) == pytest.approx(1)


def test_after_a_pause_those_that_share_begin_one_after_the_other() -> None:
    first, second = Pace(), Pace()
    first.begin(10, 0, rate=0.5)
    second.begin(10, 0.5, rate=0.5)
    assert (first.wait_s(4, 0.5), second.wait_s(4, 0.5)) == (6, 7)


def test_a_pause_takes_nothing_from_what_has_to_run_out() -> None:
    pace = Pace()
    pace.take(0, 100, 1)
    pace.begin(10, 0, rate=1)
    assert pace.wait_s(10, 1) == pytest.approx(90)
    pace.begin(5, 0.9, rate=1)
    assert pace.at_s == 10

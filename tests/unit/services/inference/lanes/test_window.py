"""Calls under way at a time: few after signs of overload, more as answers come."""

import math

from hypothesis import given
from hypothesis import strategies as st

from services.inference.lanes.window import AFRESH, ROUND_S, Window


def with_calls(under_way: int, declared: int | None = None) -> Window:
    window = Window(declared)
    window.under_way = under_way
    return window


def test_without_limits_nobody_waits() -> None:
    window = with_calls(10_000)
    assert window.size(1) == math.inf
    assert not window.full(1)


def test_what_is_declared_is_shared_but_everybody_has_one() -> None:
    window = with_calls(0, declared=10)
    assert (window.size(0.5), window.size(0.01), window.size(0)) == (5, 1, 1)
    window.under_way = 5
    assert window.full(0.5)
    assert not window.full(0.6)


def test_overload_leaves_seven_tenths_of_what_was_under_way_once_a_round() -> None:
    window = with_calls(20)
    window.overloaded(0)
    window.overloaded(ROUND_S / 2)
    assert window.size(1) == 14
    window.overloaded(ROUND_S)
    assert 9 < window.size(1) < 10


def test_answers_make_room_for_one_more_a_round_where_room_was_missing() -> None:
    window = with_calls(20)
    window.overloaded(0)
    for _ in range(14):
        window.answered(full=False)
    assert window.size(1) == 14
    for _ in range(14):
        window.answered(full=True)
    assert 14.9 < window.size(1) < 15


def test_begun_afresh_it_doubles_with_each_round() -> None:
    window = with_calls(20)
    window.afresh()
    assert window.size(1) == AFRESH
    for _ in range(int(AFRESH)):
        window.answered(full=True)
    assert window.size(1) == 2 * AFRESH


@given(st.lists(st.sampled_from(["answered", "overloaded", "afresh"])), st.integers(0, 50), st.floats(0, 1))
def test_at_least_one_call_may_always_be_made(news: list[str], under_way: int, share: float) -> None:
    window = with_calls(under_way, declared=3)
    for now_s, what in enumerate(news):
        if what == "answered":
            window.answered(full=True)
        elif what == "overloaded":
            window.overloaded(float(now_s))
        else:
            window.afresh()
    assert 1 <= window.size(share) <= 3
    window.under_way = 0
    assert not window.full(share)

"""How much a provider gives, learned from what it refuses: one replica, its pace, and a bucket that runs out."""

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.inference.lanes.limit import AT_LEAST, HEADROOM, LEAST, Limit
from services.inference.lanes.pacing import Pace


def run(limit: Limit, rate: float, *, began_s: float = 0.0) -> tuple[float, float, float]:
    """Calls by the pace, on a bucket of two seconds.

    Returns the time when it ended, and of the last half the share refused, and calls accepted per second.
    """
    pace, now_s, at_s = Pace(), began_s, began_s
    filled = burst = max(2.0, 2 * rate)
    half_s, until_s = began_s + 60 + 300 / rate, began_s + 120 + 600 / rate
    useful = refused = 0
    while now_s < until_s:
        known = limit.rate
        wait_s = pace.wait_s(now_s, known) if known else 0.0
        now_s += wait_s
        if known:
            pace.take(now_s, 1, known)
        filled, at_s = min(burst, filled + (now_s - at_s) * rate), now_s
        if filled >= 1:
            filled -= 1
            limit.accepted(now_s, 1, held_back=float(wait_s > 0))
            useful += now_s >= half_s
        else:
            limit.refused(now_s)
            refused += now_s >= half_s
            now_s += (1 - filled) / rate
    return now_s, refused / (refused + useful), useful / (until_s - half_s)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.floats(0.5, 500))
@example(0.2)
@example(500)
def test_whatever_a_bucket_gives_is_found(rate: float) -> None:
    _, refused, accepted = run(Limit(None, 0), rate)
    assert accepted >= 0.95 * rate
    assert refused <= 0.0125


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.floats(6, 200))
def test_a_limit_that_changes_is_found_again(rate: float) -> None:
    limit = Limit(None, 0)
    now_s, _, _ = run(limit, rate)
    _, refused, accepted = run(limit, rate / 3, began_s=now_s)
    assert accepted >= 0.93 * rate / 3
    assert refused <= 0.0125


@given(
    st.lists(st.one_of(st.tuples(st.just("refused"), st.floats(0, 5)), st.tuples(st.just("accepted"), st.floats(0, 5))))
)
def test_it_never_falls_to_nothing_and_always_is_a_number(news: list[tuple[str, float]]) -> None:
    limit, now_s = Limit(None, 0), 0.0
    for what, gap in news:
        now_s += gap
        if what == "refused":
            limit.refused(now_s, 7)
        else:
            limit.accepted(now_s, 1, held_back=1)
        assert limit.rate is None or LEAST <= limit.rate < math.inf


def test_nothing_is_known_of_a_lane_that_never_refused() -> None:
    limit = Limit(None, 0)
    limit.accepted(1, 1, held_back=0)
    assert (limit.rate, limit.learned, limit.by_headers) == (None, None, None)


def test_what_is_declared_and_what_is_told_both_count() -> None:
    limit = Limit(600, 0)
    assert limit.rate == 10 * HEADROOM
    limit.told(4)
    assert limit.rate == 4 * HEADROOM
    limit.told(40)
    assert limit.rate == 10 * HEADROOM


def test_what_refusals_taught_is_forgotten_where_it_is_no_less_than_what_is_known() -> None:
    limit = Limit(600, 0)
    limit.refused(0)
    assert limit.rate is not None
    assert limit.rate < 10 * HEADROOM
    for number in range(3_000):
        limit.accepted(number / 10, 1, held_back=1)
    assert (limit.learned, limit.rate) == (None, 10 * HEADROOM)


def test_refusals_of_one_moment_are_one_piece_of_news() -> None:
    few, many = Limit(6_000, 0), Limit(6_000, 0)
    few.refused(5, 25)
    many.refused(5, 5_000)
    assert few.rate == pytest.approx(many.rate, rel=0.05)


def test_no_refusal_makes_it_less_than_most_of_what_was_just_given() -> None:
    limit = Limit(None, 0)
    for number in range(200):
        limit.accepted(number / 20, 1, held_back=0)
    limit.refused(10)
    assert limit.rate is not None
    assert limit.rate >= AT_LEAST * 19


def test_calls_that_nothing_held_back_do_not_raise_it() -> None:
    limit = Limit(None, 0)
    limit.refused(0)
    before = limit.rate
    for second in range(60):
        limit.accepted(float(second), 1, held_back=0)
    assert limit.rate == before


def test_another_replicas_view_is_taken_where_there_is_none_and_approached_where_there_is() -> None:
    limit = Limit(None, 0)
    limit.adopt(20)
    assert limit.rate == 20
    limit.adopt(40)
    assert limit.rate is not None
    assert 20 < limit.rate < 24

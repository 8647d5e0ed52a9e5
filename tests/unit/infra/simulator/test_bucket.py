"""A bucket never gives more than came in, and tells the truth about when there is enough."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from infra.simulator.bucket import Bucket

rates = st.floats(0.01, 20)
capacities = st.floats(1, 20)
gaps = st.lists(st.floats(0, 3), min_size=1, max_size=12)


@given(rates, capacities, gaps)
def test_in_no_time_more_is_taken_than_was_saved_and_came_in(per_s: float, capacity: float, gaps: list[float]) -> None:
    bucket = Bucket(per_s, capacity, now_s=0.0)
    now_s, taken = 0.0, []
    for gap in gaps:
        now_s += gap
        while bucket.wait_s(1, now_s) == 0:
            bucket.take(1, now_s)
            taken.append(now_s)
    for first, began in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= capacity + per_s * (taken[last] - began) + 1e-3


@given(rates, capacities, st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 1)), min_size=1, max_size=30))
def test_who_comes_back_when_told_is_taken_and_a_moment_before_is_not(
    per_s: float, capacity: float, calls: list[tuple[float, float]]
) -> None:
    bucket = Bucket(per_s, capacity, now_s=0.0)
    now_s = 0.0
    for gap, share in calls:
        now_s += gap
        amount = share * capacity
        wait_s = bucket.wait_s(amount, now_s)
        assert wait_s is not None
        if wait_s > 0:
            assert bucket.wait_s(amount, now_s + wait_s * 0.5) != 0 or wait_s * per_s < 1e-5
        now_s += wait_s
        assert bucket.wait_s(amount, now_s) == 0
        bucket.take(amount, now_s)
        assert bucket.level(now_s) >= 0


@given(rates, capacities)
def test_more_than_it_holds_is_never_given(per_s: float, capacity: float) -> None:
    assert Bucket(per_s, capacity, 0.0).wait_s(capacity * 1.01, 1e6) is None


@given(rates, capacities, capacities)
def test_another_size_keeps_what_fits(per_s: float, before: float, after: float) -> None:
    bucket = Bucket(per_s, before, 0.0)
    bucket.take(before / 2, 0.0)
    bucket.resize(per_s * 2, after, 0.0)
    assert bucket.level(0.0) == min(before / 2, after)
    levels = [bucket.level(float(second)) for second in range(5)]
    assert all(later >= earlier for earlier, later in pairwise(levels))
    assert bucket.level(bucket.full_in_s(0.0) + 1e-6) >= after - 1e-3


def test_one_can_always_be_saved_up() -> None:
    bucket = Bucket(per_s=0.5, capacity=0.0, now_s=0.0)
    bucket.take(1, 0.0)
    assert bucket.wait_s(1, 0.0) == 2.0

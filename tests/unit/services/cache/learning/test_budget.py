"""Extra calls within any hour, and work within any second."""

from hypothesis import given
from hypothesis import strategies as st

from services.cache.learning.budget import HOUR_S, HourlyBudget, Pace


@given(
    most=st.integers(0, 5),
    pauses=st.lists(st.floats(0, 2 * HOUR_S, allow_nan=False), max_size=40),
)
def test_never_more_than_so_many_within_an_hour(most: int, pauses: list[float]) -> None:
    budget, now, spent = HourlyBudget(most), 0.0, list[float]()
    for pause in pauses:
        now += pause
        if budget.left(now):
            budget.spend(now)
            spent.append(now)
    for start in spent:
        assert sum(start <= at < start + HOUR_S for at in spent) <= most


def test_it_comes_back_after_the_hour() -> None:
    budget = HourlyBudget(1)
    budget.spend(0.0)
    assert not budget.left(HOUR_S - 1)
    assert budget.left(HOUR_S)


@given(pauses=st.lists(st.floats(0, 3, allow_nan=False), max_size=60))
def test_a_pace_is_kept_over_any_time_with_no_more_than_a_second_saved_up(pauses: list[float]) -> None:
    pace, now, taken = Pace(2.0), 0.0, list[float]()
    for pause in pauses:
        now += pause
        if pace.take(now):
            taken.append(now)
    for place, start in enumerate(taken):
        for number, end in enumerate(taken[place:], start=1):
            assert number <= 2 + 2 * (end - start) + 1e-6


def test_a_pace_that_is_not_used_up_lets_everything_through() -> None:
    pace = Pace(2.0)
    assert all(pace.take(at / 2) for at in range(100))

"""Extra calls within any hour."""

from hypothesis import given
from hypothesis import strategies as st

from services.cache.learning.budget import HOUR_S, HourlyBudget


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

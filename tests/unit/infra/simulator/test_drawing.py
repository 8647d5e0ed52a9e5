"""Chance that repeats itself."""

from statistics import mean, median, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.simulator.drawing import Draws, latency_s
from infra.simulator.scenario import Constant, Lognormal, Uniform

UNIFORM = st.floats(0, 1, exclude_max=True)


def sample(purpose: str = "latency", *, seed: int = 1, key: str = "a", count: int = 4000) -> list[float]:
    return [Draws(seed, key, number).uniform(purpose) for number in range(count)]


@given(st.integers(), st.text(), st.integers(min_value=0), st.text())
def test_a_draw_is_below_one_and_always_the_same(seed: int, key: str, number: int, purpose: str) -> None:
    drawn = Draws(seed, key, number).uniform(purpose)
    assert 0 <= drawn < 1
    assert drawn == Draws(seed, key, number).uniform(purpose)


def test_draws_spread_evenly() -> None:
    drawn = sample()
    assert mean(drawn) == pytest.approx(0.5, abs=0.02)
    assert stdev(drawn) == pytest.approx(12**-0.5, abs=0.02)


@pytest.mark.parametrize("other", [sample("fault 0"), sample(seed=2), sample(key="b")])
def test_another_seed_key_or_purpose_draws_something_else(other: list[float]) -> None:
    drawn = sample()
    centred = [(one - 0.5) * (two - 0.5) for one, two in zip(drawn, other, strict=True)]
    assert abs(mean(centred) * 12) < 0.1


@given(UNIFORM)
def test_latencies_stay_within_their_bounds(uniform: float) -> None:
    assert latency_s(Constant(value=2), uniform) == 2
    assert 1 <= latency_s(Uniform(kind="uniform", low=1, high=4), uniform) <= 4
    assert 3 <= latency_s(Lognormal(kind="lognormal"), uniform) <= 30


def test_the_lognormal_is_what_its_docstring_says() -> None:
    drawn = [latency_s(Lognormal(kind="lognormal", low=3, high=30), uniform) for uniform in sample()]
    assert median(drawn) == pytest.approx(9.5, rel=0.03)
    assert mean(drawn) > median(drawn)
    # One sigma of the logarithm is 0.59: 68 % of the uncut distribution, 72 % of what the cut leaves.
    within = sum(9.49 / 1.80 <= one <= 9.49 * 1.80 for one in drawn) / len(drawn)
    assert within == pytest.approx(0.683 / 0.95, abs=0.02)

"""The rule: a share that is several times the usual one, and counts that can't be chance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.trends.decision import Evidence
from services.trends.rates import Rate, Rates

PRIOR = 0.001


def test_the_ratio_is_of_shares_so_a_load_that_doubles_is_no_trend() -> None:
    calm, doubled = Evidence(9, 900, 530, 53_000), Evidence(18, 1800, 530, 53_000)
    assert calm.ratio(PRIOR) == doubled.ratio(PRIOR) < 1
    assert calm.significance == pytest.approx(0, abs=0.01)
    assert doubled.significance == pytest.approx(0, abs=0.01)


def test_the_credit_of_a_rare_topic_grows_with_the_load() -> None:
    for load in (1, 10, 100):
        assert Evidence(2.7 * load, 900 * load, 0, 53_000 * load).ratio(PRIOR) == pytest.approx(3)


def test_two_requests_for_something_new_are_a_high_ratio_and_could_be_chance() -> None:
    two, twenty = Evidence(2, 90, 0, 5300), Evidence(20, 90, 0, 5300)
    assert two.ratio(PRIOR) > 20
    assert two.significance < 36 < twenty.significance


def test_a_busy_topic_that_is_a_bit_busier_is_significant_and_a_low_ratio() -> None:
    busy = Evidence(1500, 9000, 53_000, 530_000)
    assert busy.significance > 36
    assert busy.ratio(PRIOR) < 2


def test_a_history_of_a_minute_says_less_than_one_of_hours() -> None:
    minute, hours = Evidence(12, 100, 1, 40), Evidence(12, 100, 130, 5300)
    assert minute.significance < hours.significance


def test_what_is_recent_is_no_part_of_what_is_usual() -> None:
    assert Evidence.of(Rate(10, 10, 0), Rate(20, 50, 0)) == Evidence(10, 20, 0, 30)
    assert Evidence(1, 1, 0, 0).significance == 0
    assert Evidence(0, 0, 0, 0).ratio(PRIOR) == 0


@given(*(st.floats(0, 1e6) for _ in range(4)))
def test_it_is_a_number_for_whatever_was_counted(now: float, more: float, usual: float, other: float) -> None:
    evidence = Evidence(now, now + more, usual, usual + other)
    assert evidence.significance >= 0
    assert evidence.ratio(PRIOR) >= 0


@given(st.floats(1, 1e4), st.floats(1.01, 100))
def test_more_of_the_same_is_never_less_significant(count: float, times: float) -> None:
    few, more = Evidence(count, 1e5, 3, 1e6), Evidence(count * times, 1e5, 3, 1e6)
    assert more.significance >= few.significance


def test_chance_alone_passes_the_floor_as_seldom_as_it_says() -> None:
    random, rates = np.random.default_rng(4), Rates[str](fast_s=180, slow_s=10_800, max_names=10)
    values = []
    for step, (one, rest) in enumerate(zip(random.poisson(0.5, 40_000), random.poisson(24, 40_000), strict=True)):
        at = step * 5.0
        rates.add("one", int(one), at)
        rates.add("all", int(one + rest), at)
        if step > 8_000:
            values.append(Evidence.of(rates.at("one", at), rates.at("all", at)).significance)
    assert np.mean(np.array(values) > 3.84) < 0.05  # half of chi-square's 5 %, and what is correlated scatters
    assert max(values) < 36

"""APGR and CPT, by their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.learning.evaluation import GRID, NothingToGain, apgr, at_random, difference, recovered, worth

GAINS = np.array([1.0, 0.0, 0.0, 1.0, -1.0, 0.0, 1.0, 0.0] * 25)
scores = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).permutation(len(GAINS)).astype(float))


def test_two_prompts_by_hand() -> None:
    gains = np.array([1.0, 0.0])
    assert apgr(np.array([2.0, 1.0]), gains) == pytest.approx(0.75, abs=1e-3)
    assert apgr(np.array([1.0, 2.0]), gains) == pytest.approx(0.25, abs=1e-3)
    known = worth(np.array([2.0, 1.0]), gains, resamples=20)
    assert (known.cpt50.value, known.cpt80.value) == (25.0, 40.0)


def test_the_running_maximum_counts() -> None:
    """The gap is recovered at 40 % of the prompts, and lost again by harm done after that."""
    gains = np.array([1.0, 1.0, 0.0, -1.0, 1.0])
    ranked = np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    assert worth(ranked, gains, resamples=20).cpt80.value == pytest.approx(32, abs=0.5)


@given(scores)
def test_only_the_order_counts(drawn: np.ndarray) -> None:
    assert apgr(drawn, GAINS) == apgr(np.exp(drawn / 50), GAINS)


@given(scores)
def test_the_opposite_order_has_the_rest(drawn: np.ndarray) -> None:
    assert apgr(drawn, GAINS) + apgr(-drawn, GAINS) == pytest.approx(1.0, abs=0.01)


@given(scores)
def test_who_sends_nothing_recovers_nothing_and_who_sends_all_recovers_all(drawn: np.ndarray) -> None:
    curve = recovered(drawn, GAINS, np.random.default_rng(0))
    assert curve.shape == GRID.shape
    assert (curve[0], curve[-1]) == (0.0, 1.0)


@given(scores)
def test_nobody_beats_who_knows_the_gains(drawn: np.ndarray) -> None:
    assert apgr(drawn, GAINS) <= apgr(GAINS, GAINS) + 1e-9


def test_equal_scores_are_worth_what_luck_gives() -> None:
    lucky = at_random(GAINS)
    assert lucky.apgr.value == pytest.approx(0.5, abs=0.02)
    assert lucky.apgr.low < 0.5 < lucky.apgr.high
    assert lucky.apgr.low < apgr(np.zeros(len(GAINS)), GAINS) < lucky.apgr.high


def test_the_interval_holds_the_value_and_is_the_same_each_time() -> None:
    drawn = np.random.default_rng(3).random(len(GAINS)) + GAINS
    known = worth(drawn, GAINS)
    assert known == worth(drawn, GAINS)
    assert known.apgr.low < known.apgr.value < known.apgr.high


def test_a_score_is_no_better_than_itself() -> None:
    drawn = np.random.default_rng(4).random(len(GAINS))
    assert tuple(map(float, (difference(drawn, drawn, GAINS).low, difference(drawn, drawn, GAINS).high))) == (0.0, 0.0)


@pytest.mark.parametrize("gains", [np.zeros(4), np.array([-1.0, 0.0, 0.0, 0.0]), np.empty(0)])
def test_without_a_gap_there_is_nothing_to_recover(gains: np.ndarray) -> None:
    with pytest.raises(NothingToGain, match="no better"):
        worth(np.zeros(len(gains)), gains)
    with pytest.raises(NothingToGain):
        difference(np.zeros(len(gains)), np.zeros(len(gains)), gains)

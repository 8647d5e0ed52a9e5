"""Where the uppermost share of the recent scores begins."""

import random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.calibration import FARTHEST, Boundary, RecentScores, Unpublished, draw, place_of

HOUR = 3600.0
counts = st.dictionaries(st.integers(-500, 500), st.integers(1, 50), min_size=1, max_size=20)
shares = st.floats(0, 1)


def counted(places: dict[int, int], neutral: int = 0) -> RecentScores:
    recent = RecentScores(HOUR)
    recent.add(places, neutral, 0.0)
    return recent


def lifted(boundary: Boundary, places: dict[int, int]) -> float:
    """Requests above a boundary, those at it by the portion that belongs to it."""
    above = sum(count for place, count in places.items() if place > boundary.place)
    return above + places.get(boundary.place, 0) * boundary.portion


@given(counts, shares)
def test_the_share_is_met_exactly_where_all_have_a_score(places: dict[int, int], share: float) -> None:
    total = sum(places.values())
    assert lifted(counted(places).boundary(share, neutral_above=False), places) == pytest.approx(share * total)


@given(counts, st.integers(0, 200), shares)
def test_the_share_is_never_exceeded_by_those_ranked_under_the_default(
    places: dict[int, int], neutral: int, share: float
) -> None:
    total = sum(places.values()) + neutral
    boundary = counted(places, neutral).boundary(share, neutral_above=False)
    assert lifted(boundary, places) <= share * total + 1e-6
    positive = sum(count for place, count in places.items() if place >= 0)
    if share * total > positive and neutral:
        assert lifted(boundary, places) == pytest.approx(positive)  # what speaks against is not lifted over them


@given(counts, st.integers(0, 200), shares)
def test_where_the_default_is_within_the_share_less_is_left_for_the_others(
    places: dict[int, int], neutral: int, share: float
) -> None:
    total = sum(places.values()) + neutral
    boundary = counted(places, neutral).boundary(share, neutral_above=True)
    assert lifted(boundary, places) == pytest.approx(min(total - neutral, max(0.0, share * total - neutral)))


@given(st.lists(counts, min_size=1, max_size=6), st.randoms(use_true_random=False), shares)
def test_the_counts_of_replicas_add_up_in_any_order(
    deltas: list[dict[int, int]], rng: random.Random, share: float
) -> None:
    one, other = RecentScores(HOUR), RecentScores(HOUR)
    for delta in deltas:
        one.add(delta, 1, 7.0)
    for delta in rng.sample(deltas, len(deltas)):
        other.add(delta, 1, 7.0)
    assert one.total(7.0) == pytest.approx(other.total(7.0))
    mine, theirs = (each.boundary(share, neutral_above=False) for each in (one, other))
    assert mine.place == theirs.place
    assert mine.portion == pytest.approx(theirs.portion, abs=1e-6)


def test_what_was_seen_a_half_life_ago_counts_half() -> None:
    recent = counted({100: 100})
    recent.add({200: 50}, 0, HOUR)
    assert recent.total(HOUR) == pytest.approx(100)
    assert recent.boundary(0.5, neutral_above=False) == Boundary(100, 0.0)


def test_the_total_is_the_same_before_and_after_all_is_scaled() -> None:
    recent = counted({100: 10})
    for hour in range(1, 100):
        recent.add({100: 300}, 0, hour * HOUR)
    later = 100.5 * HOUR
    assert recent.total(later) == pytest.approx(recent.total(later))
    assert recent.total(later) < 600


def test_a_share_of_nothing_lifts_nothing_whatever_its_score() -> None:
    for recent in (counted({100: 10}), counted({}, 300)):
        boundary = recent.boundary(0.0, neutral_above=False)
        assert not boundary.reached(1e9, UUID(int=0))


def test_where_nothing_was_known_of_any_request_what_speaks_against_is_not_lifted() -> None:
    boundary = counted({}, 300).boundary(0.5, neutral_above=False)
    assert boundary.reached(0.5, UUID(int=0))
    assert not boundary.reached(-0.5, UUID(int=0))


def test_very_old_scores_are_forgotten_and_the_numbers_stay_small() -> None:
    recent = counted({100: 1000})
    recent.add({200: 3}, 0, 500 * HOUR)
    recent.add({300: 3}, 0, 1000 * HOUR)
    assert recent.total(1000 * HOUR) == pytest.approx(3)
    assert recent.boundary(0.5, neutral_above=False).place == 300


def test_memory_is_bounded_by_the_places_a_score_can_have() -> None:
    recent = counted({place_of(score): 1 for score in (-1e9, -100.0004, 0.0001, 0.0004, 1e9)})
    assert recent.boundary(0.2, neutral_above=False).place == FARTHEST
    assert place_of(-1e9) == -FARTHEST
    assert place_of(float("inf")) == FARTHEST
    assert place_of(0.0004) == 0


@given(st.integers(0, 2**128 - 1))
def test_a_request_is_always_drawn_alike(number: int) -> None:
    request_id = UUID(int=number)
    assert 0 <= draw(request_id) < 1
    boundary = Boundary(1000, 0.5)
    assert boundary.reached(1.0, request_id) == (draw(request_id) < 0.5)
    assert boundary.reached(1.001, request_id)
    assert not boundary.reached(0.999, request_id)


def test_a_threshold_that_was_set_is_reached_by_the_score_itself() -> None:
    assert Boundary.fixed(1.5).reached(1.5, UUID(int=2**48 - 1))


def test_what_was_announced_is_not_announced_again() -> None:
    unpublished = Unpublished()
    unpublished.count("rules", 1.0)
    unpublished.count("rules", 1.0)
    unpublished.count("rules", None)
    unpublished.count("head", -0.5)
    assert unpublished.take() == {"rules": ({1000: 2}, 1), "head": ({-500: 1}, 0)}
    assert unpublished.take() == {}

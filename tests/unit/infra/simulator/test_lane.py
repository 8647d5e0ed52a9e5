"""What a key may do, and what it is told when it wants more."""

import pytest

from infra.simulator.lane import Lane, Refusal
from infra.simulator.scenario import Limits


def test_a_key_without_limits_may_do_anything() -> None:
    lane = Lane(Limits(), 0.0)
    assert [lane.admit(10**9, 0.0) for _ in range(1000)] == [None] * 1000
    assert lane.standing(0.0) == []
    assert lane.requests_per_s is None


def test_calls_beyond_the_burst_are_told_when_to_come_back() -> None:
    lane = Lane(Limits(requests_per_minute=60, burst_s=3), 0.0)
    assert [lane.admit(1, 0.0) for _ in range(3)] == [None] * 3
    assert lane.admit(1, 0.25) == Refusal("requests", 0.75, 1, 60)
    assert lane.admit(1, 1.0) is None


def test_the_limit_that_lasts_longest_is_the_one_that_is_told() -> None:
    lane = Lane(Limits(requests_per_minute=60, tokens_per_minute=600, burst_s=1), 0.0)
    assert lane.admit(10, 0.0) is None
    assert lane.admit(1, 0.0) == Refusal("requests", 1.0, 1, 60)
    assert lane.admit(8, 0.5) == Refusal("requests", 0.5, 1, 60)
    assert lane.admit(10, 0.5) is not None


def test_who_is_refused_is_charged_nothing() -> None:
    lane = Lane(Limits(requests_per_minute=60, tokens_per_minute=600, burst_s=1), 0.0)
    assert lane.admit(10, 0.0) is None
    for _ in range(20):
        assert lane.admit(10, 0.5) is not None
    assert lane.admit(10, 1.0) is None


def test_more_tokens_than_can_be_saved_up_are_never_taken() -> None:
    lane = Lane(Limits(tokens_per_minute=600, burst_s=1), 0.0)
    assert lane.admit(11, 0.0) == Refusal("tokens", None, 11, 600)


def test_a_place_is_free_when_a_call_has_ended() -> None:
    lane = Lane(Limits(concurrency=2), 0.0)
    assert [lane.admit(1, 0.0), lane.admit(1, 0.0)] == [None, None]
    assert lane.admit(1, 0.0) == Refusal("concurrency", None, 1, 2)
    lane.release()
    assert lane.admit(1, 0.0) is None
    assert lane.in_flight == 2


def test_other_limits_start_from_what_is_saved_up() -> None:
    lane = Lane(Limits(requests_per_minute=60, burst_s=1), 0.0)
    assert lane.admit(1, 0.0) is None
    lane.adapt(Limits(requests_per_minute=120, burst_s=1), 0.0)
    assert lane.admit(1, 0.0) == Refusal("requests", 0.5, 1, 120)
    lane.adapt(Limits(), 0.0)
    assert lane.admit(1, 0.0) is None


def test_a_lane_knows_how_its_limits_stand() -> None:
    lane = Lane(Limits(requests_per_minute=60, tokens_per_minute=6000, burst_s=10), 0.0)
    assert lane.admit(500, 0.0) is None
    requests, tokens = lane.standing(1.0)
    assert (requests.of, requests.per_minute, requests.remaining, requests.full_in_s) == ("requests", 60, 10, 0.0)
    assert (tokens.of, tokens.per_minute, tokens.remaining) == ("tokens", 6000, 600)
    assert tokens.full_in_s == pytest.approx(4.0)

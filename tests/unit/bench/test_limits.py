"""The figures of the bench of limits, from what a provider saw."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from shared.policy import parse_policy
from tests.bench.limit_provider import SLICE_S, Course, Seen, Slice
from tests.bench.limit_replicas import lane, policy, shares, toml

COURSE = Course(per_s=10, doubled_s=2, steady_s=4, outage_s=8, back_s=10, end_s=16)


def seen(*rates: tuple[float, float, int, int]) -> Seen:
    """What was seen: from a time to a time so many calls in each slice, of which so many were useful."""
    return Seen(
        COURSE,
        [
            Slice(round(number * SLICE_S, 1), calls, useful, calls - useful, 10)
            for from_s, to_s, calls, useful in rates
            for number in range(round(from_s / SLICE_S), round(to_s / SLICE_S))
        ],
    )


def test_only_steady_overload_counts_for_what_is_used_and_refused() -> None:
    one = seen((0, 4, 9, 0), (4, 8, 2, 1), (8, 16, 7, 0))
    assert one.used == pytest.approx(1.0)
    assert one.refused == pytest.approx(0.5)
    assert one.useful_in_steady == 40


def test_the_peak_is_of_any_second_after_the_outage_and_of_no_other() -> None:
    assert seen((0, 10, 50, 0), (10, 12, 1, 1), (12.5, 13, 3, 1), (14, 16, 1, 1)).peak == pytest.approx(1.5)


def test_nobody_who_calls_has_no_peak() -> None:
    assert seen((0, 10, 1, 1)).peak == 0


@pytest.mark.parametrize(("begins_s", "took_s"), [(2, 3.0), (4, 5.0 - 0.1)])
def test_a_limit_is_used_when_nearly_all_of_it_was_for_three_seconds(begins_s: float, took_s: float) -> None:
    used = seen((0, begins_s, 1, 0), (begins_s, 8, 1, 1))
    assert used.used_after(COURSE.doubled_s, COURSE.outage_s) == pytest.approx(took_s)


def test_a_limit_that_is_not_used_before_the_end_has_no_time() -> None:
    assert math.isnan(seen((0, 6, 1, 0), (6, 8, 1, 1)).used_after(COURSE.doubled_s, COURSE.outage_s))


def test_what_the_provider_tells_becomes_slices_of_all_keys() -> None:
    def tally(*series: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"series": list(series)}

    def told(at_s: float, limit_per_s: float | None) -> Mapping[str, Any]:
        return {"at_s": at_s, "calls": 3, "useful": 1, "refused": 2, "faults": 0, "limit_per_s": limit_per_s}

    counts = {"keys": {"a": tally(told(0.1, 5.0)), "b": tally(told(0.0, None))}}
    assert Seen.of(COURSE, counts).slices == [Slice(0.0, 3, 1, 2, 10), Slice(0.1, 3, 1, 2, 5.0)]


@pytest.mark.parametrize(("workers", "expected"), [(50, [17, 17, 16]), (100, [34, 33, 33]), (2, [1, 1, 0])])
def test_workers_are_shared_out_evenly(workers: int, expected: Sequence[int]) -> None:
    assert shares(workers, 3) == expected


def test_the_policy_of_a_run_is_one_when_it_is_read_again() -> None:
    data = policy("two", [lane("one", "http://127.0.0.1:1/v1"), lane("other", "http://127.0.0.1:2/v1")])
    read = tomllib.loads(toml(data))
    assert parse_policy(read) == parse_policy(data)
    assert [each.name for each in parse_policy(read).tiers["two"].lanes] == ["one", "other"]

"""OpenAI's headers, in its formats."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.simulator.headers import duration, ratelimit, retry_after
from infra.simulator.lane import Standing


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "0s"),
        (0.0004, "1ms"),
        (0.12, "120ms"),
        (1, "1s"),
        (8.64, "8.64s"),
        (86.4, "1m26.4s"),
        (360, "6m0s"),
        (3600, "1h0m0s"),
        (90_000.5, "25h0m0.5s"),
    ],
)
def test_durations_are_written_as_openai_does(seconds: float, written: str) -> None:
    assert duration(seconds) == written


@given(st.floats(0, 1e6))
def test_no_duration_is_told_too_short(seconds: float) -> None:
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    read = sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)(ms|h|m|s)", duration(seconds)))
    assert seconds - 1e-6 <= read <= seconds + 0.0011


@given(st.floats(0, 1e6))
def test_nobody_is_told_to_come_back_too_early(seconds: float) -> None:
    told = retry_after(seconds)
    assert int(told["retry-after-ms"]) / 1000 >= seconds
    assert seconds <= int(told["Retry-After"]) <= seconds + 1


def test_limits_are_told_by_the_clients_clock() -> None:
    told = ratelimit([Standing("requests", 600, 7, 30.0)], scale=10)
    assert told == {
        "x-ratelimit-limit-requests": "6000",
        "x-ratelimit-remaining-requests": "7",
        "x-ratelimit-reset-requests": "3s",
    }

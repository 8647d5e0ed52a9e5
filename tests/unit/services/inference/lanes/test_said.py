"""What headers say of a provider's limits."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.lanes.said import Allowance, said, seconds

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def openai(**changes: str) -> dict[str, str]:
    headers = {"limit": "600", "remaining": "599", "reset": "100ms"} | changes
    return {f"X-RateLimit-{name.title()}-Requests": value for name, value in headers.items()}


def test_the_names_of_openai() -> None:
    assert said(openai()) is not None
    both = said({**openai(), "x-ratelimit-limit-tokens": "9000", "x-ratelimit-remaining-tokens": "10"})
    assert both is not None
    assert both.calls == Allowance(600, 599, 0.1)
    assert both.tokens == Allowance(9000, 10, None)


def test_the_names_of_anthropic() -> None:
    prefix = "anthropic-ratelimit-requests-"
    headers = {f"{prefix}limit": "50", f"{prefix}remaining": "40", f"{prefix}reset": "2026-01-02T03:04:17Z"}
    known = said(headers, now=NOW)
    assert known is not None
    assert known.calls == Allowance(50, 40, 12)
    assert known.tokens is None


@pytest.mark.parametrize("limit", ["-1", "0", "nan", "inf", "many", ""])
def test_what_is_no_number_of_calls_is_no_limit(limit: str) -> None:
    assert said(openai(limit=limit)) is None


@pytest.mark.parametrize("remaining", ["nan", "-inf", "some"])
def test_nor_is_one_of_which_nothing_sensible_remains(remaining: str) -> None:
    assert said(openai(remaining=remaining)) is None


def test_other_headers_say_nothing() -> None:
    assert said({"date": "today", "x-ratelimit-limit-requests": "600"}) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("6m0s", 360),
        ("120ms", 0.12),
        ("1.5", 1.5),
        ("2h3m4.5s", 7_384.5),
        ("1d", 86_400),
        ("2026-01-02T03:05:05+00:00", 60),
        ("2026-01-02T03:04:00Z", 0),
        ("-5", 0),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
        ("2026-01-02T03:05:05", None),
    ],
)
def test_when_it_is_full_again(text: str, expected: float | None) -> None:
    assert seconds(text, NOW) == (None if expected is None else pytest.approx(expected))


@given(st.text())
def test_any_text_is_seconds_or_nothing(text: str) -> None:
    known = seconds(text, NOW)
    assert known is None or 0 <= known < float("inf")


def test_a_limit_per_minute_is_told_from_one_per_day() -> None:
    assert Allowance(600, 599, 0.1).per_second == 10
    assert Allowance(600, 600, 0.0).per_second == 10
    assert Allowance(600, 0, None).per_second == 10
    assert Allowance(10_000, 9_000, 77_760.0).per_second is None

"""Trace context."""

import re
from contextvars import copy_context

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.telemetry import tracing

GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
FORM = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


def test_a_trace_is_carried_on_with_a_span_of_our_own() -> None:
    assert tracing.resume(GIVEN) == "0af7651916cd43dd8448eb211c80319c"
    match = FORM.fullmatch(tracing.child())
    assert match
    assert match[1] == "0af7651916cd43dd8448eb211c80319c"
    assert match[2] != "b7ad6b7169203331"


@pytest.mark.parametrize("flags", ["00", "01"])
def test_whether_it_is_sampled_is_carried_too(flags: str) -> None:
    tracing.resume(GIVEN[:-2] + flags)
    assert tracing.child().endswith(f"-{flags}")


@pytest.mark.parametrize(
    "wrong",
    [
        *(None, 5, b"", "", "00", GIVEN.upper()),
        GIVEN.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
        GIVEN.replace("b7ad6b7169203331", "0" * 16),
    ],
)
def test_what_is_no_trace_begins_a_new_one(wrong: object) -> None:
    first, second = tracing.resume(wrong), tracing.resume(wrong)
    assert first != second
    assert re.fullmatch(r"[0-9a-f]{32}", second)
    assert second in tracing.child()


@pytest.mark.parametrize("wrong", ["ff" + GIVEN[2:], GIVEN + "-more"])
def test_what_the_standard_calls_invalid_begins_a_new_trace(wrong: str) -> None:
    assert tracing.resume(wrong) != "0af7651916cd43dd8448eb211c80319c"


@given(st.text())
def test_whatever_comes_is_no_error(text: str) -> None:
    tracing.resume(text)
    assert FORM.fullmatch(tracing.child())


def test_without_a_trace_one_begins_and_stays() -> None:
    def two() -> tuple[str, str]:
        tracing._current.set(None)
        return tracing.child(), tracing.child()

    first, second = copy_context().run(two)
    assert first == second

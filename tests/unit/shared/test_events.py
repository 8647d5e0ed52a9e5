"""Events and the submission."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared import envelope
from shared.events import EVENTS, Event, RequestAccepted, Submission, decode_vector, encode_vector, example
from tests.support import make
from tests.support.clock import START

KINDS = sorted(EVENTS.values(), key=lambda kind: kind.TYPE)


@pytest.mark.parametrize("kind", KINDS)
def test_each_example_survives_the_journey(kind: type[Event]) -> None:
    event = example(kind)
    assert envelope.decode(envelope.encode(event, source="test", now=START)[0]) == event


@pytest.mark.parametrize("kind", KINDS)
def test_fields_of_a_newer_version_are_ignored(kind: type[Event]) -> None:
    body = example(kind).model_dump(mode="json") | {"invented_tomorrow": 1}
    if "request" in body:
        body["request"]["invented_tomorrow"] = {"deep": []}
    assert kind.model_validate(body) == example(kind)


def test_fields_of_a_newer_version_are_ignored_in_turns() -> None:
    request = make.request(input=({"role": "user", "content": "hello"},))
    body = RequestAccepted(request=request).model_dump(mode="json")
    body["request"]["input"][0]["name"] = "ann"
    assert RequestAccepted.model_validate(body).request == request


def test_types_are_versioned_and_unique() -> None:
    assert all(name.startswith("forebay.") and name.endswith(".v1") for name in EVENTS)
    assert len(EVENTS) == len(KINDS)


@pytest.mark.parametrize(
    "body",
    [
        {"input": "hello", "inptu": "x"},
        {"input": [{"role": "user", "content": "hello", "name": "ann"}]},
        {},
        {"input": None},
        {"input": 5},
        {"input": {"role": "user"}},
        {"input": ""},
        {"input": " \n\t"},
        {"input": "a\x00b"},
        {"input": []},
        {"input": [{"role": "user", "content": " "}]},
        {"input": [{"role": "user", "content": "a\x00"}]},
        {"input": [{"role": "tool", "content": "x"}]},
        {"input": [{"role": "assistant", "content": "hello"}]},
        {"input": [{"role": "user", "content": "x"}] * 201},
        {"input": "x", "instructions": "a\x00b"},
        {"input": "x", "instructions": 5},
        {"input": "x", "model": "m" * 201},
        {"input": "x", "max_output_tokens": 0},
        {"input": "x", "max_output_tokens": -1},
        {"input": "x", "max_output_tokens": 1.5},
        {"input": "x", "temperature": -0.1},
        {"input": "x", "temperature": 2.1},
        {"input": "x", "temperature": math.inf},
        {"input": "x", "temperature": math.nan},
        {"input": "x", "metadata": {"k": 1}},
        {"input": "x", "metadata": {"k" * 65: "v"}},
        {"input": "x", "metadata": {"k": "v" * 513}},
        {"input": "x", "metadata": {"k\x00": "v"}},
        {"input": "x", "metadata": {"k": "v\x00"}},
        {"input": "x", "metadata": {str(n): "v" for n in range(17)}},
        {"input": "x", "deadline": "tomorrow"},
        {"input": "x", "deadline": "2026-01-02T03:04:05"},
        {"input": "x", "webhook_url": "not a url"},
        {"input": "x", "webhook_url": "ftp://example.com"},
    ],
    ids=repr,
)
def test_a_submission_that_is_wrong_is_refused(body: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Submission.model_validate(body)


def test_a_submission_may_say_everything() -> None:
    submission = Submission.model_validate(
        {
            "input": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hello?"}],
            "instructions": "You are a clerk.",
            "model": "premium",
            "max_output_tokens": 1,
            "temperature": 2,
            "metadata": {"k" * 64: "v" * 512},
            "deadline": "2026-01-02T03:04:05+01:00",
            "webhook_url": "https://example.com/hook",
        }
    )
    assert submission.prompt == "Hello?"
    assert [turn.content for turn in submission.earlier] == ["Be brief."]


def test_a_prompt_alone_has_nothing_before_it() -> None:
    submission = Submission(input="Hello?")
    assert (submission.prompt, submission.earlier) == ("Hello?", ())


@given(st.lists(st.floats(-1, 1, width=16)))
def test_a_vector_of_half_floats_survives_the_journey(vector: list[float]) -> None:
    assert decode_vector(encode_vector(vector)) == tuple(vector)


@given(st.lists(st.floats(-1, 1), max_size=384))
def test_a_vector_keeps_the_precision_of_half_floats_in_two_bytes_a_dimension(vector: list[float]) -> None:
    text = encode_vector(vector)
    assert decode_vector(text) == pytest.approx(vector, rel=2**-10, abs=2**-24)
    assert len(text) == 4 * math.ceil(2 * len(vector) / 3)


def test_latency_is_from_acceptance_to_completion() -> None:
    assert make.completed(completed_at="2026-01-02T03:04:06.5Z").latency_ms == 1500

"""Events and the submission."""

import json
import math
from dataclasses import replace

import pytest
from pydantic import ValidationError

from shared import envelope
from shared.errors import UndecodableMessage
from shared.events import (
    EVENTS,
    Event,
    OutputFormat,
    RequestAccepted,
    RequestMissed,
    Selector,
    Submission,
)
from shared.examples import example
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


def test_a_topic_has_no_more_than_some_words() -> None:
    assert Selector(topic="x" * 1000).topic
    with pytest.raises(ValidationError, match="at most 1000 characters"):
        Selector(topic="x" * 1001)


def test_a_key_of_an_earlier_version_can_be_read() -> None:
    body = make.missed().model_dump(mode="json")
    del body["key"]["base"], body["key"]["embedder"]
    key = RequestMissed.model_validate(body).key
    assert key is not None
    assert (key.base, key.embedder) == (None, "")


@pytest.mark.parametrize("field", ["cost_usd", "saved_usd"])
@pytest.mark.parametrize("amount", ["1e300", "1e400", "-1"])
def test_an_amount_that_cannot_be_added_up_is_no_amount(field: str, amount: str) -> None:
    message = envelope.encode(make.completed(cost_usd=0.5, saved_usd=0.5), source="test", now=START)[0]
    body = message.body.replace(f'"{field}":0.5'.encode(), f'"{field}":{amount}'.encode())
    with pytest.raises(UndecodableMessage, match=field):
        envelope.decode(replace(message, body=body))


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


SCHEMA = {"type": "object", "properties": {"city": {"enum": ["Paris", None]}}, "additionalProperties": False}


def test_an_output_format_survives_the_journey() -> None:
    said = {"format": {"type": "json_schema", "name": "capital", "schema": SCHEMA, "strict": True}}
    event = RequestAccepted(request=make.request(text=said, top_p=0.5))
    (message,) = envelope.encode(event, source="test", now=START)
    assert json.loads(message.body)["request"]["text"] == said
    assert envelope.decode(message) == event
    assert event.request.output_format is not None
    assert event.request.output_format.json_schema == SCHEMA


@pytest.mark.parametrize("text", [None, {"format": {"type": "text"}}])
def test_plain_text_is_no_format(text: object) -> None:
    assert make.request(text=text).output_format is None


@pytest.mark.parametrize(
    ("format_", "told"),
    [
        ({"type": "json_schema"}, "json_schema needs name and schema"),
        ({"type": "json_schema", "name": "n"}, "json_schema needs schema"),
        ({"type": "text", "strict": False}, "strict: only with the type json_schema, not with text"),
        ({"type": "json_object", "name": "n", "schema": {}}, "name, schema: only with the type json_schema"),
        ({"type": "json_schema", "name": "n" * 65, "schema": {}}, "pattern"),
        ({"type": "json_schema", "name": "n", "schema": {"a\x00": 1}}, "NUL"),
        ({"type": "json_schema", "name": "n", "schema": {"a": [{"b": "\x00"}]}}, "NUL"),
        ({"type": "json_schema", "name": "n", "schema": {"maximum": float("inf")}}, "not finite"),
        ({"type": "json_schema", "name": "n", "schema": []}, "dictionary"),
        ({"type": "json_schema", "name": "n", "json_schema": {}}, "Extra inputs"),
        ({"type": "yaml"}, "'text', 'json_object' or 'json_schema'"),
    ],
)
def test_a_format_nobody_can_give_is_refused_at_the_door(format_: object, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Submission.model_validate({"input": "x", "text": {"format": format_}})


def test_fields_of_a_newer_version_are_ignored_in_formats() -> None:
    said = {"format": {"type": "json_object", "invented": 1}, "verbosity": "low"}
    assert make.request(text=said).output_format == OutputFormat(type="json_object")


def test_a_prompt_alone_has_nothing_before_it() -> None:
    submission = Submission(input="Hello?")
    assert (submission.prompt, submission.earlier) == ("Hello?", ())


def test_latency_is_from_acceptance_to_completion() -> None:
    assert make.completed(completed_at="2026-01-02T03:04:06.5Z").latency_ms == 1500

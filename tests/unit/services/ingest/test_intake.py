"""What both doors take, and what they say to the rest."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.intake import Intake, digest, priority_named, tenant_named
from shared.errors import InvalidRequest, RequestTooLarge
from shared.events import Priority, ReplyAddress, Submission
from tests.support import make
from tests.support.clock import START, ManualClock

MOST_BYTES = 5000
INTAKE = Intake(make.policy(), ManualClock(), max_body_bytes=MOST_BYTES)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
bodies = st.dictionaries(st.sampled_from([*Submission.model_fields, "other"]), values)


def refused(body: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as raised:
        INTAKE.parse(body if isinstance(body, bytes) else json.dumps(body).encode())
    return raised.value


@given(st.binary(max_size=6000) | bodies.map(lambda body: json.dumps(body).encode()))
def test_any_bytes_are_a_request_or_a_clear_refusal(body: bytes) -> None:
    try:
        submission = INTAKE.parse(body)
    except InvalidRequest as error:
        refusal = error
    else:
        assert submission.prompt.strip()
        return
    assert refusal.message
    assert refusal.pointer == "" or refusal.pointer.startswith("/")


@pytest.mark.parametrize(
    "body",
    [b"", b"nonsense", b"[]", b"null", b'"hello"', b"\xff", b"[" * 4000, b'{"input":' * 500, b'{"input": "\\ud800"}'],
)
def test_what_is_no_json_object_is_refused_as_a_whole(body: bytes) -> None:
    assert refused(body).code == "invalid_request"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/input"),
        ({"input": 5}, "/input"),
        ({"input": " "}, "/input"),
        ({"input": "a\x00"}, "/input"),
        ({"input": []}, "/input"),
        ({"input": [{"role": "user", "content": ""}]}, "/input/0/content"),
        ({"input": [{"role": "user", "content": "x"}, {"role": "user"}]}, "/input/1/content"),
        ({"input": [{"role": "user", "content": "x", "name": "y"}]}, "/input/0/name"),
        ({"input": "x", "inptu": "x"}, "/inptu"),
        ({"input": "x", "a/b~c": 1}, "/a~1b~0c"),
        ({"input": "x", "temperature": "0.5"}, "/temperature"),
        ({"input": "x", "temperature": 3}, "/temperature"),
        ({"input": "x", "max_output_tokens": -1}, "/max_output_tokens"),
        ({"input": "x", "max_output_tokens": "5"}, "/max_output_tokens"),
        ({"input": "x", "max_output_tokens": True}, "/max_output_tokens"),
        ({"input": "x", "max_output_tokens": 10**40}, "/max_output_tokens"),
        ({"input": "x", "metadata": {"k": 1}}, "/metadata/k"),
        ({"input": "x", "metadata": {"k" * 65: "v"}}, "/metadata/" + "k" * 65),
        ({"input": "x", "model": "huge"}, "/model"),
        ({"input": "x", "deadline": "2026-01-02T03:04:05Z"}, "/deadline"),
        ({"input": "x", "deadline": "2020-01-01T00:00:00Z"}, "/deadline"),
        ({"input": "x", "deadline": "0001-01-01T00:00:00+23:59"}, "/deadline"),
        ({"input": "x", "deadline": 5}, "/deadline"),
        ({"input": "x", "webhook_url": "nowhere"}, "/webhook_url"),
        ({"input": "x", "top_p": 0}, "/top_p"),
        ({"input": "x", "top_p": 1.1}, "/top_p"),
        ({"input": "x", "text": "json"}, "/text"),
        ({"input": "x", "text": {}}, "/text/format"),
        ({"input": "x", "text": {"format": {"type": "text"}, "verbosity": "low"}}, "/text/verbosity"),
        ({"input": "x", "text": {"format": {"type": "grammar"}}}, "/text/format/type"),
        ({"input": "x", "text": {"format": {"type": "json_schema", "schema": {}}}}, "/text/format"),
        ({"input": "x", "text": {"format": {"type": "json_schema", "name": "a b", "schema": {}}}}, "/text/format/name"),
        ({"input": "x", "text": {"format": {"type": "text", "description": "y"}}}, "/text/format/description"),
        (
            {"input": "x", "text": {"format": {"type": "json_schema", "name": "n", "schema": {"a": ["\x00"]}}}},
            "/text/format/schema",
        ),
        ({"input": "x", "tools": []}, "/tools"),
    ],
    ids=repr,
)
def test_a_refusal_points_at_what_is_wrong(body: dict[str, Any], pointer: str) -> None:
    assert refused(body).pointer == pointer


def test_a_conversation_that_ends_with_the_assistant_says_so() -> None:
    error = refused({"input": [{"role": "assistant", "content": "Hello"}]})
    assert "last turn" in error.message
    assert "Value error" not in error.message


def test_an_unknown_model_is_told_with_those_that_are_known() -> None:
    assert refused({"input": "x", "model": "huge"}).message == (
        "unknown model 'huge'; known: auto, light, premium, large, tiny"
    )


@pytest.mark.parametrize(
    ("model", "most"), [("auto", 200), ("light", 100), ("tiny", 100), ("local/large", 200), ("premium", 200)]
)
def test_no_more_tokens_than_the_tier_may_give(model: str, most: int) -> None:
    body = {"input": "x", "model": model, "max_output_tokens": most}
    assert INTAKE.parse(json.dumps(body).encode()).max_output_tokens == most
    error = refused(body | {"max_output_tokens": most + 1})
    assert (error.pointer, error.message) == ("/max_output_tokens", f"must be at most {most}")


def test_a_body_may_have_as_many_bytes_as_allowed_and_not_one_more() -> None:
    body = json.dumps({"input": "x" * (MOST_BYTES - len('{"input": ""}'))}).encode()
    assert len(body) == MOST_BYTES
    assert INTAKE.parse(body).prompt
    with pytest.raises(RequestTooLarge):
        INTAKE.parse(body + b" ")


def test_what_was_accepted_says_all_that_was_asked() -> None:
    body = {
        "input": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}],
        "instructions": "You are a clerk.",
        "model": "light",
        "max_output_tokens": 10,
        "temperature": 0.5,
        "metadata": {"k": "v"},
        "deadline": "2030-01-01T00:00:00Z",
        "webhook_url": "https://example.com/",
    }
    submission = INTAKE.parse(json.dumps(body).encode())
    request_id, reply = make.new_id(), ReplyAddress(queue="q")
    event = INTAKE.accept(submission, request_id=request_id, tenant="acme", priority=Priority.BULK, reply=reply)
    request = event.request
    assert (request.id, request.tenant, request.priority, request.reply) == (request_id, "acme", Priority.BULK, reply)
    assert request.accepted_at == START
    assert request.digest == digest(submission)
    assert Submission.model_validate(request.model_dump(include=set(body))) == submission
    assert type(event).model_validate_json(event.model_dump_json()) == event


@given(st.text(min_size=1).filter(lambda text: text.strip() and "\x00" not in text), st.integers(1, 100))
def test_the_digest_is_of_what_was_asked_and_not_of_how_it_was_spelled(prompt: str, tokens: int) -> None:
    body = {"input": prompt, "max_output_tokens": tokens}
    spellings = (
        json.dumps(body),
        json.dumps(body, indent=1),
        json.dumps(dict(reversed(body.items())), ensure_ascii=False),
        json.dumps(body | {"model": "auto", "metadata": {}}),
    )
    digests = {digest(INTAKE.parse(text.encode())) for text in spellings}
    assert len(digests) == 1
    assert digest(INTAKE.parse(json.dumps(body | {"max_output_tokens": tokens % 100 + 1}).encode())) not in digests
    assert digest(INTAKE.parse(json.dumps(body | {"input": prompt + "!"}).encode())) not in digests


@pytest.mark.parametrize("name", ["acme", "a", "0", "a-b_c", "x" * 64])
def test_a_tenant_is_a_word(name: str) -> None:
    assert tenant_named(name, pointer="p") == name


@pytest.mark.parametrize("name", [None, ""])
def test_without_a_name_the_tenant_is_the_default_one(name: str | None) -> None:
    assert tenant_named(name, pointer="p") == "default"


@pytest.mark.parametrize("name", ["Acme", "a.b", "*", "#", "-a", "_a", "x" * 65, "a b", "é", "a\n", "a\x00"])
def test_what_is_no_tenant_is_refused_where_it_was_named(name: str) -> None:
    with pytest.raises(InvalidRequest, match="is no tenant") as raised:
        tenant_named(name, pointer="p")
    assert raised.value.pointer == "p"


def test_a_priority_is_one_of_two_and_interactive_by_default() -> None:
    assert priority_named(None, pointer="p") is Priority.INTERACTIVE
    assert priority_named("", pointer="p") is Priority.INTERACTIVE
    assert priority_named("bulk", pointer="p") is Priority.BULK
    with pytest.raises(InvalidRequest, match="interactive, bulk") as raised:
        priority_named("urgent", pointer="p")
    assert raised.value.pointer == "p"

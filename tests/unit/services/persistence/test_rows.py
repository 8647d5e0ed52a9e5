"""What is stored of each event."""

import json
from datetime import timedelta
from typing import Any

import pytest
from pgvector import HalfVector

from services.persistence.rows import CACHE_ENTRIES, REQUESTS, RESPONSES, Row, cache_entry, columns, record
from shared.events import EVENTS, Event, ResponseCompleted, ResponseFailed, decode_vector, example
from tests.support import make
from tests.support.clock import START

ENTRY = [
    *("scope", "exact", "entry_id", "tenant", "prompt", "embedding", "answer", "model", "tier", "category"),
    *("cost_usd", "stored_at", "expires_at"),
]
RESPONSE = ["id", "tenant", "status", "source", "tier", "code", "cost_usd", "saved_usd", "completed_at", "body"]


def response(event: Event) -> dict[str, Any]:
    found = record(event)
    assert found is not None
    assert found[0] is RESPONSES
    return dict(zip(RESPONSE, found[1], strict=True))


def entry(event: Event) -> dict[str, Any]:
    found = cache_entry(event)
    assert found is not None
    assert found[0] is CACHE_ENTRIES
    return dict(zip(ENTRY, found[1], strict=True))


def test_an_accepted_request_is_kept_with_what_was_asked() -> None:
    event = make.accepted(make.request("Hello?", priority="bulk", metadata={"k": "v"}, temperature=0.5))
    found = record(event)
    assert found is not None
    table, (request_id, tenant, priority, digest, accepted_at, body) = found
    assert table is REQUESTS
    assert (request_id, tenant, priority, digest, accepted_at) == (event.request.id, "acme", "bulk", "d1", START)
    stored = json.loads(body)
    assert (stored["input"], stored["metadata"], stored["temperature"]) == ("Hello?", {"k": "v"}, 0.5)
    assert not {"id", "tenant", "digest", "accepted_at"} & set(stored)


def test_an_answer_is_kept_and_can_be_read_again() -> None:
    event = make.completed(reply={"queue": "q"}, metadata={"k": "v"}, saved_usd=0.5)
    row = response(event)
    assert (row["id"], row["tenant"], row["status"], row["source"]) == (event.request_id, "acme", "completed", "light")
    assert (row["cost_usd"], row["saved_usd"], row["completed_at"]) == (0.25, 0.5, event.completed_at)
    assert row["code"] is None
    again = ResponseCompleted.model_validate_json(row["body"])
    assert again == event.model_copy(update={"key": None, "reply": None})


def test_a_failure_is_kept_and_can_be_read_again() -> None:
    event = make.failed(reply={"queue": "q"}, exact=make.new_id())
    row = response(event)
    assert (row["status"], row["code"], row["tier"], row["source"]) == ("failed", "rate_limited", "light", None)
    assert (row["cost_usd"], row["completed_at"]) == (0.0, event.failed_at)
    assert ResponseFailed.model_validate_json(row["body"]) == event.model_copy(update={"reply": None, "exact": None})


@pytest.mark.parametrize(("pointer", "message"), [("/input", "/input: Field required"), ("", "Field required")])
def test_a_rejection_is_kept_as_a_failure_that_says_where(pointer: str, message: str) -> None:
    event = make.rejected(pointer=pointer)
    row = response(event)
    assert (row["id"], row["tenant"], row["status"], row["code"]) == (
        event.request_id,
        "acme",
        "failed",
        "invalid_request",
    )
    stored = ResponseFailed.model_validate_json(row["body"])
    assert (stored.message, stored.attempts, stored.failed_at) == (message, 0, event.rejected_at)


@pytest.mark.parametrize("event", [make.missed(), make.routed()], ids=lambda event: type(event).__name__)
def test_what_happens_on_the_way_leaves_no_trace(event: Event) -> None:
    assert record(event) is None


@pytest.mark.parametrize("kind", EVENTS.values())
def test_every_event_is_kept_or_leaves_no_trace(kind: type[Event]) -> None:
    found = record(example(kind))
    assert found is None or found[0] in (REQUESTS, RESPONSES)


def test_a_bought_answer_becomes_a_cache_entry() -> None:
    event = make.completed(freshness=make.freshness(ttl_s=600, category="dynamic"))
    assert event.key is not None
    assert event.key.embedding is not None
    row = entry(event)
    assert (row["scope"], row["exact"], row["prompt"]) == (event.key.scope, event.key.exact, event.key.prompt)
    assert (row["entry_id"], row["answer"], row["category"]) == (event.request_id, "Paris.", "dynamic")
    assert row["stored_at"] == event.completed_at
    assert row["expires_at"] == event.completed_at + timedelta(seconds=600)
    assert isinstance(row["embedding"], HalfVector)
    assert row["embedding"].to_list() == pytest.approx(list(decode_vector(event.key.embedding)))


def test_an_answer_to_a_prompt_without_a_vector_is_found_exactly_only() -> None:
    assert entry(make.completed(key=make.key(embedding=None)))["embedding"] is None


@pytest.mark.parametrize(
    "event",
    [
        make.completed(key=None),
        make.completed(freshness=None),
        make.completed(freshness=make.freshness(ttl_s=0)),
        make.failed(),
        make.accepted(),
    ],
    ids=["no key", "no freshness", "no time to live", "failure", "request"],
)
def test_an_answer_that_may_not_be_reused_becomes_no_entry(event: Event) -> None:
    assert cache_entry(event) is None


def test_rows_turn_into_columns() -> None:
    rows: list[Row] = [(1, "a"), (2, "b")]
    assert columns(rows) == [[1, 2], ["a", "b"]]

"""What is stored of each event."""

import json
from datetime import timedelta
from typing import Any

import pytest
from pgvector import HalfVector

from services.persistence.rows import (
    CACHE_AUDITS,
    CACHE_ENTRIES,
    CACHE_INVALIDATIONS,
    DROPPED,
    RATINGS,
    REQUESTS,
    RESPONSES,
    TABLES,
    Row,
    Use,
    cache_entry,
    columns,
    record,
    summed,
)
from shared.events import (
    EVENTS,
    CacheAudited,
    CacheFilled,
    CacheHit,
    CacheInvalidate,
    CacheVerdict,
    Event,
    RequestDropped,
    RequestRated,
    ResponseCompleted,
    ResponseFailed,
)
from shared.examples import example
from shared.vectors import decode_vector
from tests.support import make
from tests.support.clock import START
from tests.support.sample import sample

ENTRY = [
    *("scope", "exact", "entry_id", "tenant", "base", "embedder", "prompt", "embedding", "answer", "model", "tier"),
    *("category", "reason", "cost_usd", "stored_at", "expires_at", "keep_until"),
]
RESPONSE = [
    *("id", "tenant", "status", "source", "tier", "code", "cost_usd", "saved_usd", "completed_at", "body"),
    *("answer_of", "replay"),
]
POLICY = make.policy()


def response(event: Event) -> dict[str, Any]:
    found = record(event)
    assert found is not None
    assert found.table is RESPONSES
    return dict(zip(RESPONSE, found.row, strict=True))


def entry(event: Event) -> dict[str, Any]:
    found = cache_entry(event, POLICY)
    assert found is not None
    assert found.table is CACHE_ENTRIES
    return dict(zip(ENTRY, found.row, strict=True))


def use(event: Event) -> Use | None:
    found = record(event)
    assert found is not None
    return found.use


def test_an_accepted_request_is_kept_with_what_was_asked() -> None:
    event = make.accepted(
        make.request("Hello?", priority="bulk", metadata={"k": "v"}, temperature=0.5, reply={"queue": "q"}, replay=2)
    )
    found = record(event)
    assert found is not None
    assert found.table is REQUESTS
    request_id, tenant, priority, digest, accepted_at, body, replay = found.row
    assert (request_id, tenant, priority, digest, accepted_at) == (event.request.id, "acme", "bulk", "d1", START)
    stored = json.loads(body)
    assert (stored["input"], stored["metadata"], stored["temperature"]) == ("Hello?", {"k": "v"}, 0.5)
    assert (stored["reply"]["queue"], replay) == ("q", 2)
    assert not {"id", "tenant", "digest", "accepted_at", "replay"} & set(stored)


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


def test_a_request_that_was_cancelled_has_not_failed() -> None:
    row = response(make.failed(code="cancelled"))
    assert (row["status"], row["code"]) == ("cancelled", "cancelled")


@pytest.mark.parametrize(
    "event", [make.completed(replay=2), make.failed(replay=2)], ids=lambda event: type(event).__name__
)
def test_a_result_says_which_run_it_is_of(event: Event) -> None:
    assert response(event)["replay"] == 2


def test_of_a_failure_that_is_dropped_its_run_is_kept() -> None:
    event = RequestDropped(request_id=make.new_id(), tenant="acme", replay=1, dropped_at=START)
    found = record(event)
    assert found is not None
    assert (found.table, found.row) == (DROPPED, (event.request_id, START, 1))


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
    assert found is None or found.table in TABLES


def test_a_bought_answer_becomes_a_cache_entry() -> None:
    event = make.completed(freshness=make.freshness(ttl_s=600, category="dynamic"))
    assert event.key is not None
    assert event.key.embedding is not None
    row = entry(event)
    assert (row["scope"], row["exact"], row["prompt"]) == (event.key.scope, event.key.exact, event.key.prompt)
    assert (row["entry_id"], row["answer"], row["category"]) == (event.request_id, "Paris.", "dynamic")
    assert (row["base"], row["embedder"], row["reason"]) == (event.key.base, "test/1", "nothing changes")
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
        make.completed(key=make.key(base=None)),
        make.completed(freshness=None),
        make.completed(freshness=make.freshness(ttl_s=0)),
        make.failed(),
        make.accepted(),
    ],
    ids=["no key", "an earlier version", "no freshness", "no time to live", "failure", "request"],
)
def test_an_answer_that_may_not_be_reused_becomes_no_entry(event: Event) -> None:
    assert cache_entry(event, POLICY) is None


def test_rows_turn_into_columns() -> None:
    rows: list[Row] = [(1, "a"), (2, "b")]
    assert columns(rows) == [[1, 2], ["a", "b"]]


def test_a_refreshed_answer_becomes_an_entry_under_an_id_of_its_own() -> None:
    event = sample(CacheFilled)
    row = entry(event)
    assert (row["entry_id"], row["answer"], row["stored_at"]) == (event.entry_id, "Paris.", event.completed_at)


def test_an_entry_is_kept_as_long_as_it_may_be_served_stale() -> None:
    policy = make.policy(freshness__categories__static={"ttl": "7d", "stale_while_revalidate": "1h"})
    found = cache_entry(make.completed(freshness=make.freshness(ttl_s=600)), policy)
    assert found is not None
    row = dict(zip(ENTRY, found.row, strict=True))
    assert row["keep_until"] - row["expires_at"] == timedelta(hours=1)
    assert entry(make.completed())["keep_until"] == entry(make.completed())["expires_at"]


@pytest.mark.parametrize(("length", "kept"), [(10, True), (11, False)])
def test_an_answer_that_is_too_long_becomes_no_entry(length: int, kept: bool) -> None:
    policy = make.policy(cache__bounds={"max_answer_chars": 10})
    assert (cache_entry(make.completed(output_text="x" * length), policy) is not None) == kept


def test_a_hit_says_whose_answer_it_is_and_counts_for_it() -> None:
    hit = CacheHit(entry_id=make.new_id(), similarity=1, match="exact", stored_at=START, expires_at=START)
    event = make.completed(source="cache", hit=hit, cost_usd=0.0, saved_usd=0.5)
    assert response(event)["answer_of"] == hit.entry_id
    assert use(event) == Use(hit.entry_id, hits=1, saved_usd=0.5, last_hit_at=event.completed_at)


def test_an_answer_that_was_waited_for_counts_for_the_entry_it_becomes() -> None:
    leader = make.new_id()
    event = make.completed(source="coalesced", leader_id=leader, saved_usd=0.5)
    assert response(event)["answer_of"] == leader
    assert use(event) == Use(leader, hits=1, saved_usd=0.5, last_hit_at=event.completed_at)


@pytest.mark.parametrize("event", [make.completed(), make.failed(), make.rejected(), make.accepted()])
def test_what_came_from_nowhere_else_counts_for_nothing(event: Event) -> None:
    assert use(event) is None


def test_the_verdict_is_kept_with_the_answer() -> None:
    verdict = CacheVerdict(tier="miss", reason="numbers", similarity=0.9)
    assert json.loads(response(make.completed(verdict=verdict))["body"])["verdict"]["reason"] == "numbers"


@pytest.mark.parametrize(("same", "good", "bad"), [(True, 1, 0), (False, 0, 1)])
def test_an_audit_is_kept_and_counts_for_its_entry(same: bool, good: int, bad: int) -> None:
    event = sample(CacheAudited, same=same)
    found = record(event)
    assert found is not None
    assert found.table is CACHE_AUDITS
    assert found.row[:2] == (event.audit_id, event.audited_at)
    assert found.use == Use(event.entry_id, good=good, bad=bad)


def test_an_invalidation_is_kept_with_the_conditions_it_gives() -> None:
    event = sample(CacheInvalidate)
    found = record(event)
    assert found is not None
    assert found.table is CACHE_INVALIDATIONS
    invalidation_id, at, selector, reason = found.row
    assert (invalidation_id, at, reason) == (event.invalidation_id, event.invalidated_at, "it is over")
    assert json.loads(selector) == {"tenant": "acme", "topic": "earthquake tokyo"}


def test_uses_of_an_entry_are_summed_and_in_order() -> None:
    first, second = make.new_id(), make.new_id()
    later = START + timedelta(seconds=1)
    uses = [
        Use(second, bad=1),
        Use(first, hits=1, saved_usd=0.25, last_hit_at=later),
        Use(first, hits=1, saved_usd=0.5, last_hit_at=START),
        Use(first, good=1),
    ]
    assert summed(uses) == [(first, 2, 1, 0, 0.75, later), (second, 0, 0, 1, 0.0, None)]


@pytest.mark.parametrize(
    ("written", "stored"),
    [("a\x00b", "a\ufffdb"), ("\\u0000", "\\u0000"), ("\\\x00", "\\\ufffd"), ("\ud7ff🦫", "\ud7ff🦫")],
)
def test_a_nul_is_replaced_and_nothing_else(written: str, stored: str) -> None:
    event = make.completed(output_text=written, metadata={written: written})
    body = json.loads(response(event)["body"])
    assert (body["output_text"], body["metadata"]) == (stored, {stored: stored})
    assert entry(event)["answer"] == stored


def test_a_rating_is_kept_with_what_was_said() -> None:
    event = sample(RequestRated)
    found = record(event)
    assert found is not None
    assert (found.table, found.use) == (RATINGS, None)
    assert found.row == (event.request_id, "acme", event.rated_at, event.rating_id, 0.8, "right, but long")

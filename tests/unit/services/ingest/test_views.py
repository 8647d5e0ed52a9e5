"""What a client sees."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.views import cache_headers, view
from shared.events import Attempt, BrownoutNote, CacheHit, CacheVerdict
from tests.support import make
from tests.support.clock import START

ENTRY = make.new_id()


def hit(**changes: Any) -> CacheHit:
    fields = {
        "entry_id": make.new_id(),
        "similarity": 0.97,
        "match": "semantic",
        "stored_at": START - timedelta(seconds=40),
        "expires_at": START + timedelta(seconds=20),
    }
    return CacheHit.model_validate(fields | changes)


def verdict(**changes: Any) -> CacheVerdict:
    fields = {
        "tier": "miss",
        "reason": "numbers",
        "similarity": 0.97,
        "entry_id": ENTRY,
        "age_s": 8,
    }
    return CacheVerdict.model_validate(fields | changes)


def test_without_a_result_it_is_queued_and_says_nothing_of_the_cache() -> None:
    shown = view(make.new_id(), None, START)
    assert (shown.status, shown.output_text, shown.error) == ("queued", None, None)
    assert cache_headers(shown) == {}


def test_an_answer_is_shown_with_all_that_is_known_of_it() -> None:
    result = make.completed(metadata={"k": "v"}, completed_at=START + timedelta(seconds=1.5))
    shown = view(result.request_id, result, START)
    assert shown.id == result.request_id
    assert shown.status == "completed"
    assert shown.latency_ms == 1500
    for name in ("output_text", "model", "source", "tier", "route", "freshness", "usage", "cost_usd", "metadata"):
        assert getattr(shown, name) == getattr(result, name), name


def test_nothing_internal_is_shown() -> None:
    shown = view(make.new_id(), make.completed(reply={"queue": "q"}), START).model_dump()
    assert not {"key", "reply", "exact", "leader_id"} & set(shown)


def test_a_failure_says_why() -> None:
    shown = view(make.new_id(), make.failed(metadata={"k": "v"}), START)
    assert shown.status == "failed"
    assert shown.error is not None
    assert (shown.error.code, shown.error.message, shown.error.attempts) == ("rate_limited", "429", 3)
    assert shown.metadata == {"k": "v"}
    assert cache_headers(shown) == {}


def test_what_the_cache_decided_is_shown_with_its_reason() -> None:
    result = make.completed(verdict=verdict())
    cached = view(result.request_id, result, START).cache
    assert cached is not None
    assert cached.model_dump() == {
        "tier": "miss",
        "reason": "numbers",
        "similarity": 0.97,
        "entry_id": ENTRY,
        "age_s": 8,
        "ttl_s": 600,
    }


def test_a_hit_is_as_old_as_its_entry_is_now_and_not_as_it_was_when_it_was_decided() -> None:
    decided = verdict(tier="semantic", reason="verified", entry_id=None, age_s=1)
    result = make.completed(source="cache", hit=hit(), similarity=0.96, verdict=decided)
    cached = view(result.request_id, result, START).cache
    assert cached is not None
    assert (cached.tier, cached.reason, cached.similarity) == ("semantic", "verified", 0.96)
    assert (cached.age_s, cached.ttl_s) == (40, 20)
    assert cached.entry_id == getattr(result.hit, "entry_id", None)


@pytest.mark.parametrize(
    ("changes", "tier"),
    [
        ({"hit": hit()}, "semantic"),
        ({"hit": hit(match="exact")}, "exact"),
        ({"leader_id": ENTRY, "similarity": 0.98}, "in_flight"),
        ({}, "miss"),
    ],
)
def test_an_event_of_before_there_were_verdicts_shows_what_it_implies(changes: dict[str, Any], tier: str) -> None:
    result = make.completed(**changes)
    cached = view(result.request_id, result, START).cache
    assert cached is not None
    assert (cached.tier, cached.reason) == (tier, None)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"source": "cache", "hit": hit()}, "forebay; hit; ttl=20; detail=semantic"),
        (
            {"hit": hit(), "verdict": verdict(tier="semantic", reason="verified")},
            "forebay; hit; ttl=20; detail=semantic",
        ),
        (
            {"hit": hit(match="exact"), "verdict": verdict(tier="exact", reason="same prompt")},
            "forebay; hit; ttl=20; detail=exact",
        ),
        ({"hit": hit(expires_at=START - timedelta(seconds=5))}, "forebay; hit; ttl=-5; detail=semantic"),
        ({"source": "coalesced", "leader_id": ENTRY}, "forebay; fwd=miss; collapsed"),
        (
            {"leader_id": ENTRY, "verdict": verdict(tier="in_flight", reason="verified")},
            "forebay; fwd=miss; collapsed",
        ),
        ({}, "forebay; fwd=miss; ttl=600"),
        ({"freshness": None}, "forebay; fwd=miss"),
        ({"freshness": None, "verdict": verdict()}, "forebay; fwd=miss; detail=numbers"),
        ({"verdict": verdict()}, "forebay; fwd=miss; ttl=600; detail=numbers"),
        ({"verdict": verdict(reason="nothing near")}, 'forebay; fwd=miss; ttl=600; detail="nothing near"'),
        ({"verdict": verdict(reason="expired")}, "forebay; fwd=stale; ttl=600"),
        ({"verdict": verdict(tier="bypass", reason="no-cache")}, "forebay; fwd=request"),
        ({"verdict": verdict(tier="bypass", reason="no-cache, no-store")}, "forebay; fwd=request"),
        ({"verdict": verdict(tier="bypass", reason="personal")}, "forebay; fwd=bypass; detail=personal"),
        ({"verdict": verdict(tier="bypass", reason="")}, "forebay; fwd=bypass"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_cache_status_says_how_the_cache_took_part(changes: dict[str, Any], status: str) -> None:
    result = make.completed(**changes)
    headers = cache_headers(view(result.request_id, result, START))
    assert headers["Cache-Status"] == status
    assert headers.get("Age") == ("40" if "; hit" in status else None)


@given(st.text(min_size=1))
def test_any_reason_makes_a_header(reason: str) -> None:
    result = make.completed(verdict=verdict(tier="bypass", reason=reason))
    status = cache_headers(view(result.request_id, result, START))["Cache-Status"]
    assert status.isascii()
    assert status.isprintable()


def test_a_reason_with_quotes_stays_one_string() -> None:
    result = make.completed(verdict=verdict(tier="bypass", reason='a "b" \\ é'))
    status = cache_headers(view(result.request_id, result, START))["Cache-Status"]
    assert status == 'forebay; fwd=bypass; detail="a \\"b\\" \\\\ ?"'


@given(st.integers(-(10**6), 10**6))
def test_an_age_is_never_negative_and_with_the_rest_of_its_life_makes_the_whole(offset_s: int) -> None:
    now = START + timedelta(seconds=offset_s)
    result = make.completed(source="cache", hit=hit(stored_at=START, expires_at=START + timedelta(seconds=600)))
    cached = view(result.request_id, result, now).cache
    assert cached is not None
    assert cached.age_s is not None
    assert cached.ttl_s is not None
    assert cached.age_s == max(0, offset_s)
    assert cached.ttl_s == 600 - offset_s


def test_the_way_to_an_answer_is_shown() -> None:
    failed = Attempt(lane="first", code="provider_auth", message="no", at=START)
    shown = view(make.new_id(), make.completed(lane="second", failures=(failed,)), START)
    assert (shown.lane, shown.failures) == ("second", [failed])
    assert view(make.new_id(), make.failed(failures=(failed,)), START).failures == [failed]


def test_the_steps_of_a_brownout_that_touched_it_are_shown_with_an_answer_and_with_a_failure() -> None:
    note = BrownoutNote(step="longer_deadline", tier="premium", age_s=65.0, detail="up to 300 s after its deadline")
    for result in (make.completed(brownout=(note,)), make.failed(brownout=(note,))):
        assert view(result.request_id, result, START).brownout == [note]

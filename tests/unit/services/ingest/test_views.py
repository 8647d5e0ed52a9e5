"""What a client sees."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.views import cache_headers, view
from shared.events import CacheHit
from tests.support import make
from tests.support.clock import START


def hit(**changes: Any) -> CacheHit:
    fields = {
        "entry_id": make.new_id(),
        "similarity": 0.97,
        "match": "semantic",
        "stored_at": START - timedelta(seconds=40),
        "expires_at": START + timedelta(seconds=20),
    }
    return CacheHit.model_validate(fields | changes)


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


@pytest.mark.parametrize(
    ("result", "headers"),
    [
        (
            make.completed(source="cache", hit=hit()),
            {"Cache-Status": "forebay; hit; ttl=20; detail=semantic", "Age": "40"},
        ),
        (
            make.completed(source="coalesced", leader_id=make.new_id()),
            {"Cache-Status": "forebay; fwd=miss; collapsed"},
        ),
        (make.completed(), {"Cache-Status": "forebay; fwd=miss; ttl=600"}),
        (make.completed(freshness=None), {"Cache-Status": "forebay; fwd=miss"}),
    ],
    ids=["hit", "collapsed", "miss", "not cached"],
)
def test_the_cache_headers_say_how_the_cache_took_part(result: Any, headers: dict[str, str]) -> None:
    assert cache_headers(view(result.request_id, result, START)) == headers


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

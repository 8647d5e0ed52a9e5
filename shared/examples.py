"""One valid instance of each event type, for the documents and the tests."""

from datetime import UTC, datetime
from typing import Any

from pydantic import JsonValue

from shared.events import (
    CacheAudited,
    CacheFilled,
    CacheInvalidate,
    CacheWarm,
    Event,
    LaneReported,
    LaneThrottled,
    QueueAged,
    QueueReported,
    RequestAccepted,
    RequestCancelled,
    RequestDropped,
    RequestMissed,
    RequestRated,
    RequestRejected,
    RequestRouted,
    ResponseCompleted,
    ResponseFailed,
    ResponseLate,
    RouterScored,
    ShadowCompleted,
    ShadowRequested,
    TopicCounted,
    TopicSettled,
    TopicTrending,
)
from shared.vectors import encode_vector


def example(event: type[Event]) -> Event:
    """A valid instance of an event type, for documents and tests; raises KeyError for a type that has none."""
    return event.model_validate(_EXAMPLES[event])


_ID = "f4c1a3f2-7f0e-8b5a-9c6d-0a1b2c3d4e5f"
_THEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_LATER = datetime(2026, 1, 2, 3, 4, 7, tzinfo=UTC)
_REQUEST: dict[str, Any] = {
    "id": _ID,
    "tenant": "acme",
    "input": "What is the capital of France?",
    "accepted_at": _THEN,
    "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
}
_KEY: dict[str, JsonValue] = {
    "scope": "5f0c1c6e-1d9c-8f0a-a2f3-3c1f6f2a9b01",
    "exact": "7a1d2b44-92aa-8c11-b0de-55e0c7c0a9d2",
    "base": "0d9f7a55-63a2-8a1e-b1d4-2f7f0c3e8b10",
    "embedder": "all-MiniLM-L6-v2/1",
    "prompt": "What is the capital of France?",
    "embedding": encode_vector((0.6, 0.8)),
}
_ROUTE: dict[str, Any] = {
    "tier": "light",
    "model": "gpt-4o-mini",
    "score": -1.0,
    "reasons": ["short: 7 tokens (-1.0)"],
}
_FRESHNESS: dict[str, Any] = {"category": "static", "ttl_s": 604_800, "reason": "no sign of change"}
_VERDICT: dict[str, Any] = {
    "tier": "miss",
    "reason": "numbers",
    "similarity": 0.97,
    "entry_id": "f4c1a3f2-7f0e-8b5a-9c6d-0a1b2c3d4e60",
    "age_s": 812,
}
_HIT: dict[str, Any] = {
    "entry_id": "f4c1a3f2-7f0e-8b5a-9c6d-0a1b2c3d4e60",
    "similarity": 0.97,
    "match": "semantic",
    "stored_at": _THEN,
    "expires_at": datetime(2026, 1, 9, 3, 4, 5, tzinfo=UTC),
}
_EVIDENCE: dict[str, Any] = {
    "similarity": 0.97,
    "agreeing": 0.97,
    "opposing": 0.6,
    "entries": 1200,
}
_SHADOW: dict[str, Any] = {
    "request": _REQUEST | {"priority": "bulk"},
    "purpose": "audit",
    "key": _KEY,
    "tier": "light",
    "freshness": _FRESHNESS,
    "hit": _HIT,
    "expected": "Paris.",
    "evidence": _EVIDENCE,
    "sampled": 0.05,
}
_EXAMPLES: dict[type[Event], dict[str, Any]] = {
    RequestAccepted: {"request": _REQUEST},
    RequestMissed: {"request": _REQUEST, "key": _KEY, "verdict": _VERDICT},
    RequestRouted: {"request": _REQUEST, "key": _KEY, "route": _ROUTE, "freshness": _FRESHNESS},
    RequestRejected: {
        "request_id": _ID,
        "tenant": "acme",
        "code": "invalid_request",
        "message": "Field required",
        "pointer": "/input",
        "excerpt": '{"inptu": "hello"}',
        "rejected_at": _THEN,
    },
    RequestCancelled: {"request_id": _ID, "tenant": "acme", "cancelled_at": _LATER},
    RequestDropped: {"request_id": _ID, "tenant": "acme", "dropped_at": _LATER},
    ResponseCompleted: {
        "request_id": _ID,
        "tenant": "acme",
        "source": "light",
        "output_text": "Paris.",
        "model": "gpt-4o-mini",
        "tier": "light",
        "route": _ROUTE,
        "freshness": _FRESHNESS,
        "usage": {"input_tokens": 14, "output_tokens": 3},
        "finish_reason": "stop",
        "cost_usd": 0.0000039,
        "accepted_at": _THEN,
        "completed_at": _LATER,
        "key": _KEY,
    },
    ResponseFailed: {
        "request_id": _ID,
        "tenant": "acme",
        "code": "rate_limited",
        "message": "the provider refused 5 calls within 60 s (429)",
        "attempts": 5,
        "tier": "light",
        "route": _ROUTE,
        "accepted_at": _THEN,
        "failed_at": _LATER,
    },
    ShadowRequested: _SHADOW,
    ShadowCompleted: {
        "shadow": _SHADOW,
        "output_text": "The capital of France is Paris.",
        "model": "gpt-4o-mini",
        "usage": {"input_tokens": 14, "output_tokens": 7},
        "cost_usd": 0.0000063,
        "completed_at": _LATER,
    },
    CacheAudited: {
        "audit_id": _ID,
        "kind": "audit",
        "tenant": "acme",
        "request_id": _ID,
        "scope": _KEY["scope"],
        "entry_id": _HIT["entry_id"],
        "evidence": _EVIDENCE,
        "served": True,
        "same": True,
        "agreement": 0.93,
        "sampled": 0.05,
        "audited_at": _LATER,
    },
    CacheFilled: {
        "entry_id": _ID,
        "tenant": "acme",
        "origin": "refresh",
        "key": _KEY,
        "output_text": "Paris.",
        "model": "gpt-4o-mini",
        "tier": "light",
        "freshness": _FRESHNESS,
        "cost_usd": 0.0000039,
        "completed_at": _LATER,
    },
    CacheWarm: {"request": _REQUEST, "output_text": "Paris.", "tier": "light"},
    CacheInvalidate: {
        "invalidation_id": _ID,
        "selector": {"tenant": "acme", "topic": "earthquake tokyo"},
        "reason": "it is over",
        "invalidated_at": _LATER,
    },
    RequestRated: {
        "rating_id": "0b9f6d3e-5a52-4a0e-9d43-6a3c8d1e2f70",
        "request_id": _ID,
        "tenant": "acme",
        "quality": 0.8,
        "comment": "right, but long",
        "rated_at": _LATER,
    },
    RouterScored: {"delta_id": _ID, "scorer": "rules", "scores": {"-100": 12, "250": 3}, "neutral": 9},
    ResponseLate: {
        "request_id": _ID,
        "tenant": "acme",
        "tier": "premium",
        "lane": "gpt-4o",
        "usage": {"input_tokens": 14, "output_tokens": 220},
        "cost_usd": 0.0022,
        "completed_at": _LATER,
    },
    LaneReported: {
        "report_id": "0199e9c0-7c2f-7000-8000-0000000000a1",
        "replica": "5d2f6a0e-4d3b-4c1e-9a51-0c6f1f3f2b10",
        "lanes": {
            "gpt-4o-mini": {
                "wants": 12.5,
                "calls": {"accepted": 11, "held_back": 9, "refused": 1, "learned": 38.2, "told": 41.7},
            }
        },
    },
    LaneThrottled: {
        "signal_id": _ID,
        "lane": "gpt-4o",
        "until": _LATER,
        "reason": "rate_limited: the provider refused 5 calls",
    },
    QueueReported: {
        "report_id": "0199e9c0-7c2f-7000-8000-0000000000a2",
        "replica": "5d2f6a0e-4d3b-4c1e-9a51-0c6f1f3f2b10",
        "tiers": {
            "light": {"started": 11, "waited_s": 0.2},
            "premium": {"started": 3, "waited_s": 41.5, "waiting": 48},
        },
    },
    QueueAged: {
        "telling_id": "0199e9c0-7c2f-7000-8000-0000000000a3",
        "replica": "c3a1f6de-3c0b-4b39-8f3c-94b1c1f0a6e2",
        "ages": {"premium": 42.0},
    },
    TopicCounted: {
        "batch_id": _ID,
        "counts": [{"tenant": "acme", "requests": 9, "keys": {"earthquake": 4, "tokyo": 3, "earthquake tokyo": 3}}],
        "counted_at": _LATER,
    },
    TopicTrending: {
        "terms": ["earthquake tokyo"],
        "tenant": "acme",
        "origin": "detected",
        "score": 21.5,
        "reason": "4.3 % of the requests, usually 0.2 %",
        "since": _THEN,
        "until": datetime(2026, 1, 2, 3, 5, 7, tzinfo=UTC),
    },
    TopicSettled: {
        "terms": ["earthquake tokyo"],
        "tenant": "acme",
        "origin": "detected",
        "reason": "below 1.5 times its usual share",
        "settled_at": _LATER,
    },
}

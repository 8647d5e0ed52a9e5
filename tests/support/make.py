"""Events, requests, messages and policies for tests: valid by default, changed where a test says so."""

import copy
from collections.abc import Mapping
from itertools import count
from typing import Any, Final
from uuid import UUID

from shared import envelope
from shared.broker import Message
from shared.events import (
    CacheKey,
    Event,
    Freshness,
    Request,
    RequestAccepted,
    RequestMissed,
    RequestRejected,
    RequestRouted,
    ResponseCompleted,
    ResponseFailed,
    Route,
    Usage,
)
from shared.policy import Policy, parse_policy
from shared.vectors import encode_vector
from tests.support.clock import START

_numbers = count(1)
_POLICY: Final[Mapping[str, Any]] = {
    "tiers": {
        "light": {"model": "local/tiny", "max_output_tokens": 100, "timeout_s": 5, "attempts": 3},
        "premium": {"model": "local/large", "max_output_tokens": 200, "timeout_s": 10, "attempts": 4},
    },
    "prices": {"local/tiny": {"input": 1.0, "output": 2.0}, "local/large": {"input": 10.0, "output": 20.0}},
    "router": {
        "ladder": ["light", "premium"],
        "default": "light",
        "thresholds": {"premium": 2.0},
        "length": {"short": 3, "long": 40},
        "weights": {
            "short": -1.0,
            "long": 2.0,
            "code": 1.5,
            "maths": 1.5,
            "reasoning": 3.0,
            "simple": -1.5,
            "steps": 1.0,
            "constraints": 1.5,
            "clauses": 1.0,
            "questions": 1.0,
        },
        "words": {
            "reasoning": ["prove", "step by step"],
            "simple": ["capital of", "what is"],
            "code": ["function", "regex"],
            "maths": ["equation"],
        },
    },
    "cache": {"threshold": 0.9, "max_prompt_chars": 200, "max_waiting": 10, "leader_patience_s": 30},
    "freshness": {
        "default": "static",
        "categories": {"dynamic": {"ttl": "15m", "words": ["today", "right now"]}, "static": {"ttl": "7d"}},
    },
}


def new_id() -> UUID:
    """An id nobody has; later ones are greater."""
    return UUID(int=next(_numbers) << 64)


def policy_data(**changes: Any) -> dict[str, Any]:
    """A valid policy as read from TOML; ``changes`` by dotted path with double underscores, such as cache__enabled."""
    data = copy.deepcopy(dict(_POLICY))
    for path, value in changes.items():
        *tables, key = path.split("__")
        table = data
        for name in tables:
            table = table[name]
        table[key] = value
    return data


def policy(**changes: Any) -> Policy:
    """A valid policy; see :func:`policy_data`."""
    return parse_policy(policy_data(**changes))


def request(prompt: str = "What is the capital of France?", **changes: Any) -> Request:
    """A request that was taken."""
    fields = {"id": new_id(), "tenant": "acme", "input": prompt, "accepted_at": START, "digest": "d1"}
    return Request.model_validate(fields | changes)


def key(prompt: str = "What is the capital of France?", **changes: Any) -> CacheKey:
    """A cache key with an embedding."""
    fields = {
        "scope": UUID(int=1),
        "exact": UUID(int=2),
        "base": UUID(int=3),
        "embedder": "test/1",
        "prompt": prompt,
        "embedding": encode_vector((0.6, 0.8)),
    }
    return CacheKey.model_validate(fields | changes)


def route(tier: str = "light", **changes: Any) -> Route:
    """A decision of the router."""
    fields = {"tier": tier, "model": f"local/{'tiny' if tier == 'light' else 'large'}", "score": 0.0, "reasons": ("x",)}
    return Route.model_validate(fields | changes)


def freshness(**changes: Any) -> Freshness:
    """How long an answer may be reused."""
    return Freshness.model_validate({"category": "static", "ttl_s": 600, "reason": "nothing changes"} | changes)


def accepted(of: Request | None = None, **changes: Any) -> RequestAccepted:
    """``request.accepted``."""
    return RequestAccepted(request=of or request(**changes))


def missed(of: Request | None = None, **changes: Any) -> RequestMissed:
    """``request.missed``."""
    return RequestMissed.model_validate({"request": of or request(), "key": key()} | changes)


def routed(of: Request | None = None, **changes: Any) -> RequestRouted:
    """``request.routed.light``."""
    fields = {"request": of or request(), "key": key(), "route": route(), "freshness": freshness()}
    return RequestRouted.model_validate(fields | changes)


def rejected(**changes: Any) -> RequestRejected:
    """``request.rejected``."""
    fields = {
        "request_id": new_id(),
        "tenant": "acme",
        "code": "invalid_request",
        "message": "Field required",
        "pointer": "/input",
        "excerpt": "{}",
        "rejected_at": START,
    }
    return RequestRejected.model_validate(fields | changes)


def completed(of: Request | None = None, **changes: Any) -> ResponseCompleted:
    """``response.completed.light`` for a request."""
    asked = of or request()
    fields = {
        "request_id": asked.id,
        "tenant": asked.tenant,
        "source": "light",
        "output_text": "Paris.",
        "model": "local/tiny",
        "tier": "light",
        "route": route(),
        "freshness": freshness(),
        "usage": Usage(input_tokens=14, output_tokens=3),
        "finish_reason": "stop",
        "cost_usd": 0.25,
        "accepted_at": asked.accepted_at,
        "completed_at": START,
        "key": key(),
        "reply": asked.reply,
        "replay": asked.replay,
        "metadata": asked.metadata,
    }
    return ResponseCompleted.model_validate(fields | changes)


def failed(of: Request | None = None, **changes: Any) -> ResponseFailed:
    """``response.failed.rate_limited`` for a request."""
    asked = of or request()
    fields = {
        "request_id": asked.id,
        "tenant": asked.tenant,
        "code": "rate_limited",
        "message": "429",
        "attempts": 3,
        "tier": "light",
        "route": route(),
        "accepted_at": asked.accepted_at,
        "failed_at": START,
        "replay": asked.replay,
    }
    return ResponseFailed.model_validate(fields | changes)


def message(event: Event, **changes: Any) -> Message:
    """The message of an event as it travels."""
    wire = envelope.encode(event, source="test", now=START)[0]
    return Message(**{name: getattr(wire, name) for name in Message.__slots__} | changes)


def submission(body: bytes = b'{"input": "hello"}', **changes: Any) -> Message:
    """A message as a client publishes it at the AMQP door."""
    fields: dict[str, Any] = {"exchange": "forebay.requests", "routing_key": "request.submitted", "body": body}
    return Message(**fields | changes)

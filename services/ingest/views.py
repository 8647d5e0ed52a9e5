"""What a client sees of a request: the HTTP representation of its state and result."""

import re
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, Field

from shared.events import (
    CANCELLED,
    Attempt,
    BrownoutNote,
    CacheVerdict,
    Cascaded,
    Freshness,
    ResponseCompleted,
    Result,
    Route,
    Usage,
)

Status = Literal["queued", "in_progress", "completed", "failed", "cancelled"]


class Failure(BaseModel):
    """Why there is no answer."""

    code: str
    message: str
    attempts: int = Field(description="calls made to a provider")


class Cached(BaseModel):
    """How the cache took part."""

    tier: Literal["exact", "in_flight", "semantic", "miss", "bypass"] = Field(
        description="where the answer came from: the entry of the same prompt, a request in flight, the entry of a "
        "prompt that asks the same, or no entry; bypass: the cache was not asked"
    )
    reason: str | None = Field(None, description="why; for a miss what spoke against the nearest entry")
    similarity: float | None = Field(None, description="cosine similarity to the prompt of the entry")
    entry_id: UUID | None = Field(
        None, description="the entry, or the request in flight, that answered; for a miss the nearest entry"
    )
    age_s: int | None = Field(None, description="seconds since that entry was stored")
    ttl_s: int | None = Field(
        None, description="seconds this answer may still be reused; negative where an expired one was served"
    )


class RequestView(BaseModel):
    """A request and, when it is finished, its result."""

    id: UUID
    object: Literal["request"] = "request"
    status: Status
    estimated_wait_ms: int | None = Field(
        None,
        description="while queued: milliseconds until the answer, by those ahead and what answers take, if the cache "
        "has none",
    )
    output_text: str | None = None
    model: str | None = None
    source: str | None = Field(None, description="cache, coalesced, or the tier that answered")
    tier: str | None = None
    lane: str | None = Field(None, description="of that tier, which answered; null where nothing was bought")
    failures: list[Attempt] = Field(
        default_factory=list, description="calls that failed before, the first and the latest: the way to the end"
    )
    route: Route | None = None
    freshness: Freshness | None = None
    usage: Usage | None = None
    finish_reason: str | None = None
    cost_usd: float | None = Field(None, description="US dollars at list price")
    saved_usd: float | None = Field(None, description="US dollars at list price that an earlier answer saved")
    latency_ms: float | None = Field(None, description="milliseconds from acceptance to completion")
    cache: Cached | None = None
    cascade: Cascaded | None = Field(None, description="what came of trying cheaper tiers first")
    brownout: list[BrownoutNote] = Field(
        default_factory=list,
        description="steps of the brownout ladder that touched it, because others waited too long; while queued: those "
        "that hold now",
    )
    error: Failure | None = None
    accepted_at: AwareDatetime | None = None
    completed_at: AwareDatetime | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list, description="what was accepted but has no effect")


def view(request_id: UUID, result: Result | None, now: datetime) -> RequestView:
    """The view of a request at a time."""
    match result:
        case None:
            return RequestView(id=request_id, status="queued")
        case ResponseCompleted():
            return RequestView(
                id=request_id,
                status="completed",
                cache=_cached(result, now),
                latency_ms=round(result.latency_ms, 1),
                **result.model_dump(include=_COPIED),
            )
        case _:
            cancelled = result.code == CANCELLED
            failure = Failure(code=result.code, message=result.message, attempts=result.attempts)
            return RequestView(
                id=request_id,
                status="cancelled" if cancelled else "failed",
                tier=result.tier,
                failures=list(result.failures),
                route=result.route,
                brownout=list(result.brownout),
                error=None if cancelled else failure,
                accepted_at=result.accepted_at,
                completed_at=result.failed_at,
                metadata=result.metadata,
            )


_COPIED = {
    *("output_text", "model", "source", "tier", "route", "freshness", "usage", "finish_reason", "cost_usd"),
    *("saved_usd", "lane", "failures", "cascade", "brownout", "accepted_at", "completed_at", "metadata"),
}


def _cached(result: ResponseCompleted, now: datetime) -> Cached:
    # Events of an earlier version, and rows made of them, have no verdict.
    verdict = result.verdict or _implied(result)
    shown = Cached(
        tier=verdict.tier,
        reason=verdict.reason or None,
        similarity=verdict.similarity if result.similarity is None else result.similarity,
        entry_id=verdict.entry_id,
        age_s=verdict.age_s,
    )
    if result.hit is not None:
        shown.entry_id = result.hit.entry_id
        shown.age_s = max(0, int((now - result.hit.stored_at).total_seconds()))
        shown.ttl_s = int((result.hit.expires_at - now).total_seconds())
    elif verdict.tier == "miss" and result.freshness is not None:
        shown.ttl_s = result.freshness.ttl_s
    return shown


def _implied(result: ResponseCompleted) -> CacheVerdict:
    if result.hit is not None:
        return CacheVerdict(tier=result.hit.match, reason="")
    return CacheVerdict(tier="miss" if result.leader_id is None else "in_flight", reason="")


# A reason that says more of why a request was forwarded than that nothing was found (RFC 9211, section 2.2).
_FORWARDED: Final = {"expired": "stale", "stale": "stale", "no-cache": "request", "no-cache, no-store": "request"}
_TOKEN: Final = re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+\-.^_`|~:/]*")


def cache_headers(view: RequestView) -> dict[str, str]:
    """``Cache-Status`` (RFC 9211) and, on a hit, ``Age`` (RFC 9111) of a finished request."""
    cached = view.cache
    if cached is None:
        return {}
    ttl = "" if cached.ttl_s is None else f"; ttl={cached.ttl_s}"
    match cached.tier:
        case "exact" | "semantic":
            status = f"hit{ttl}; detail={cached.tier}"
            return {"Cache-Status": f"forebay; {status}", "Age": str(cached.age_s or 0)}
        case "in_flight":
            return {"Cache-Status": "forebay; fwd=miss; collapsed"}
        case "miss" | "bypass":
            reason = cached.reason or ""
            forwarded = _FORWARDED.get(reason, cached.tier)
            detail = f"; detail={_item(reason)}" if reason and reason not in _FORWARDED else ""
            return {"Cache-Status": f"forebay; fwd={forwarded}{ttl}{detail}"}


def _item(text: str) -> str:
    """A text as a structured field (RFC 8941): a token where it is one, else a quoted string of printable ASCII."""
    if _TOKEN.fullmatch(text):
        return text
    printable = "".join(char if " " <= char <= "~" else "?" for char in text)
    return '"' + printable.replace("\\", "\\\\").replace('"', '\\"') + '"'

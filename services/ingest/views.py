"""What a client sees of a request: the HTTP representation of its state and result."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, Field

from services.ingest.results import Result
from shared.events import Freshness, ResponseCompleted, Route, Usage

Status = Literal["queued", "in_progress", "completed", "failed", "cancelled"]


class Failure(BaseModel):
    """Why there is no answer."""

    code: str
    message: str
    attempts: int = Field(description="calls made to a provider")


class Cached(BaseModel):
    """How the cache took part."""

    status: Literal["hit", "miss", "collapsed"]
    match: Literal["exact", "semantic"] | None = None
    similarity: float | None = Field(None, description="cosine similarity to the prompt that was answered")
    entry_id: UUID | None = None
    age_s: int | None = Field(None, description="seconds since the answer was stored")
    ttl_s: int | None = Field(None, description="seconds the answer may still be reused")


class RequestView(BaseModel):
    """A request and, when it is finished, its result."""

    id: UUID
    object: Literal["request"] = "request"
    status: Status
    estimated_wait_ms: int | None = Field(None, description="while queued: what recent requests took, on average")
    output_text: str | None = None
    model: str | None = None
    source: str | None = Field(None, description="cache, coalesced, or the tier that answered")
    tier: str | None = None
    route: Route | None = None
    freshness: Freshness | None = None
    usage: Usage | None = None
    finish_reason: str | None = None
    cost_usd: float | None = Field(None, description="US dollars at list price")
    saved_usd: float | None = Field(None, description="US dollars at list price that an earlier answer saved")
    latency_ms: float | None = Field(None, description="milliseconds from acceptance to completion")
    cache: Cached | None = None
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
            return RequestView(
                id=request_id,
                status="failed",
                tier=result.tier,
                route=result.route,
                error=Failure(code=result.code, message=result.message, attempts=result.attempts),
                accepted_at=result.accepted_at,
                completed_at=result.failed_at,
                metadata=result.metadata,
            )


_COPIED = {
    *("output_text", "model", "source", "tier", "route", "freshness", "usage", "finish_reason", "cost_usd"),
    *("saved_usd", "accepted_at", "completed_at", "metadata"),
}


def _cached(result: ResponseCompleted, now: datetime) -> Cached:
    if result.hit is not None:
        return Cached(
            status="hit",
            match=result.hit.match,
            similarity=result.hit.similarity,
            entry_id=result.hit.entry_id,
            age_s=max(0, int((now - result.hit.stored_at).total_seconds())),
            ttl_s=int((result.hit.expires_at - now).total_seconds()),
        )
    if result.leader_id is not None:
        return Cached(status="collapsed", similarity=result.similarity)
    return Cached(status="miss", ttl_s=result.freshness.ttl_s if result.freshness else None)


def cache_headers(view: RequestView) -> dict[str, str]:
    """``Cache-Status`` (RFC 9211) and ``Age`` (RFC 9111) of a finished request."""
    cached = view.cache
    if cached is None:
        return {}
    match cached.status:
        case "hit":
            status = f"forebay; hit; ttl={cached.ttl_s}; detail={cached.match}"
            return {"Cache-Status": status, "Age": str(cached.age_s)}
        case "collapsed":
            return {"Cache-Status": "forebay; fwd=miss; collapsed"}
        case "miss":
            ttl = f"; ttl={cached.ttl_s}" if cached.ttl_s else ""
            return {"Cache-Status": f"forebay; fwd=miss{ttl}"}

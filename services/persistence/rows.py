"""Events as rows: what is stored of each, in which table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from pgvector import HalfVector

from shared.events import (
    Event,
    RequestAccepted,
    RequestRejected,
    ResponseCompleted,
    ResponseFailed,
    decode_vector,
)

Row = tuple[Any, ...]
# Parts of a request that have a column of their own, or that only the flow needs.
IN_COLUMNS: Final = {"id", "tenant", "priority", "digest", "accepted_at", "reply"}


@dataclass(frozen=True, slots=True)
class Table:
    """A table the writer fills.

    Attributes:
        name: also of the statement that inserts.
        key: the columns of a row that identify it; rows are written in this order, or two writers deadlock.
        newest_wins: whether a later row takes the place of an earlier one with its key, or leaves it alone.
    """

    name: str
    key: Callable[[Row], tuple[UUID, ...]]
    newest_wins: bool = False


REQUESTS: Final = Table("requests", lambda row: row[:1])
RESPONSES: Final = Table("responses", lambda row: row[:1])
CACHE_ENTRIES: Final = Table("cache_entries", lambda row: row[:2], newest_wins=True)
# Requests first: who reads between two tables finds a request without a response, never the reverse.
TABLES: Final = (REQUESTS, RESPONSES, CACHE_ENTRIES)


def record(event: Event) -> tuple[Table, Row] | None:
    """The row that keeps an event of the path of a request; None for one that leaves no trace."""
    match event:
        case RequestAccepted(request=request):
            body = request.model_dump_json(exclude=IN_COLUMNS, exclude_defaults=True)
            return REQUESTS, (
                request.id,
                request.tenant,
                request.priority.value,
                request.digest,
                request.accepted_at,
                body,
            )
        case ResponseCompleted():
            return RESPONSES, (
                event.request_id,
                event.tenant,
                "completed",
                event.source,
                event.tier,
                None,
                event.cost_usd,
                event.saved_usd,
                event.completed_at,
                event.model_dump_json(exclude={"key", "reply"}, exclude_none=True),
            )
        case ResponseFailed():
            return RESPONSES, _failure(event)
        case RequestRejected():
            failed = ResponseFailed(
                request_id=event.request_id,
                tenant=event.tenant,
                code=event.code,
                message=f"{event.pointer}: {event.message}" if event.pointer else event.message,
                attempts=0,
                failed_at=event.rejected_at,
            )
            return RESPONSES, _failure(failed)
        case _:
            return None


def _failure(event: ResponseFailed) -> Row:
    body = event.model_dump_json(exclude={"exact", "reply"}, exclude_none=True)
    return (event.request_id, event.tenant, "failed", None, event.tier, event.code, 0.0, 0.0, event.failed_at, body)


def cache_entry(event: Event) -> tuple[Table, Row] | None:
    """The cache entry of an answer; None for an answer that may not be reused."""
    if (
        not isinstance(event, ResponseCompleted)
        or event.key is None
        or not event.freshness
        or not event.freshness.ttl_s
    ):
        return None
    key, freshness = event.key, event.freshness
    return CACHE_ENTRIES, (
        key.scope,
        key.exact,
        event.request_id,
        event.tenant,
        key.prompt,
        HalfVector(list(decode_vector(key.embedding))) if key.embedding else None,
        event.output_text,
        event.model,
        event.tier,
        freshness.category,
        event.cost_usd,
        event.completed_at,
        event.completed_at + timedelta(seconds=freshness.ttl_s),
    )


def columns(rows: Sequence[Row]) -> list[list[Any]]:
    """Rows turned into columns, for UNNEST."""
    return [list(column) for column in zip(*rows, strict=True)]

"""Events as rows: what is stored of each, in which table, and what it counts for a cache entry.

The one place that says what an event leaves in the database. PostgreSQL stores no NUL (U+0000): where a model wrote
one, the replacement character (U+FFFD) stands in its place, for an answer that was paid for is not lost over that.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from pgvector import HalfVector
from pydantic import BaseModel

from shared.events import (
    CANCELLED,
    CacheAudited,
    CacheFilled,
    CacheInvalidate,
    Event,
    RequestAccepted,
    RequestDropped,
    RequestRated,
    RequestRejected,
    ResponseCompleted,
    ResponseFailed,
)
from shared.onrecord import COLUMNS
from shared.policy import Policy
from shared.telemetry import metrics
from shared.vectors import decode_vector

Row = tuple[Any, ...]
# Parts of a request that have a column of their own.
IN_COLUMNS: Final = {*COLUMNS, "replay"}
NUL: Final = "\x00"
NUL_IN_JSON: Final = "\\u0000"
REPLACEMENT: Final = "\ufffd"


@dataclass(frozen=True, slots=True)
class Table:
    """A table the writer fills.

    Attributes:
        name: also of the statement that inserts, which returns the key of each row that is new, and then what it likes.
        key: what identifies a row; rows are written in this order, or two writers deadlock. Numbers, in PostgreSQL's
            order of UUIDs, because comparing UUIDs themselves takes Python ten times as long.
        rank: a row takes the place of one with its key that has a lower rank, and leaves others alone.
    """

    name: str
    key: Callable[[Row], Any]
    rank: Callable[[Row], Any] = lambda _: 0


def _id(row: Row) -> int:
    number: int = row[0].int
    return number


def _place(row: Row) -> tuple[int, int]:
    return row[0].int, row[1].int


def _replay(row: Row) -> int:
    number: int = row[-1]
    return number


REQUESTS: Final = Table("requests", _id, _replay)
RESPONSES: Final = Table("responses", _id, _replay)
DROPPED: Final = Table("dropped", _id, _replay)
CACHE_AUDITS: Final = Table("cache_audits", _id)
CACHE_INVALIDATIONS: Final = Table("cache_invalidations", _id)
STORED_AT: Final = 14  # the place of that column in a row of an entry
CACHE_ENTRIES: Final = Table("cache_entries", _place, lambda row: row[STORED_AT])
# A tenant's last word on a request; who names another's request under his own tenant takes nothing away.
RATINGS: Final = Table("ratings", lambda row: (row[0].int, row[1]), lambda row: row[2:4])  # rated_at, rating_id
# Requests first: who reads between two tables finds a request without a response, never the reverse. And a failure is
# there before it is dropped.
TABLES: Final = (REQUESTS, RESPONSES, DROPPED, CACHE_AUDITS, CACHE_INVALIDATIONS, RATINGS, CACHE_ENTRIES)


@dataclass(frozen=True, slots=True)
class Use:
    """What is counted for an entry, in the order of the columns of ``cache_uses``."""

    entry_id: UUID
    hits: int = 0
    good: int = 0
    bad: int = 0
    saved_usd: float = 0.0
    last_hit_at: datetime | None = None

    def __add__(self, other: "Use") -> "Use":
        times = (self.last_hit_at, other.last_hit_at)
        return Use(
            self.entry_id,
            self.hits + other.hits,
            self.good + other.good,
            self.bad + other.bad,
            self.saved_usd + other.saved_usd,
            max((time for time in times if time is not None), default=None),
        )

    @property
    def row(self) -> Row:
        """The row that adds it."""
        return (self.entry_id, self.hits, self.good, self.bad, self.saved_usd, self.last_hit_at)


@dataclass(frozen=True, slots=True)
class Record:
    """What an event leaves: a row and, provided that row is new, what it counts. So a redelivery counts nothing."""

    table: Table
    row: Row
    use: Use | None = None


def record(event: Event) -> Record | None:
    """What is recorded of an event; None for one that leaves no trace."""
    match event:
        case RequestAccepted():
            return _request(event)
        case ResponseCompleted():
            return _answer(event)
        case ResponseFailed():
            return _failure(event)
        case RequestRejected():
            return _rejection(event)
        case RequestDropped():
            return Record(DROPPED, (event.request_id, event.dropped_at, event.replay))
        case CacheAudited():
            return _audit(event)
        case CacheInvalidate():
            row = (event.invalidation_id, event.invalidated_at, _json(event.selector, exclude_none=True), event.reason)
            return Record(CACHE_INVALIDATIONS, _storable(row))
        case RequestRated():
            said = (event.rated_at, event.rating_id, event.quality, event.comment)
            return Record(RATINGS, _storable((event.request_id, event.tenant, *said)))
        case _:
            return None


def cache_entry(event: Event, policy: Policy) -> Record | None:
    """The cache entry of an answer; None for an answer that may not be reused, or is longer than the policy allows."""
    match event:
        case ResponseCompleted():
            entry_id = event.request_id
        case CacheFilled():
            entry_id = event.entry_id
        case _:
            return None
    key, freshness = event.key, event.freshness
    if key is None or key.base is None or not freshness or not freshness.ttl_s:
        return None
    if len(event.output_text) > policy.cache.bounds.max_answer_chars:
        metrics.UNCACHED.labels("too_long").inc()
        return None
    row = (
        key.scope,
        key.exact,
        entry_id,
        event.tenant,
        key.base,
        key.embedder,
        key.prompt,
        HalfVector(decode_vector(key.embedding)) if key.embedding else None,
        event.output_text,
        event.model,
        event.tier,
        freshness.category,
        freshness.reason,
        event.cost_usd,
        event.completed_at,
        *policy.lifetime(freshness, event.completed_at),
    )
    return Record(CACHE_ENTRIES, _storable(row))


def summed(uses: Iterable[Use]) -> list[Row]:
    """The rows that add some uses: one for each entry, in the order of their ids."""
    sums: dict[UUID, Use] = {}
    for use in uses:
        known = sums.get(use.entry_id)
        sums[use.entry_id] = use if known is None else known + use
    return [sums[entry_id].row for entry_id in sorted(sums)]


def columns(rows: Sequence[Row]) -> list[list[Any]]:
    """Rows turned into columns, for UNNEST."""
    return [list(column) for column in zip(*rows, strict=True)]


def _request(event: RequestAccepted) -> Record:
    request = event.request
    body = _json(request, exclude=IN_COLUMNS, exclude_defaults=True)
    columns = (request.id, request.tenant, request.priority.value, request.digest, request.accepted_at)
    return Record(REQUESTS, (*columns, body, request.replay))


def _answer(event: ResponseCompleted) -> Record:
    # The leader's id is the id of the entry that its answer becomes. An answer that many waited for is worth as much as
    # one that many asked for in turn: each was served, and none was bought. Where the answer becomes no entry, nobody
    # asks for what was counted, and it is swept away.
    answer_of = event.answer_of
    row = (
        event.request_id,
        event.tenant,
        "completed",
        event.source,
        event.tier,
        None,
        event.cost_usd,
        event.saved_usd,
        event.completed_at,
        _json(event, exclude={"key", "reply"}, exclude_none=True),
        answer_of,
        event.replay,
    )
    if answer_of is None:
        return Record(RESPONSES, row)
    return Record(RESPONSES, row, Use(answer_of, hits=1, saved_usd=event.saved_usd, last_hit_at=event.completed_at))


def _failure(event: ResponseFailed) -> Record:
    body = _json(event, exclude={"exact", "reply"}, exclude_none=True)
    status = "cancelled" if event.code == CANCELLED else "failed"
    columns = (event.request_id, event.tenant, status, None, event.tier, event.code, 0.0, 0.0, event.failed_at)
    return Record(RESPONSES, (*columns, body, None, event.replay))


def _rejection(event: RequestRejected) -> Record:
    return _failure(
        ResponseFailed(
            request_id=event.request_id,
            tenant=event.tenant,
            code=event.code,
            message=f"{event.pointer}: {event.message}" if event.pointer else event.message,
            attempts=0,
            failed_at=event.rejected_at,
        )
    )


def _audit(event: CacheAudited) -> Record:
    row = (
        event.audit_id,
        event.audited_at,
        event.tenant,
        event.kind,
        event.request_id,
        event.scope,
        event.entry_id,
        event.served,
        event.same,
        event.agreement,
        event.sampled,
        _json(event.evidence),
    )
    return Record(CACHE_AUDITS, row, Use(event.entry_id, good=event.same, bad=not event.same))


def _json(model: BaseModel, **options: Any) -> str:
    text = model.model_dump_json(**options)
    # Written so, it is a NUL, or a backslash before "u0000"; only who parses it can tell.
    return text if NUL_IN_JSON not in text else json.dumps(_without_nul(json.loads(text)))


def _without_nul(value: Any) -> Any:
    match value:
        case str():
            return value.replace(NUL, REPLACEMENT)
        case list():
            return [_without_nul(item) for item in value]
        case dict():
            return {_without_nul(name): _without_nul(item) for name, item in value.items()}
        case _:
            return value


def _storable(row: Row) -> Row:
    """A row whose columns hold what people and models write; those of the others hold words and numbers of our own."""
    return tuple(
        [value.replace(NUL, REPLACEMENT) if isinstance(value, str) and NUL in value else value for value in row]
    )

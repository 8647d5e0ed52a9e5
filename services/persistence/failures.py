"""Failed requests as they are on record: what was asked, why it failed, and whether it can be run anew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from uuid import UUID

from shared import database
from shared.errors import InvalidRequest
from shared.events import Request, ResponseFailed
from shared.onrecord import request_of

if TYPE_CHECKING:
    from shared.database import Pool

SQL: Final = database.statements(Path(__file__).with_name("failures.sql"))
PATIENCE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the order of the list: after the failure of this time and id."""

    failed_at: datetime
    request_id: UUID

    def __str__(self) -> str:
        return f"{self.failed_at.isoformat()}/{self.request_id}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The place that was written so; raises InvalidRequest."""
        time, _, request_id = text.partition("/")
        try:
            place = cls(datetime.fromisoformat(time), UUID(request_id))
        except ValueError:
            place = None
        if place is None or place.failed_at.tzinfo is None:
            raise InvalidRequest("must be what an earlier answer gave as next", pointer="after")
        return place


@dataclass(frozen=True, slots=True)
class Which:
    """Conditions that a failure is to meet, all of them; what is None or empty does not matter."""

    classes: Sequence[str] = ()
    tenant: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def arguments(self) -> tuple[object, ...]:
        """The same, as the statements take it."""
        return (list(self.classes) or None, self.tenant, self.since, self.until)


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that failed, and how.

    Attributes:
        request: as its client sent it; ``replay`` is the latest run that was begun.
        result: of the latest run that has ended.
        dropped_at: when it was taken off the list; None: it is on it.
    """

    request: Request
    result: ResponseFailed
    dropped_at: datetime | None = None

    @property
    def running(self) -> bool:
        """Whether a replay is on its way."""
        return self.request.replay > self.result.replay

    @property
    def place(self) -> Place:
        """Where it is in the list."""
        return Place(self.result.failed_at, self.request.id)


@dataclass(frozen=True, slots=True)
class NoFailure:
    """An id under which there is nothing to be run anew, and why."""

    request_id: UUID
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class ClassOfFailures:
    """How many failures there are of one class, and of what time."""

    code: str
    failures: int
    first_at: datetime
    last_at: datetime


class Failures:
    """Asks PostgreSQL; every method raises DatabaseUnavailable where it is away or takes too long."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool

    async def listed(self, which: Which, *, after: Place | None, limit: int) -> Sequence[Failure]:
        """Failures that are to be looked after, the oldest first."""
        place = (None, None) if after is None else (after.failed_at, after.request_id)
        rows = await self._asked("listed", *which.arguments, *place, limit)
        return [_failure(row) for row in rows]

    async def classes(self, which: Which) -> Sequence[ClassOfFailures]:
        """The same, counted by class, the most frequent first."""
        return [ClassOfFailures(**row) for row in await self._asked("classes", *which.arguments)]

    async def named(self, ids: Sequence[UUID]) -> Sequence[Failure | NoFailure]:
        """What is known of each id, in their order; each but once."""
        rows = await self._asked("named", list(dict.fromkeys(ids)))
        return [_none(row) or _failure(row) for row in rows]

    async def _asked(self, statement: str, *arguments: object) -> Sequence[Any]:
        async with database.reading("the failures", patience_s=PATIENCE_S):
            return await self._pool.fetch(SQL[statement], *arguments)


def _none(row: Mapping[str, Any]) -> NoFailure | None:
    match row["status"], row["asked"]:
        case (None, None):
            return NoFailure(row["id"], "not_found", "no request has this id")
        case (None, _):
            return NoFailure(row["id"], "not_failed", "it has no result yet")
        case ("failed", None):
            return NoFailure(row["id"], "rejected", "it was refused at the door: there is no request to run")
        case ("failed", _):
            return None
        case (status, _):
            return NoFailure(row["id"], "not_failed", f"it is {status}")


def _failure(row: Mapping[str, Any]) -> Failure:
    return Failure(
        request=request_of(row, replay=row["run"]),
        result=ResponseFailed.model_validate_json(row["result"]),
        dropped_at=row["dropped_at"],
    )

"""What PostgreSQL knows of cache entries: which a selector means, and who was given their answers."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import structlog
from pydantic import AwareDatetime, BaseModel, Field, TypeAdapter

from shared import database
from shared.events import Selector

if TYPE_CHECKING:
    from shared.database import Pool

log = structlog.stdlib.get_logger(__name__)
SQL: Final = database.statements(Path(__file__).with_name("entries.sql"))
PATIENCE_S: Final = 5.0
EXCERPT_CHARS: Final = 200
# Where an entry's scope can't be told, because it is gone already.
UNKNOWN_SCOPE: Final = UUID(int=0)


class Example(BaseModel):
    """An entry, for people to recognise."""

    entry_id: UUID
    prompt: str = Field(description="its beginning")
    model: str
    category: str
    stored_at: AwareDatetime
    hits: int


class Served(BaseModel):
    """A request that was given an entry's answer."""

    request_id: UUID
    at: AwareDatetime
    similarity: float | None = Field(None, description="null for the request the answer was bought for")


@dataclass(frozen=True, slots=True)
class Meant:
    """The entries a selector means: how many, of what time, and some of them, newest first."""

    entries: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None
    examples: Sequence[Example] = ()


@dataclass(frozen=True, slots=True)
class Origin:
    """The entry an answer came from, and the audits it passed and failed."""

    entry_id: UUID
    scope: UUID = UNKNOWN_SCOPE
    good: int = 0
    bad: int = 0


@dataclass(frozen=True, slots=True)
class Audience:
    """Who was given an entry's answer: a tenant's own requests, newest first, and how many of other tenants."""

    own: Sequence[Served] = field(default_factory=tuple)
    others: int = 0


_SERVED: Final = TypeAdapter(list[Served])


class Entries:
    """Asks about entries; every method raises DatabaseUnavailable where PostgreSQL is away or takes too long."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool

    async def meant(self, tenant: str, selector: Selector, at: datetime) -> Meant:
        """The tenant's entries a selector means, of those stored up to a time."""
        rows = await self._asked("selected", tenant, selector.model_dump_json(exclude_none=True), at)
        if not rows:
            return Meant()
        first = rows[0]
        return Meant(first["entries"], first["oldest"], first["newest"], [_example(row) for row in rows])

    async def behind(self, answer_of: UUID) -> Origin:
        """Where an answer came from in the end: the entry of this id, or the one that answered this leader."""
        (row,) = await self._asked("behind", answer_of)
        return Origin(row["entry_id"], row["scope"] or UNKNOWN_SCOPE, row["good"], row["bad"])

    async def audience(self, tenant: str, entry_id: UUID, since: datetime) -> Audience:
        """Who was given an entry's answer since a time."""
        (row,) = await self._asked("served", tenant, entry_id, since)
        return Audience(_SERVED.validate_json(row["served"]), row["others"])

    async def _asked(self, statement: str, *arguments: object) -> Sequence[Any]:
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._pool.fetch(SQL[statement], *arguments)
        except database.FAILED as error:
            log.warning("cache entries cannot be read", error=repr(error))
            raise database.DatabaseUnavailable("cache entries cannot be read at the moment") from error


def _example(row: Any) -> Example:
    prompt: str = row["prompt"]
    excerpt = prompt if len(prompt) <= EXCERPT_CHARS else prompt[: EXCERPT_CHARS - 1] + "…"
    return Example.model_validate({name: row[name] for name in Example.model_fields} | {"prompt": excerpt})

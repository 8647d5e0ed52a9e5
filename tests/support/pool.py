"""A pool of connections without a database: it knows the rows a test gave it, and can be away."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from shared.database import Pool


class FakePool:
    """Answers ``fetch``, ``fetchmany`` and ``fetchrow`` from memory.

    Attributes:
        terminated: connections that were ended because a statement failed.
        rows: what each call returns.
        error: what each call raises instead.
        asked: the arguments of each call.
    """

    def __init__(self, *rows: Mapping[str, Any]) -> None:
        self.rows = list(rows)
        self.error: Exception | None = None
        self.asked: list[tuple[object, ...]] = []
        self.terminated = 0

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator["FakePool"]:
        yield self

    def terminate(self) -> None:
        self.terminated += 1

    async def fetch(self, _: str, *arguments: object) -> Sequence[Mapping[str, Any]]:
        self.asked.append(arguments)
        if self.error is not None:
            raise self.error
        return self.rows

    async def fetchmany(self, _: str, arguments: Sequence[tuple[object, ...]]) -> Sequence[Mapping[str, Any]]:
        return await self.fetch(_, *arguments)

    async def fetchrow(self, _: str, *arguments: object) -> Mapping[str, Any] | None:
        rows = await self.fetch(_, *arguments)
        return rows[0] if rows else None

    @property
    def as_pool(self) -> "Pool":
        """The same, for those who want the real class."""
        return cast("Pool", self)

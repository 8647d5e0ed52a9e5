"""Results as ingest knows them: those it has just heard of, and those in PostgreSQL.

Every replica follows all terminal events, so that a client may wait or ask at any of them. Memory is bounded and can be
lost: the rows are the truth, they only come a tick later. Only they tell that a failed request is being replayed, so
whoever asks for a failure is told what they say.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID

import structlog

from shared import database
from shared.errors import UndecodableMessage
from shared.events import Event, Request, ResponseCompleted, ResponseFailed, Result
from shared.onrecord import result_of

if TYPE_CHECKING:
    from shared.database import Pool

log = structlog.stdlib.get_logger(__name__)
SQL: Final = database.statements(Path(__file__).with_name("results.sql"))
PATIENCE_S: Final = 5.0

Follow = Callable[[Result], None]
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Admitted:
    """What is kept in memory of a request: whose it is, the digest of its body, and whether the broker has it."""

    tenant: str
    digest: str
    confirmed: bool


@dataclass(frozen=True, slots=True)
class Known:
    """What is on record of a request: the digest of its body, its result if there is one, and whether it was taken."""

    digest: str | None
    result: Result | None
    confirmed: bool = True


class Results:
    """Finds results, and lets clients wait for them."""

    def __init__(self, pool: "Pool", *, keep: int, follow: Follow = lambda _: None) -> None:
        """``follow`` is called with each result that is new here."""
        self._follow = follow
        self._pool = pool
        self._keep = keep
        self._recent: OrderedDict[UUID, Result] = OrderedDict()
        self._replays: OrderedDict[UUID, int] = OrderedDict()  # results of earlier runs count no more
        self._admitted: OrderedDict[UUID, Admitted] = OrderedDict()
        self._waiting: dict[UUID, set[asyncio.Future[Result]]] = {}

    async def heard(self, event: Event) -> Sequence[Event]:
        """Take note of a terminal event, and wake who waits for it."""
        if not isinstance(event, ResponseCompleted | ResponseFailed):
            raise UndecodableMessage(f"{event.TYPE} is no terminal event")
        known = self._known(event.request_id)
        if known is not None and (known.replay >= event.replay or isinstance(known, ResponseCompleted)):
            return ()  # the first result of a run is the one on record, and an answer stays
        kept = event.model_copy(update={"key": None}) if isinstance(event, ResponseCompleted) else event
        _remember(self._recent, event.request_id, kept, self._keep)
        self._follow(event)
        for waiter in self._waiting.get(event.request_id, ()):
            if not waiter.done():
                waiter.set_result(event)
        return ()

    def admitted(self, request: Request, *, confirmed: bool = False) -> None:
        """Take note of a request that is being accepted, and again once the broker has confirmed it."""
        _remember(self._admitted, request.id, Admitted(request.tenant, request.digest, confirmed), self._keep)

    def withdrawn(self, request: Request) -> None:
        """Forget a request whose acceptance was not confirmed."""
        self._admitted.pop(request.id, None)

    def digest_of(self, request_id: UUID) -> str | None:
        """The digest of a request this replica admitted not long ago."""
        admitted = self._admitted.get(request_id)
        return admitted.digest if admitted else None

    def finished(self, request_id: UUID) -> bool:
        """Whether this replica has heard of a request's result."""
        return self._known(request_id) is not None

    @contextmanager
    def waiter(self, request_id: UUID) -> Iterator["asyncio.Future[Result]"]:
        """A future of the result; enter it before publishing, so that no answer is too quick to be heard."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        if (known := self._known(request_id)) is not None:
            future.set_result(known)
        waiting = self._waiting.setdefault(request_id, set())
        waiting.add(future)
        try:
            yield future
        finally:
            waiting.discard(future)
            if not waiting:
                self._waiting.pop(request_id, None)

    async def find(self, tenant: str, request_id: UUID, *, with_digest: bool = False) -> Known | None:
        """What is on record of a tenant's request; None where nothing is, yet or at all.

        ``with_digest`` asks PostgreSQL where memory has the result but not the digest.

        Raises:
            DatabaseUnavailable: memory does not know, and PostgreSQL is away.
        """
        admitted, result = self._admitted.get(request_id), self._known(request_id)
        digest = admitted.digest if admitted and admitted.tenant == tenant else None
        if result is not None and result.tenant != tenant:
            return None
        enough = result is not None and not (with_digest and digest is None)
        if enough and isinstance(result, ResponseCompleted):
            return Known(digest, result)
        try:
            async with asyncio.timeout(PATIENCE_S):
                row = await self._pool.fetchrow(SQL["find"], request_id, tenant)
        except database.FAILED as error:
            log.warning("results cannot be read", error=repr(error))
            if enough:
                return Known(digest, result)
            if admitted is not None and digest is not None:
                return Known(digest, None, admitted.confirmed)
            raise database.DatabaseUnavailable("results cannot be read at the moment") from error
        if row is not None:
            if row["replay"]:
                _remember(self._replays, request_id, row["replay"], self._keep)
            written = None if row["body"] is None else result_of(row["status"], row["body"])
            return Known(row["digest"], self._known(request_id) or written)
        if result is not None:
            return Known(digest, result)
        return None if admitted is None or digest is None else Known(digest, None, admitted.confirmed)

    def _known(self, request_id: UUID) -> Result | None:
        """What this replica has heard of the latest run that it knows of."""
        result = self._recent.get(request_id)
        return None if result is None or result.replay < self._replays.get(request_id, 0) else result


def _remember(memory: OrderedDict[UUID, V], key: UUID, value: V, keep: int) -> None:
    memory[key] = value
    while len(memory) > keep:
        memory.popitem(last=False)

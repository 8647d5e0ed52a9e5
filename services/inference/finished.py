"""Requests that have their result already: on a redelivery that is said again, and not bought again."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

import structlog

from shared import database, envelope
from shared.broker import Message
from shared.consumer import times_parked
from shared.errors import UndecodableMessage
from shared.events import Event, RequestRouted, ResponseCompleted, ResponseFailed, Result
from shared.onrecord import result_of

if TYPE_CHECKING:
    from shared.database import Pool

log = structlog.stdlib.get_logger(__name__)
SQL: Final = database.statements(Path(__file__).with_name("finished.sql"))
PATIENCE_S: Final = 3.0
# Characters of answers that are kept: of a thousand or more requests, which is those of the last minutes.
MOST_CHARS: Final = 16_000_000
# What the rest of a result takes, about.
BESIDES: Final = 2_000
# Where RabbitMQ counts the deliveries of a message of a quorum queue before this one.
DELIVERIES_HEADER: Final = "x-delivery-count"


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request, and whether it may have been here before."""

    event: RequestRouted
    again: bool


def arrived(message: Message) -> Arrived:
    """What a delivery of a tier's queue holds; raises UndecodableMessage."""
    event = envelope.decode(message)
    if not isinstance(event, RequestRouted):
        raise UndecodableMessage(f"{event.TYPE} is no request that was routed")
    again = bool(message.headers.get(DELIVERIES_HEADER)) or times_parked(message) > 0
    return Arrived(event, again)


class Finished:
    """Results as this replica heard of them, or as PostgreSQL has them."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._heard: OrderedDict[tuple[UUID, int], Result] = OrderedDict()
        self._chars = 0

    async def heard(self, event: Event) -> Sequence[Event]:
        """Take note of a result; nothing comes of it."""
        if isinstance(event, ResponseCompleted | ResponseFailed) and event.tier is not None:
            run = event.request_id, event.replay
            if run not in self._heard:
                self._heard[run] = event
                self._chars += _size(event)
            while self._chars > MOST_CHARS:
                self._chars -= _size(self._heard.popitem(last=False)[1])
        return ()

    async def result_of(self, event: RequestRouted) -> Result | None:
        """What is to be said again of a request that has its result; None for one that has none, as far as is known.

        It is said again also where it was heard on the exchange: hearing is no proof that the writer's queue has it. A
        result on its way there from a replica that is gone is not seen: then the request is bought twice, which
        ``forebay_requests_seen_again`` counts.
        """
        request = event.request
        known = self._heard.get((request.id, request.replay)) or await self._written(request.id, request.replay)
        if known is None:
            return None
        # What a row does not keep: who wants to be told, and whom the answer frees.
        if isinstance(known, ResponseCompleted):
            return known.model_copy(update={"reply": request.reply, "key": known.key or event.key})
        return known.model_copy(update={"reply": request.reply, "exact": known.exact or event.exact})

    async def _written(self, request_id: UUID, replay: int) -> Result | None:
        try:
            async with database.reading("results", patience_s=PATIENCE_S):
                row = await self._pool.fetchrow(SQL["result"], request_id, replay)
        except database.DatabaseUnavailable as error:
            log.warning("not known whether a request has its result", request_id=str(request_id), error=str(error))
            return None
        return None if row is None else result_of(row["status"], row["body"])


def _size(event: Result) -> int:
    return BESIDES + (len(event.output_text) if isinstance(event, ResponseCompleted) else 0)

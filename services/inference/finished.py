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
from shared.events import Event, RequestRouted, ResponseCompleted, ResponseFailed

if TYPE_CHECKING:
    from shared.database import Pool

log = structlog.stdlib.get_logger(__name__)
SQL: Final = database.statements(Path(__file__).with_name("finished.sql"))
PATIENCE_S: Final = 3.0
MOST_KEPT: Final = 50_000
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
        self._heard: OrderedDict[tuple[UUID, int], None] = OrderedDict()

    async def heard(self, event: Event) -> Sequence[Event]:
        """Take note of a result; nothing comes of it."""
        if isinstance(event, ResponseCompleted | ResponseFailed):
            self._heard[event.request_id, event.replay] = None
            while len(self._heard) > MOST_KEPT:
                self._heard.popitem(last=False)
        return ()

    async def result_of(self, request_id: UUID, replay: int) -> Sequence[Event] | None:
        """What is to be said of a run of a request that has its result; None for one that has none, as far as is known.

        What was heard on the exchange need not be said again: whoever listens has it. What is in PostgreSQL is said
        again: who asked may have come back since. A result that is on its way there, from a replica that is gone, is
        not seen: then the request is bought twice, which ``forebay_requests_seen_again`` counts.
        """
        if (request_id, replay) in self._heard:
            return ()
        try:
            async with database.reading("results", patience_s=PATIENCE_S):
                row = await self._pool.fetchrow(SQL["result"], request_id, replay)
        except database.DatabaseUnavailable as error:
            log.warning("not known whether a request has its result", request_id=str(request_id), error=str(error))
            return None
        if row is None:
            return None
        kind = ResponseCompleted if row["status"] == "completed" else ResponseFailed
        return (kind.model_validate_json(row["body"]),)

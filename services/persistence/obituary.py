"""Dead letters get an end: a request whose message died gets its terminal result."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import structlog

from shared import envelope
from shared.broker import Message
from shared.clock import Clock
from shared.consumer import REASON_HEADER
from shared.errors import UndecodableMessage
from shared.events import (
    DEFAULT_TENANT,
    Event,
    RequestAccepted,
    RequestDropped,
    RequestEvent,
    RequestRejected,
    ResponseCompleted,
    ResponseFailed,
)
from shared.topology import RECORDS, SUBMITTED

log = structlog.stdlib.get_logger(__name__)
CODE: Final = "dead_lettered"
# The broker's own verdict carries no reason of ours: the message was handed out too often.
UNKNOWN_REASON: Final = "every attempt to handle it ended with the death of the service that tried"
# No request waits for what these say: events about the cache, whose subject is none, that a failure was dropped, and
# how good an answer was.
NO_REQUEST: Final = ("forebay.cache.", "forebay.request.rated.", RequestDropped.TYPE)
# Of a number that a column of PostgreSQL holds.
MOST_DIGITS: Final = 9


class Obituaries:
    """Turns dead letters into terminal failures."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def died(self, message: Message) -> Sequence[Event]:
        """``response.failed.dead_lettered`` for a message on which the result of a request depended.

        A request that has its result already keeps it: the first terminal result is the one that counts.
        """
        subject, event = _subject(message), _event(message)
        if message.routing_key == SUBMITTED.name:
            subject = None  # a client wrote that one's headers, and may have named another's request
        if subject is None or not _decides(message, event):
            log.warning("a dead letter that decides no request", queue=message.routing_key, request_id=str(subject))
            return ()
        failed = ResponseFailed(
            request_id=subject,
            code=CODE,
            message=f"{message.routing_key}: {_text(message, REASON_HEADER) or UNKNOWN_REASON}",
            attempts=0,
            failed_at=self._clock.now(),
            tenant=envelope.attribute(message, "tenant") or DEFAULT_TENANT,
            replay=_replay(message),
        )
        return (failed.model_copy(update=_context(event)),)


def _decides(message: Message, event: Event | None) -> bool:
    """Whether the request this message is about ends with it.

    The writer's copy of a request only records it, an obituary that can't be stored must not cause another, and what is
    said about the cache, an answer or the list of failures decides nothing, even where only its headers can be read.
    """
    if (envelope.attribute(message, "type") or "").startswith(NO_REQUEST):
        return False
    if message.routing_key == RECORDS.name and isinstance(event, RequestAccepted):
        return False
    return not (isinstance(event, ResponseFailed) and event.code == CODE)


def _subject(message: Message) -> UUID | None:
    try:
        return UUID(envelope.attribute(message, "subject"))
    except (TypeError, ValueError):
        return None


def _replay(message: Message) -> int:
    """Which run of its request a message belongs to, also where only its headers can be read."""
    run = envelope.attribute(message, envelope.REPLAY) or ""
    return int(run) if run.isdecimal() and len(run) <= MOST_DIGITS else 0


def _text(message: Message, header: str) -> str | None:
    value = message.headers.get(header)
    return value.replace("\x00", "\ufffd") if isinstance(value, str) else None


def _event(message: Message) -> Event | None:
    try:
        return envelope.decode(message)
    except UndecodableMessage:
        return None


def _context(event: Event | None) -> dict[str, object]:
    """What a dead letter still tells of its request."""
    match event:
        case RequestEvent():
            return event.request.carried | {"exact": event.exact}
        case ResponseCompleted() | ResponseFailed():
            return event.model_dump(include={"tenant", "accepted_at", "metadata"}) | {"reply": event.reply}
        case RequestRejected():
            return {"tenant": event.tenant, "reply": event.reply}
        case _:
            return {}

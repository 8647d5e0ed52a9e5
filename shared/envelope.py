"""Events to messages and back: CloudEvents 1.0, AMQP binding, binary mode.

Attributes travel as headers with the prefix ``cloudEvents_`` (the spelling that also passes through JMS;
``cloudEvents:`` is understood too), the body is the event as JSON, ``traceparent`` is a header of its own (W3C Trace
Context, AMQP).

Some signals are also understood without any headers, so that every AMQP client can send them: see :data:`BARE`.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Final, TypeVar
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from shared.broker import Message
from shared.clock import SYSTEM_CLOCK, Clock
from shared.errors import UndecodableMessage
from shared.events import (
    DEFAULT_TENANT,
    EVENTS,
    LONGEST_TOPIC_S,
    CacheInvalidate,
    Comment,
    Event,
    Model,
    Quality,
    RequestEvent,
    RequestRated,
    Selector,
    Terms,
    Text,
    TopicSettled,
    TopicTrending,
    Word,
)
from shared.faults import faults
from shared.policy.section import seconds
from shared.telemetry import tracing

PREFIX: Final = "cloudEvents_"
OTHER_PREFIX: Final = "cloudEvents:"
JSON: Final = "application/json"
# Parts of a terminal event that are for the services only.
INTERNAL: Final = {"key", "exact", "reply"}
# The attribute that says which run of its request a message belongs to; absent from those of the first.
REPLAY: Final = "replay"
# The attribute that says how urgent a request is, for who takes turns.
PRIORITY: Final = "priority"
# The resolution of a message's timestamp in AMQP 0-9-1.
_A_SECOND: Final = timedelta(seconds=1)
M = TypeVar("M", bound=BaseModel)


class BareInvalidation(Model):
    """``cache.invalidate`` as bare JSON: what to forget, and why."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"selector": {"topic": "earthquake tokyo"}, "reason": "it is over"}]},
    )

    selector: Selector
    reason: Annotated[Text, StringConstraints(max_length=500)] = Field("no reason given", description="for the record")


class BareTopic(Model):
    """``topic.trending`` or ``topic.settled`` as bare JSON."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"terms": ["earthquake tokyo"], "for": "2h"}]}
    )

    terms: Terms
    tenant: Word | None = Field(None, description="whose answers it is about; null: everybody's")
    lasting: Annotated[int, Field(ge=1, le=LONGEST_TOPIC_S), BeforeValidator(seconds)] = Field(
        3600, alias="for", description='seconds, or text such as "30m", "2h"; of no meaning for one that has settled'
    )
    reason: Annotated[Text, StringConstraints(max_length=500)] = "no reason given"


class BareRating(Model):
    """``request.rated`` as bare JSON."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"request_id": "f4c1a3f2-7f0e-8b5a-9c6d-0a1b2c3d4e5f", "quality": 0.8}]},
    )

    request_id: UUID
    quality: Quality
    tenant: Word = Field(DEFAULT_TENANT, description="whose request it is; a rating of another's is never read")
    comment: Comment = ""


def encode(event: Event, *, source: str, now: datetime) -> list[Message]:
    """The message of an event and, where a terminal event has a reply address, the copy for it.

    The event's id is made of the request's id, the type and the run, so that a handler that runs twice publishes the
    same event twice, and whoever counts can tell.
    """
    event_id = f"{event.subject}/{event.TYPE}"
    if event.run:
        event_id += f"/{event.run}"
    headers = {
        PREFIX + "specversion": "1.0",
        PREFIX + "id": event_id,
        PREFIX + "source": f"/forebay/{source}",
        PREFIX + "type": event.TYPE,
        PREFIX + "subject": str(event.subject),
        PREFIX + "time": now.isoformat(),
        PREFIX + "tenant": event.owner,  # an extension attribute, for logs and for who filters by header
        tracing.HEADER: tracing.child(),
    }
    if isinstance(event, RequestEvent):
        headers[PREFIX + PRIORITY] = event.request.priority.value
    if event.run:
        headers[PREFIX + REPLAY] = str(event.run)
    message = Message(
        exchange=event.EXCHANGE.name,
        routing_key=event.routing_key,
        body=event.model_dump_json(exclude_none=True).encode(),
        headers=headers,
        content_type=JSON,
        message_id=event_id,
        mandatory=event.MANDATORY,
    )
    reply = event.reply_address
    if reply is None:
        return [message]
    copy = Message(
        exchange="",
        routing_key=reply.queue,
        body=event.model_dump_json(exclude_none=True, exclude=INTERNAL).encode(),
        headers=headers,
        content_type=JSON,
        message_id=f"{event_id}/reply",
        correlation_id=reply.correlation_id,
        mandatory=False,  # a client that left is no reason to stop
    )
    return [message, copy]


def encode_all(events: Iterable[Event], *, source: str, now: datetime) -> list[Message]:
    """The messages of several events, in their order."""
    return [message for event in events for message in encode(event, source=source, now=now)]


def decode(message: Message, *, clock: Clock = SYSTEM_CLOCK) -> Event:
    """The event of a message; ``clock`` dates a bare signal that has no timestamp.

    Raises:
        UndecodableMessage: no known type, or a body that is not one of its instances.
    """
    name = attribute(message, "type")
    if name is None and message.routing_key in BARE:
        return BARE[message.routing_key](message, clock.now())
    if name is None:
        raise UndecodableMessage(f"no {PREFIX}type header: not an event of ours")
    event = EVENTS.get(name)
    if event is None:
        raise UndecodableMessage(f"unknown event type {name!r}; known: {', '.join(sorted(EVENTS))}")
    return _parsed(event, message.body, name)


def _invalidation(message: Message, now: datetime) -> CacheInvalidate:
    """A bare ``cache.invalidate`` as the event it means.

    It gets the same id at every redelivery. Its time is the sender's where there is one: to the end of that second, as
    a timestamp has no fractions, and never in the future, where it would forget what is not yet known.
    """
    said = _parsed(BareInvalidation, message.body, CacheInvalidate.PATTERN)
    sent = message.timestamp or now
    return CacheInvalidate(
        invalidation_id=_id_of(message),
        selector=said.selector,
        reason=said.reason,
        invalidated_at=min(sent, now - _A_SECOND) + _A_SECOND,
    )


def _trending(message: Message, now: datetime) -> TopicTrending:
    """A bare ``topic.trending``: from now on, whenever it was sent."""
    said = _parsed(BareTopic, message.body, TopicTrending.PATTERN)
    until = now + timedelta(seconds=said.lasting)
    return TopicTrending(terms=said.terms, tenant=said.tenant, reason=said.reason, since=now, until=until)


def _settled(message: Message, now: datetime) -> TopicSettled:
    said = _parsed(BareTopic, message.body, TopicSettled.PATTERN)
    return TopicSettled(terms=said.terms, tenant=said.tenant, reason=said.reason, settled_at=now)


def _rated(message: Message, now: datetime) -> RequestRated:
    """A bare ``request.rated``: of the time it was sent where that is told, else of now."""
    said = _parsed(BareRating, message.body, RequestRated.PATTERN)
    sent = message.timestamp or now
    return RequestRated(rating_id=_id_of(message), rated_at=min(sent, now), **dict(said))


def _id_of(message: Message) -> UUID:
    """A UUID (version 8) of what the sender wrote; two senders may well count their message ids from 1."""
    properties = (message.message_id, message.app_id, message.timestamp and message.timestamp.isoformat())
    digest = hashlib.sha256(repr(properties).encode() + b"\0" + message.body).digest()
    value = int.from_bytes(digest[:16], "big") & ~(0xF << 76) | (8 << 76)
    return UUID(int=value & ~(0b11 << 62) | (0b10 << 62))


def _parsed(model: type[M], body: bytes, name: str) -> M:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = faults(error)[0]
        raise UndecodableMessage(f"{name}: {first.where or 'body'}: {first.message}") from None


def attribute(message: Message, name: str) -> str | None:
    """A CloudEvents attribute of a message in binary mode, with either prefix."""
    value = message.headers.get(PREFIX + name, message.headers.get(OTHER_PREFIX + name))
    return value if isinstance(value, str) else None


# Signals that are understood without headers, by their routing key.
BARE: Final[Mapping[str, Callable[[Message, datetime], Event]]] = {
    CacheInvalidate.PATTERN: _invalidation,
    TopicTrending.PATTERN: _trending,
    TopicSettled.PATTERN: _settled,
    RequestRated.PATTERN: _rated,
}

"""Events to messages and back: CloudEvents 1.0, AMQP binding, binary mode.

Attributes travel as headers with the prefix ``cloudEvents_`` (the spelling that also passes through JMS;
``cloudEvents:`` is understood too), the body is the event as JSON, ``traceparent`` is a header of its own (W3C Trace
Context, AMQP).
"""

from datetime import datetime
from typing import Final

from pydantic import ValidationError

from shared.broker import Message
from shared.errors import UndecodableMessage
from shared.events import EVENTS, Event
from shared.telemetry import tracing

PREFIX: Final = "cloudEvents_"
OTHER_PREFIX: Final = "cloudEvents:"
JSON: Final = "application/json"
# Parts of a terminal event that are for the services only.
INTERNAL: Final = {"key", "exact", "reply"}


def encode(event: Event, *, source: str, now: datetime) -> list[Message]:
    """The message of an event and, where a terminal event has a reply address, the copy for it.

    The event's id is made of the request's id and the type, so that a handler that runs twice publishes the same
    event twice, and whoever counts can tell.
    """
    event_id = f"{event.subject}/{event.TYPE}"
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
    message = Message(
        exchange=event.EXCHANGE.name,
        routing_key=event.routing_key,
        body=event.model_dump_json(exclude_none=True).encode(),
        headers=headers,
        content_type=JSON,
        message_id=event_id,
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


def decode(message: Message) -> Event:
    """The event of a message.

    Raises:
        UndecodableMessage: no known type, or a body that is not one of its instances.
    """
    name = attribute(message, "type")
    if name is None:
        raise UndecodableMessage(f"no {PREFIX}type header: not an event of ours")
    event = EVENTS.get(name)
    if event is None:
        raise UndecodableMessage(f"unknown event type {name!r}; known: {', '.join(sorted(EVENTS))}")
    try:
        return event.model_validate_json(message.body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise UndecodableMessage(f"{name}: {where}: {first['msg']}") from None


def attribute(message: Message, name: str) -> str | None:
    """A CloudEvents attribute of a message in binary mode, with either prefix."""
    value = message.headers.get(PREFIX + name, message.headers.get(OTHER_PREFIX + name))
    return value if isinstance(value, str) else None

"""Messages as AMQP has them, and back."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

from aiormq.abc import DeliveredMessage
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.frame import marshal
from pamqp.header import ContentHeader

from shared.broker import Delivery, Message

PERSISTENT: Final = 2
# Of a body frame: type, channel and length before, the end mark after what it carries (AMQP 0-9-1, 2.3.5).
FRAME_OVERHEAD: Final = 8


def id_of(message: Message) -> str:
    """The message's id, or one: by it a message that no queue takes is known when it is returned."""
    return message.message_id or uuid4().hex


def frames(message: Message, message_id: str, *, channel: int, frame_max: int) -> bytes:
    """The frames that publish a message persistently on a channel.

    Raises:
        ValueError, TypeError: a header or property that AMQP can't carry.
    """
    body = message.body
    size = frame_max - FRAME_OVERHEAD
    publish = commands.Basic.Publish(
        exchange=message.exchange, routing_key=message.routing_key, mandatory=message.mandatory
    )
    properties = commands.Basic.Properties(
        headers=dict(message.headers),  # type: ignore[arg-type]  # ours are strings and numbers only
        content_type=message.content_type,
        message_id=message_id,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        app_id=message.app_id,
        timestamp=message.timestamp,
        delivery_mode=PERSISTENT,
    )
    parts = [marshal(publish, channel), marshal(ContentHeader(properties=properties, body_size=len(body)), channel)]
    parts += [marshal(ContentBody(body[start : start + size]), channel) for start in range(0, len(body), size)]
    return b"".join(parts)


def delivery(delivered: DeliveredMessage) -> Delivery:
    """What the broker handed out."""
    properties = delivered.header.properties
    headers: Mapping[str, object] = properties.headers or {}
    count = headers.get("x-delivery-count")
    return Delivery(
        Message(
            exchange=delivered.exchange or "",
            routing_key=delivered.routing_key or "",
            body=delivered.body,
            headers=headers,
            content_type=properties.content_type,
            message_id=properties.message_id,
            correlation_id=properties.correlation_id,
            reply_to=properties.reply_to,
            app_id=properties.app_id,
            timestamp=_timestamp(properties.timestamp),
        ),
        tag=delivered.delivery_tag or 0,
        attempts=count if isinstance(count, int) else 0,
    )


def _timestamp(stamp: object) -> datetime | None:
    return stamp.astimezone(UTC) if isinstance(stamp, datetime) else None

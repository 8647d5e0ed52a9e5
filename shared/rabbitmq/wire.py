"""Messages as AMQP 0-9-1 has them, and back.

What is published is written here rather than by pamqp, which took more time over the eight headers of an event than
its handler did. It stays the measure: a test compares what both write, to the byte.
"""

import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from uuid import uuid4

from aiormq.abc import DeliveredMessage
from pamqp.encode import encode_table_value

from shared.broker import Delivery, Message

# Frames (AMQP 0-9-1, 2.3.5): type, channel and length before, and a mark after what they carry.
METHOD, HEADER, BODY, END = 1, 2, 3, b"\xce"
FRAME_OVERHEAD: Final = 8
BASIC: Final = 60
PUBLISH: Final = 40
MANDATORY: Final = 1
PERSISTENT: Final = 2
LONGEST_SHORT: Final = 255
# Which properties follow, in their order (AMQP 0-9-1, 1.8): bits from the highest.
CONTENT_TYPE, HEADERS, DELIVERY_MODE, CORRELATION_ID, REPLY_TO, MESSAGE_ID, TIMESTAMP, APP_ID = (
    1 << bit for bit in (15, 13, 12, 10, 9, 7, 6, 3)
)
_FRAME: Final = struct.Struct(">BHL")
_PUBLISH: Final = struct.Struct(">HHH")
_HEADER: Final = struct.Struct(">HHQH")
_LENGTH: Final = struct.Struct(">L")
_SECONDS: Final = struct.Struct(">Q")


def id_of(message: Message) -> str:
    """The message's id, or one: by it a message that no queue takes is known when it is returned."""
    return message.message_id or uuid4().hex


def frames(message: Message, message_id: str, *, channel: int, frame_max: int) -> bytes:
    """The frames that publish a message persistently on a channel; 0 for ``frame_max`` is without bound.

    Raises:
        ValueError, TypeError: a header or property that AMQP can't carry.
    """
    body = message.body
    size = frame_max - FRAME_OVERHEAD if frame_max else max(1, len(body))
    parts = [
        _publish(message.exchange, message.routing_key, message.mandatory, channel),
        _frame(HEADER, channel, _properties(message, message_id)),
    ]
    parts += [_frame(BODY, channel, body[start : start + size]) for start in range(0, len(body), size)]
    return b"".join(parts)


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return _FRAME.pack(kind, channel, len(payload)) + payload + END


@lru_cache(maxsize=512)
def _publish(exchange: str, routing_key: str, mandatory: bool, channel: int) -> bytes:
    bits = bytes((MANDATORY if mandatory else 0,))
    return _frame(METHOD, channel, _PUBLISH.pack(BASIC, PUBLISH, 0) + _short(exchange) + _short(routing_key) + bits)


def _properties(message: Message, message_id: str) -> bytes:
    flags, values = DELIVERY_MODE | MESSAGE_ID, []
    if message.content_type:
        flags |= CONTENT_TYPE
        values.append(_short(message.content_type))
    if message.headers:
        flags |= HEADERS
        values.append(_table(message.headers))
    values.append(bytes((PERSISTENT,)))
    if message.correlation_id:
        flags |= CORRELATION_ID
        values.append(_short(message.correlation_id))
    if message.reply_to:
        flags |= REPLY_TO
        values.append(_short(message.reply_to))
    values.append(_short(message_id))
    if message.timestamp:
        flags |= TIMESTAMP
        values.append(_SECONDS.pack(int(message.timestamp.timestamp())))
    if message.app_id:
        flags |= APP_ID
        values.append(_short(message.app_id))
    return _HEADER.pack(BASIC, 0, len(message.body), flags) + b"".join(values)


def _table(fields: Mapping[str, object]) -> bytes:
    written = b"".join(
        _short(name) + (b"S" + _long(value) if isinstance(value, str) else encode_table_value(value))  # type: ignore[arg-type]  # it raises TypeError itself
        for name, value in fields.items()
    )
    return _LENGTH.pack(len(written)) + written


def _short(text: str) -> bytes:
    data = text.encode()
    if len(data) > LONGEST_SHORT:
        raise ValueError(f"longer than {LONGEST_SHORT} bytes: {text[:40]}…")
    return bytes((len(data),)) + data


def _long(text: str) -> bytes:
    data = text.encode()
    return _LENGTH.pack(len(data)) + data


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

"""Messages as AMQP has them, and back."""

from datetime import UTC, datetime
from typing import Any

import pytest
from aiormq.abc import DeliveredMessage
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.frame import unmarshal
from pamqp.header import ContentHeader

from shared.broker import Message
from shared.rabbitmq import wire

MESSAGE = Message(
    exchange="forebay.requests",
    routing_key="request.accepted.bulk",
    body=b"0123456789" * 3,
    headers={"cloudEvents_type": "t", "times": 3},
    content_type="application/json",
    message_id="m",
    correlation_id="c",
    reply_to="r",
    app_id="a",
    timestamp=datetime(2026, 1, 1, tzinfo=UTC),
)


def read(data: bytes) -> list[Any]:
    """The frames of some bytes."""
    found = []
    while data:
        size, _, frame = unmarshal(data)
        found.append(frame)
        data = data[size:]
    return found


def test_a_message_arrives_as_it_was_sent() -> None:
    publish, header, body = read(wire.frames(MESSAGE, "m", channel=1, frame_max=4096))
    assert publish.mandatory
    assert header.properties.delivery_mode == wire.PERSISTENT
    deliver = commands.Basic.Deliver("tag", 7, False, publish.exchange, publish.routing_key)
    got = wire.delivery(DeliveredMessage(deliver, header, body.value, channel=None))  # type: ignore[arg-type]  # unused
    assert got.message == MESSAGE
    assert (got.tag, got.attempts) == (7, 0)


@pytest.mark.parametrize("size", [0, 1, 11, 12, 13, 24, 30])
def test_a_body_goes_in_frames_that_the_connection_takes(size: int) -> None:
    sent = Message(exchange="", routing_key="q", body=bytes(range(size)))
    _, header, *bodies = read(wire.frames(sent, "m", channel=1, frame_max=12 + wire.FRAME_OVERHEAD))
    assert header.body_size == size
    assert all(isinstance(body, ContentBody) and len(body.value) <= 12 for body in bodies)
    assert b"".join(body.value for body in bodies) == sent.body


def test_how_often_a_message_came_back_is_what_the_broker_says() -> None:
    header = ContentHeader(properties=commands.Basic.Properties(headers={"x-delivery-count": 2}), body_size=0)
    got = DeliveredMessage(commands.Basic.Deliver("tag", 1, True, "", "q"), header, b"", channel=None)  # type: ignore[arg-type]  # unused
    assert wire.delivery(got).attempts == 2


def test_a_message_without_an_id_gets_one_by_which_it_is_known_when_it_is_returned() -> None:
    nameless = Message(exchange="", routing_key="q", body=b"")
    assert wire.id_of(nameless)
    assert wire.id_of(nameless) != wire.id_of(nameless)

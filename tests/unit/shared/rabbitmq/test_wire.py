"""Messages as AMQP has them, and back."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from aiormq.abc import DeliveredMessage
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.frame import marshal, unmarshal
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


short = st.text(max_size=60)
names = st.text(max_size=32)  # pamqp cuts them off at 128 bytes
messages = st.builds(
    Message,
    exchange=st.sampled_from(["", "forebay.requests"]),
    routing_key=short,
    body=st.binary(max_size=60),
    headers=st.dictionaries(
        names, st.text(max_size=300) | st.integers(-(2**31), 2**31) | st.booleans(), max_size=9
    ).map(
        lambda fields: dict(sorted(fields.items()))  # pamqp sorts them
    ),
    content_type=st.none() | short,
    message_id=short,
    correlation_id=st.none() | short,
    reply_to=st.none() | short,
    app_id=st.none() | short,
    timestamp=st.none() | st.integers(1, 2**32).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    mandatory=st.booleans(),
)


@given(messages, st.integers(20, 60))
def test_it_is_what_pamqp_writes(message: Message, frame_max: int) -> None:
    properties = commands.Basic.Properties(
        headers=dict(message.headers) or None,  # type: ignore[arg-type]  # of what a table may hold
        content_type=message.content_type or None,
        message_id="id",
        correlation_id=message.correlation_id or None,
        reply_to=message.reply_to or None,
        app_id=message.app_id or None,
        timestamp=message.timestamp,
        delivery_mode=wire.PERSISTENT,
    )
    publish = commands.Basic.Publish(
        exchange=message.exchange, routing_key=message.routing_key, mandatory=message.mandatory
    )
    size = frame_max - wire.FRAME_OVERHEAD
    bodies = [ContentBody(message.body[start : start + size]) for start in range(0, len(message.body), size)]
    header = ContentHeader(properties=properties, body_size=len(message.body))
    expected = [marshal(publish, 3), marshal(header, 3), *(marshal(body, 3) for body in bodies)]
    assert wire.frames(message, "id", channel=3, frame_max=frame_max) == b"".join(expected)


@pytest.mark.parametrize(
    "odd",
    [{"routing_key": "k" * 256}, {"headers": {"h" * 256: ""}}, {"headers": {"h": object()}}, {"app_id": "\ud800"}],
    ids=["a long key", "a long name", "no value of AMQP", "no text"],
)
def test_what_amqp_cannot_carry_is_refused(odd: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        wire.frames(replace(MESSAGE, **odd), "m", channel=1, frame_max=4096)


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


@pytest.mark.parametrize("body", [b"", b"0123456789"])
def test_where_frames_have_no_bound_a_body_is_one_frame(body: bytes) -> None:
    sent = Message(exchange="", routing_key="q", body=body)
    _, header, *bodies = read(wire.frames(sent, "m", channel=1, frame_max=0))
    assert header.body_size == len(body)
    assert [part.value for part in bodies] == [body] * bool(body)


def test_how_often_a_message_came_back_is_what_the_broker_says() -> None:
    header = ContentHeader(properties=commands.Basic.Properties(headers={"x-delivery-count": 2}), body_size=0)
    got = DeliveredMessage(commands.Basic.Deliver("tag", 1, True, "", "q"), header, b"", channel=None)  # type: ignore[arg-type]  # unused
    assert wire.delivery(got).attempts == 2


def test_a_message_without_an_id_gets_one_by_which_it_is_known_when_it_is_returned() -> None:
    nameless = Message(exchange="", routing_key="q", body=b"")
    assert wire.id_of(nameless)
    assert wire.id_of(nameless) != wire.id_of(nameless)

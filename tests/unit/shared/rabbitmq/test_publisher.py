"""How much may be on its way to a broker that confirms nothing."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from shared.broker import Message
from shared.errors import BrokerUnavailable
from shared.rabbitmq.outbox import Outbox
from shared.rabbitmq.publisher import MOST_UNCONFIRMED_BYTES, Publisher

MEGABYTE = 1024 * 1024


def message(name: str) -> Message:
    return Message("", "q", bytes(MEGABYTE), message_id=name)


@pytest.fixture
async def channel() -> Any:
    """As much of aiormq's as a publisher has to do with."""
    loop = asyncio.get_running_loop()
    connection = SimpleNamespace(
        write_queue=asyncio.Queue(),
        closing=loop.create_future(),
        connection_tune=SimpleNamespace(frame_max=131_072),
    )
    return SimpleNamespace(
        connection=connection,
        number=1,
        is_closed=False,
        delivery_tag=0,
        confirmations={},
        message_id_delivery_tag={},
        create_future=loop.create_future,
    )


async def test_what_is_not_confirmed_is_bounded_until_some_of_it_is(channel: Any) -> None:
    publisher = Publisher(channel, Outbox(cast("Any", channel.connection)))
    under_way = [publisher.publish(message(str(n))) for n in range(MOST_UNCONFIRMED_BYTES // MEGABYTE)]
    assert not any(confirm.done() for confirm in under_way)
    with pytest.raises(BrokerUnavailable, match="not confirmed"):
        publisher.publish(message("too much")).result()
    under_way[0].set_result(None)
    await asyncio.sleep(0)
    assert not publisher.publish(message("room")).done()

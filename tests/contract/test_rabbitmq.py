"""What only a real broker can do to us: go away."""

import asyncio

import httpx
import pytest

from infra.local.stack import Stack
from shared.broker import Message
from shared.errors import BrokerUnavailable
from shared.rabbitmq import RabbitBroker
from shared.topology import REQUESTS
from tests.contract.test_broker import ALL, WORK, message

PATIENCE_S = 15


async def cut(stack: Stack, vhost: str) -> None:
    """Close all connections of a virtual host, from the broker's side."""
    async with httpx.AsyncClient(
        base_url=stack.rabbitmq_management_url, auth=("guest", "guest"), trust_env=False
    ) as management:
        while True:  # the list is collected in the background
            response = await management.get(f"/api/vhosts/{vhost}/connections")
            if connections := response.json():
                break
            await asyncio.sleep(0.05)
        for connection in connections:
            await management.delete(f"/api/connections/{connection['name']}")


async def test_a_subscription_tells_that_its_connection_is_gone_and_a_new_one_goes_on(
    infrastructure: Stack, rabbit: RabbitBroker, amqp_url: str
) -> None:
    await rabbit.declare(ALL)
    await rabbit.publish([message("kept")])
    with pytest.raises(BrokerUnavailable):  # noqa: PT012  # leaving the block may raise as well as what is in it
        async with rabbit.subscribe(WORK, prefetch=1) as subscription, asyncio.timeout(PATIENCE_S):
            (held,) = await subscription.take(1)
            await cut(infrastructure, amqp_url.rsplit("/", 1)[1])
            await subscription.take(1)
    async with asyncio.timeout(PATIENCE_S):
        await rabbit.wait_connected()
        async with rabbit.subscribe(WORK, prefetch=1) as subscription:
            (again,) = await subscription.take(1)
            await subscription.ack([again])
    assert again.message.body == held.message.body == b"kept"
    assert again.attempts == 1


async def test_publishing_without_a_broker_fails_at_once_and_says_so() -> None:
    async with RabbitBroker("amqp://guest:secret@127.0.0.1:9/", name="nobody there") as broker:
        assert not broker.connected
        with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:9") as raised:
            await broker.publish([Message(REQUESTS.name, "work.a", b"")])
    assert "secret" not in str(raised.value)

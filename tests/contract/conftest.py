"""The brokers that the contract suite runs on."""

from collections.abc import AsyncIterator
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from infra.local.stack import Stack
from shared.broker import Broker
from shared.memory import MemoryBroker
from shared.rabbitmq import RabbitBroker

DELIVERY_LIMIT = 3


@pytest.fixture
def amqp_url(infrastructure: Stack) -> str:
    """A virtual host of its own for each test."""
    name = f"test-{uuid4().hex[:12]}"
    address = f"{infrastructure.rabbitmq_management_url}/api/vhosts/{quote(name)}"
    httpx.put(address, auth=("guest", "guest"), trust_env=False).raise_for_status()
    return infrastructure.amqp_url.removesuffix("%2F") + name


@pytest.fixture
async def rabbit(amqp_url: str) -> AsyncIterator[RabbitBroker]:
    """A connection to the real broker."""
    async with RabbitBroker(amqp_url, name="contract", delivery_limit=DELIVERY_LIMIT) as broker:
        await broker.wait_connected()
        yield broker


@pytest.fixture(params=["memory", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Each broker in turn."""
    if request.param == "memory":
        return MemoryBroker(delivery_limit=DELIVERY_LIMIT)
    real: RabbitBroker = request.getfixturevalue("rabbit")
    return real

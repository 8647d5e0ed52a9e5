"""A broker that is short of memory takes nothing, says so, and goes on when it has some again."""

import asyncio
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from infra.local.stack import Stack
from shared import probes
from shared.errors import BrokerUnavailable
from shared.rabbitmq import RabbitBroker
from tests.contract.test_broker import ALL, WORK, message
from tests.support.alarm import short_of_memory

PATIENCE_S = 30


async def ready(broker: RabbitBroker) -> httpx.Response:
    app = Starlette(routes=probes.routes(broker))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        return await client.get("/readyz")


async def test_while_the_broker_has_an_alarm_publishing_fails_at_once_and_then_goes_on(
    infrastructure: Stack, home: Path, rabbit: RabbitBroker
) -> None:
    await rabbit.declare(ALL)
    confirmed = 0
    async with asyncio.timeout(PATIENCE_S * 3):
        async with short_of_memory(home):
            # The broker blocks who publishes, with the first message: that one may still be taken.
            while rabbit.trouble is None:
                with suppress(BrokerUnavailable):
                    await rabbit.publish([message(str(confirmed))])
                    confirmed += 1
            assert "memory" in rabbit.trouble
            response = await ready(rabbit)
            assert (response.status_code, response.json()) == (503, {"broker": rabbit.trouble})
            async with asyncio.timeout(1):
                with pytest.raises(BrokerUnavailable, match="memory"):
                    await rabbit.publish([message("refused")])
                with pytest.raises(BrokerUnavailable, match="memory"):
                    await rabbit.look([WORK])
        while rabbit.trouble is not None:
            await asyncio.sleep(0)
        assert (await ready(rabbit)).status_code == 200
        await rabbit.publish([message("after")])
        (depth,) = await rabbit.look([WORK])
    assert depth.ready >= confirmed + 1  # what was confirmed is there; what was not may be

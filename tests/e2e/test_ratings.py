"""How good an answer was, from a client to its row."""

import asyncio
import json
import subprocess
from collections.abc import Callable
from functools import partial

from infra.local.stack import Stack
from shared.broker import Message
from shared.rabbitmq import RabbitBroker
from tests.e2e.conftest import Api, Rows, eventually


async def test_a_rating_becomes_a_row_over_http_over_amqp_and_from_the_command_line(
    api: Api, rows: Rows, stack: Stack, cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    async def rated(quality: float) -> bool:
        found = await rows.all("SELECT * FROM ratings WHERE tenant = $1")
        return [(str(row["request_id"]), row["quality"]) for row in found] == [(request_id, quality)]

    request_id = (await api.answer("What is the capital of Belgium?"))["id"]
    response = await api.http.post(
        f"/v1/requests/{request_id}/rating", json={"quality": 0.25}, headers={"Forebay-Tenant": api.tenant}
    )
    assert response.status_code == 202, response.text
    await eventually(partial(rated, 0.25))
    told = await asyncio.to_thread(cli, "rate", request_id, "0.5", "--tenant", api.tenant)
    assert told.returncode == 0, told.stderr
    await eventually(partial(rated, 0.5))
    body = json.dumps({"request_id": request_id, "quality": 1, "tenant": api.tenant}).encode()
    async with RabbitBroker(stack.amqp_url, name="test") as broker:
        await broker.wait_connected()
        await broker.publish([Message("forebay.signals", "request.rated", body, {})])
    await eventually(partial(rated, 1.0))

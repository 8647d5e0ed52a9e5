"""Routing on the real stack: what is announced about a tier is obeyed by the requests that come after."""

import asyncio
import json
import re
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from uuid import uuid4

from infra.local.stack import Stack
from shared import envelope
from shared.events import LaneThrottled
from shared.policy import load_policy
from shared.rabbitmq import RabbitBroker
from shared.settings import packaged_policy
from tests.e2e.conftest import Api, Rows

COUNTRIES = cycle(["Peru", "Chile", "Kenya", "Nepal", "Laos", "Ghana", "Mali", "Fiji", "Togo", "Oman", "Cuba", "Iran"])


async def announced(stack: Stack, until: datetime | None) -> None:
    """Say that the local model is in trouble, or well again, as anybody may."""
    lane = load_policy(packaged_policy()).tiers["light"].model
    signal = LaneThrottled(signal_id=uuid4(), lane=lane, until=until, reason="a drill")
    async with RabbitBroker(stack.amqp_url, name="test") as broker:
        await broker.wait_connected()
        await broker.publish(envelope.encode(signal, source="test", now=datetime.now(UTC)))


async def test_a_lane_in_trouble_is_told_of_and_left_alone_until_it_is_well(api: Api, stack: Stack) -> None:
    async def told(request_id: str) -> bool:
        answer = await api.finished(request_id)
        reasons = answer["route"]["reasons"] if answer["route"] else []
        return "light is in trouble (a drill), and nothing stronger will do" in reasons

    async def ask() -> str:
        response = await api.post({"input": f"What is the capital of {next(COUNTRIES)}?", "max_output_tokens": 8})
        request_id: str = response.json()["id"]
        return request_id

    await announced(stack, datetime.now(UTC) + timedelta(minutes=5))
    asked = [await ask() for _ in range(3)]
    await asyncio.gather(*(api.get(request_id) for request_id in asked))
    assert {(await api.get(request_id)).json()["status"] for request_id in asked} == {"queued"}, "nobody calls it"
    await announced(stack, None)
    assert any([await told(request_id) for request_id in asked])
    assert not await told(await ask())


async def test_what_was_asked_is_replayed_through_another_policy(
    api: Api, rows: Rows, tenant: str, tmp_path: Path, cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    await api.answer("What is the capital of Norway?")
    await api.answer("Prove step by step that seven is a prime number.")
    await rows.settled(2)
    new = tmp_path / "new.toml"
    text = packaged_policy().read_text()
    new.write_text(re.sub(r"^premium = 2\.0$", "premium = -9.0", text, flags=re.MULTILINE))
    arguments = ("router", "replay", "--policy", str(new), "--since", "1h", "--tenant", tenant)
    told = await asyncio.to_thread(cli, *arguments, "--json")
    assert told.returncode == 0, told.stderr
    shown = json.loads(told.stdout)
    assert (shown["requests"], shown["was"], shown["would"]) == (2, {"light": 1, "premium": 1}, {"premium": 2})
    assert shown["would_usd"] > shown["was_usd"] > 0
    (moved,) = shown["disagreements"]
    assert moved["prompt"] == "What is the capital of Norway?"
    assert moved["reasons"][-1].endswith("premium from -9")
    told = await asyncio.to_thread(cli, *arguments)
    assert told.returncode == 0, told.stderr
    assert "1 from light to premium" in told.stdout

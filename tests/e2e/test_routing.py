"""Routing on the real stack: what is announced about a tier is obeyed by the requests that come after."""

import asyncio
import json
import re
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import uuid4

from infra.local.stack import Stack
from shared import envelope
from shared.events import LaneThrottled
from shared.rabbitmq import RabbitBroker
from shared.settings import packaged_policy
from tests.e2e.conftest import Api, Rows, eventually

COUNTRIES = cycle(["Peru", "Chile", "Kenya", "Nepal", "Laos", "Ghana", "Mali", "Fiji", "Togo", "Oman", "Cuba", "Iran"])


async def announced(stack: Stack, tier: str, seconds: float) -> None:
    """Say that a tier is in trouble for some seconds, as anybody may."""
    now = datetime.now(UTC)
    signal = LaneThrottled(
        signal_id=uuid4(), lane="test", tier=tier, until=now + timedelta(seconds=seconds), reason="a drill"
    )
    async with RabbitBroker(stack.amqp_url, name="test") as broker:
        await broker.wait_connected()
        await broker.publish(envelope.encode(signal, source="test", now=now))


async def test_a_tier_in_trouble_is_avoided_until_it_is_well(api: Api, stack: Stack) -> None:
    async def route() -> dict[str, Any]:
        answer = await api.answer(f"What is the capital of {next(COUNTRIES)}?")
        taken: dict[str, Any] = answer["route"] or {"tier": ""}
        return taken

    assert (await route())["tier"] == "light"
    await announced(stack, "light", 120)

    async def avoided() -> bool:
        taken = await route()
        return bool(taken["tier"] == "premium" and taken["reasons"][-1].startswith("light is in trouble (a drill)"))

    await eventually(avoided)
    await announced(stack, "light", 0)

    async def well() -> bool:
        return bool((await route())["tier"] == "light")

    await eventually(well)


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

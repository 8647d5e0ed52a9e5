"""Routing on the real stack: what is announced about a tier is obeyed by the requests that come after."""

from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Any
from uuid import uuid4

from infra.local.stack import Stack
from shared import envelope
from shared.events import LaneThrottled
from shared.rabbitmq import RabbitBroker
from tests.e2e.conftest import Api, eventually

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

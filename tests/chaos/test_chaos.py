"""The short form of `make chaos`: several faults at once, some hundred requests; and a loss that must be noticed."""

import asyncio
from random import Random, SystemRandom

from infra.local import stack as local
from shared.rabbitmq import RabbitBroker
from shared.topology import ACCEPTED
from tests.chaos.faults import SHORT, Fault
from tests.chaos.pool import System, system
from tests.chaos.rounds import played
from tests.e2e.conftest import eventually

PER_S = 20.0


async def thrown_away(struck: System, random: Random, for_s: float) -> None:
    """Delete accepted requests from a queue: what no fault may lead to."""
    await asyncio.to_thread(local.stop_program, struck.services, "cache")
    async with RabbitBroker(struck.direct_url, name="thief") as broker:
        await broker.wait_connected()
        await eventually(lambda: broker.purge(ACCEPTED))
    await asyncio.to_thread(local.start_program, struck.services, "cache")


async def test_nothing_is_lost_and_nothing_answered_twice_and_a_loss_would_be_seen() -> None:
    seed = SystemRandom().getrandbits(32)
    print(f"chaos seed {seed}")  # noqa: T201 - also of a run that is cut off
    async with system() as struck:
        one = await played(struck, SHORT, seed=seed, requests=300, per_s=PER_S)
        robbed = await played(struck, Fault("theft", thrown_away), seed=seed, requests=60, per_s=PER_S)
    assert one.flawless, f"seed {seed}: {one}"
    assert one.accepted > one.unknown, f"seed {seed}: {one}"
    assert robbed.kinds["lost"] > 0, f"seed {seed}: {robbed}"
    assert not robbed.flawless

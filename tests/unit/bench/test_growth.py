"""The bench of growth: its prompts, the gate before its provider, and the figures it makes of what it saw."""

import asyncio
from dataclasses import replace
from itertools import islice

from tests.bench.growth import told
from tests.bench.growth_queue import Gate, Level, Work, prompts

LEVEL = Level(
    queued=1000,
    memory={"ingest": 80.0, "rabbitmq": 200.0},
    disk=50e6,
    arriving=Work(200.0, {"ingest": 0.7}),
    finishing=Work(100.0, {"ingest": 0.3}),
    post_ms=[4.0, 5.0, 6.0],
    get_ms=[1.0, 2.0, 3.0],
)


def test_no_prompt_comes_twice_and_all_come_again() -> None:
    first = list(islice(prompts(), 5000))
    assert len(set(first)) == 5000
    assert first == list(islice(prompts(), 5000))


async def test_a_gate_lets_nobody_through_while_it_is_shut() -> None:
    gate = Gate()
    waiting = asyncio.ensure_future(gate.sleep(0))
    await asyncio.sleep(0)
    assert not waiting.done()
    gate.open()
    await waiting
    gate.shut()
    waiting = asyncio.ensure_future(gate.sleep(0))
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()


def test_a_depth_stands_beside_the_first_and_only_services_must_stay_flat() -> None:
    deeper = replace(LEVEL, queued=9000, memory={"ingest": 90.0, "rabbitmq": 400.0}, get_ms=[7.0])
    found = {measure.name: measure for measure in told([LEVEL, deeper])}
    memory = found["9,000 queued: memory of ingest"]
    assert (memory.value, memory.goal, memory.anchor, memory.anchor_name) == (90.0, "<= 96", 80.0, "1,000 queued")
    assert found["1,000 queued: memory of ingest"].goal == ""
    assert found["9,000 queued: memory of rabbitmq"].goal == ""
    assert (found["9,000 queued: GET, p50"].value, found["9,000 queued: GET, p50"].anchor) == (7.0, 2.0)
    assert found["1,000 queued: files of rabbitmq"].value == 50.0

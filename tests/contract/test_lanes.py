"""What replicas say to each other of their lanes, and a request put aside with what was tried, on both brokers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

from services.inference.lanes.lanes import Lanes
from shared import envelope, topology
from shared.broker import Broker, Message
from shared.clock import SYSTEM_CLOCK
from shared.consumer import Consumer, times_parked
from shared.errors import Park
from shared.events import Attempt, Event, RequestRouted
from tests.support import make
from tests.support.clock import START

PATIENCE_S = 10
LANE = "local/tiny"


@asynccontextmanager
async def replica(broker: Broker, news: asyncio.Event) -> AsyncIterator[Lanes]:
    """The lanes of a replica that hears the others; ``news`` is set at each word that it heard."""
    lanes = Lanes(make.policy(), SYSTEM_CLOCK)
    listening = asyncio.Event()

    def subscribed() -> None:
        lanes.subscribed()
        listening.set()

    async def hear(event: Event) -> Sequence[Event]:
        following = await lanes.heard(event)
        news.set()
        return following

    runner = Consumer(
        broker,
        topology.LANE_EVENTS,
        hear,
        source="inference",
        decode=envelope.decode,
        concurrency=10,
        subscribed=subscribed,
    )
    running = asyncio.create_task(runner.run())
    async with lanes.sharing(broker), asyncio.timeout(4 * PATIENCE_S):
        await listening.wait()
        yield lanes
        await runner.stop()
        await running


async def becomes(news: asyncio.Event, holds: Callable[[], bool]) -> None:
    """Return once something holds, as one of the replicas heard over the broker."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            news.clear()
            await news.wait()


async def test_replicas_find_each_other_share_a_lane_obey_and_part(broker: Broker) -> None:
    await broker.declare(topology.topology(("light", "premium")))
    news = asyncio.Event()
    async with replica(broker, news) as one:
        async with replica(broker, news) as other:
            await becomes(news, lambda: one.gates[LANE].share == other.gates[LANE].share == 1 / 2)
            until = SYSTEM_CLOCK.now() + timedelta(seconds=60)
            one.gates[LANE]._tell(until, "provider_auth", broken=True)
            await becomes(news, lambda: other.gates[LANE].broken)
            assert not other.gates[LANE].well
            one.gates[LANE]._tell(None, "well again")
            await becomes(news, lambda: other.gates[LANE].well)
            one.gates[LANE].calls.refused(SYSTEM_CLOCK.monotonic(), under_way=0)
            await becomes(news, lambda: other.gates[LANE].calls.limit.learned is not None)
        await becomes(news, lambda: one.gates[LANE].share == 1)


async def test_a_request_put_aside_comes_back_with_what_was_tried(broker: Broker) -> None:
    queue = replace(topology.routed("light"), delays=(0.3, 600.0))
    await broker.declare(topology.topology(("light", "premium")))
    await broker.declare(topology.Topology((), queue.parking))
    seen: list[RequestRouted] = []
    parked: list[int] = []
    back = asyncio.Event()
    tried = Attempt(lane=LANE, code="rate_limited", message="429", at=START)

    async def handle(message: Message) -> Sequence[Event]:
        event = envelope.decode(message)
        assert isinstance(event, RequestRouted)
        seen.append(event)
        parked.append(times_parked(message))
        if not event.attempts:
            raise Park("later", after_s=0.2, instead=event.model_copy(update={"attempts": (tried,), "calls": 1}))
        back.set()
        return ()

    sent = make.routed()
    await broker.publish([make.message(sent, headers={**make.message(sent).headers, "note": "kept"})])
    runner = Consumer(broker, queue, handle, source="inference", decode=lambda message: message, concurrency=1)
    running = asyncio.create_task(runner.run())
    async with asyncio.timeout(PATIENCE_S):
        await back.wait()
        await runner.stop()
        await running
    assert seen == [sent, sent.model_copy(update={"attempts": (tried,), "calls": 1})]
    assert parked == [0, 1]

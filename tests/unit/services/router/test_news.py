"""What replicas tell each other."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from uuid import uuid4

from shared import envelope
from shared.events import LaneThrottled, RequestRouted, RouterScored
from tests.support import make
from tests.support.broker import WatchedBroker
from tests.support.clock import ManualClock
from tests.support.routers import replica_of

HARD = "please prove it for my own function, my friend"
SHARES = {"router__shares": {"premium": 0.25}, "router__calibration": {"observations": 20}}


async def said(broker: WatchedBroker) -> list[RouterScored]:
    events = [envelope.decode(message) for message in broker.published]
    return [event for event in events if isinstance(event, RouterScored)]


async def test_two_replicas_come_to_the_same_threshold_from_what_each_has_counted() -> None:
    clock, broker = ManualClock(), await WatchedBroker.ready()
    replicas = [replica_of(make.policy(**SHARES), None, broker, clock) for _ in range(2)]
    tasks = [asyncio.create_task(each.news.announce()) for each in replicas]
    for number in range(40):
        prompt = HARD if number % 2 else "my friend is asking for a function"
        await replicas[number % 4 // 2].router.missed(make.missed(make.request(prompt)))
    await clock.advance(2)
    deltas = await said(broker)
    assert len(deltas) == 2
    for each in replicas:
        for delta in deltas:
            assert await each.news.heard(delta) == ()
    routes = []
    for each in replicas:
        (event,) = await each.router.missed(make.missed(make.request(HARD, id=make.request().id)))
        assert isinstance(event, RequestRouted)
        routes.append(event.route.reasons[-1])
    assert routes == ["score +4.5, premium for 25.0% of requests: from +4.5, 50% of those at it"] * 2
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_broker_that_is_away_is_survived() -> None:
    clock, broker = ManualClock(), await WatchedBroker.ready()
    replica = replica_of(make.policy(**SHARES), None, broker, clock)
    task = asyncio.create_task(replica.news.announce())
    await broker.lose_connection()
    await replica.router.missed(make.missed(make.request(HARD)))
    await clock.advance(60)
    assert not task.done()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_costs_and_trouble_are_heard_of() -> None:
    clock, broker = ManualClock(), await WatchedBroker.ready()
    replica = replica_of(make.policy(router__ladder=["light", "premium"]), None, broker, clock)
    await replica.news.heard(make.completed(source="light", tier="light", cost_usd=0.5, completed_at=clock.now()))
    assert replica.ledger.spent() == 0.5
    until = clock.now() + timedelta(seconds=30)
    await replica.news.heard(LaneThrottled(signal_id=uuid4(), lane="local/tiny", until=until, reason="rate_limited"))
    (event,) = await replica.router.missed(make.missed(make.request("What is the capital of Peru?")))
    assert isinstance(event, RequestRouted)
    assert event.route.reasons[-1] == "light is in trouble (rate_limited): premium instead"

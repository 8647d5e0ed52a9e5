"""Telling, every few seconds, what was counted and what trends."""

import asyncio
from typing import Any

import pytest

from services.trends.announcing import EVERY_S, Announcing
from services.trends.counting import Counting
from services.trends.watch import Watch
from shared import envelope
from shared.background import PAUSE_FIRST_S, background
from shared.errors import BrokerUnavailable
from shared.events import TopicCounted
from shared.policy.trends import TrendsPolicy
from shared.topology import TOPIC_EVENTS
from tests.support.broker import WatchedBroker
from tests.support.clock import ManualClock


class Room:
    """A replica and its broker."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.broker = WatchedBroker()
        policy = TrendsPolicy()
        self.counting, self.watch = Counting(policy, self.clock), Watch(policy, self.clock)
        self.announcing = Announcing(self.counting, self.watch, self.broker, self.clock)


@pytest.fixture
def room() -> Room:
    return Room()


async def test_it_tells_what_was_counted_every_few_seconds_and_nothing_where_there_is_nothing(room: Room) -> None:
    async with (
        room.broker.subscribe(TOPIC_EVENTS, prefetch=10) as own,
        background(room.announcing.run, name="announcing", clock=room.clock),
    ):
        await room.clock.advance(3 * EVERY_S)
        assert room.broker.published == []
        room.counting.count("acme", ["tea"])
        await room.clock.advance(EVERY_S)
        (delivery,) = await own.take(10)
    event = envelope.decode(delivery.message)
    assert isinstance(event, TopicCounted)
    assert [(part.tenant, part.requests, part.keys) for part in event.counts] == [("acme", 1, {"tea": 1})]


async def test_where_nobody_listens_nothing_is_wrong(room: Room, logged: list[dict[str, Any]]) -> None:
    room.counting.count("acme", ["tea"])
    await room.announcing.round()
    assert len(room.broker.published) == 1
    assert "not told" not in [entry["event"] for entry in logged]


async def test_what_can_t_be_told_is_lost_and_the_next_round_goes_on(room: Room) -> None:
    room.counting.count("acme", ["tea"])
    room.broker.failures = [BrokerUnavailable("away")]
    await room.announcing.round()
    assert room.broker.published == []
    async with room.broker.subscribe(TOPIC_EVENTS, prefetch=10):
        room.counting.count("acme", ["coffee"])
        async with asyncio.timeout(1):
            await room.announcing.round()
    assert len(room.broker.published) == 1


async def test_a_round_that_fails_by_a_mistake_is_not_the_last_and_what_was_counted_is_told_with_the_next(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        room.broker.subscribe(TOPIC_EVENTS, prefetch=10),
        background(room.announcing.run, name="announcing", clock=room.clock),
    ):
        with monkeypatch.context() as broken:
            broken.setattr(room.watch, "tick", lambda: 1 / 0)
            room.counting.count("acme", ["tea"])
            await room.clock.advance(EVERY_S)
        assert room.broker.published == []
        await room.clock.advance(PAUSE_FIRST_S + EVERY_S)
    assert len(room.broker.published) == 1

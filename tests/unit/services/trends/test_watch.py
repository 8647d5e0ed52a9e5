"""Topics that begin to trend and settle, and what is said about it."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from services.trends.counting import Counting
from services.trends.watch import HOLDS, REPEAT_S, Watch
from shared.events import Event, TopicCounted, TopicCounts, TopicSettled, TopicTrending
from shared.policy.trends import TrendsPolicy
from tests.support import make
from tests.support.clock import START, ManualClock

TICK_S = 5.0


class World:
    """Replicas that hear each other, and a stream they split."""

    def __init__(self, replicas: int = 1, **policy: Any) -> None:
        self.policy = TrendsPolicy.model_validate(policy)
        self.clock = ManualClock()
        self.counting = [Counting(self.policy, self.clock) for _ in range(replicas)]
        self.watches = [Watch(self.policy, self.clock) for _ in range(replicas)]
        self.said: list[Event] = []
        self._turn = 0

    async def spend(self, minutes: float, *, tenant: str = "acme", **per_tick: int) -> None:
        """Let time pass in which names are asked for so many times per tick; a ``_`` in a name is a space."""
        for _ in range(round(minutes * 60 / TICK_S)):
            for name, count in per_tick.items():
                for _ in range(count):
                    self._turn += 1
                    self.counting[self._turn % len(self.counting)].count(tenant, _keys(name.replace("_", " ")))
            self.clock.skip(TICK_S)
            told = [event for counting in self.counting for event in counting.taken()]
            for watch in self.watches:
                await hear(watch, *told)
            self.said += [event for watch in self.watches for event in watch.tick()]

    def changes(self) -> list[tuple[str, str]]:
        """What began and settled, by the first who said so."""
        found: list[tuple[str, str]] = []
        trending: set[str] = set()
        for event in self.said:
            match event:
                case TopicTrending(terms=(term,)) if term not in trending:
                    trending.add(term)
                    found.append(("trending", term))
                case TopicSettled(terms=(term,)) if term in trending:
                    trending.remove(term)
                    found.append(("settled", term))
                case _:
                    pass
        return found


def _keys(text: str) -> Sequence[str]:
    return [*text.split(), text] if " " in text else [text]


async def hear(watch: Watch, *events: Event) -> None:
    for event in events:
        assert await watch.heard(event) == ()


async def test_a_topic_trends_soon_after_it_bursts_and_settles_soon_after_it_is_over() -> None:
    world = World()
    await world.spend(60, other=20, tea=1)
    assert world.changes() == []
    await world.spend(3, other=20, tea=10)
    assert world.changes() == [("trending", "tea")]
    await world.spend(20, other=20, tea=1)
    assert world.changes() == [("trending", "tea"), ("settled", "tea")]


async def test_a_topic_whose_level_stays_is_the_usual_after_the_slow_constant() -> None:
    world = World(slow=3600)
    await world.spend(60, other=20)
    await world.spend(200, other=20, tea=5)
    assert world.changes() == [("trending", "tea"), ("settled", "tea")]
    (settled,) = [event for event in world.said if isinstance(event, TopicSettled)]
    assert "usual by now" in settled.reason


async def test_a_topic_whose_burst_just_goes_on_is_compared_with_what_was_usual_before_it() -> None:
    world = World()
    await world.spend(5, other=20)
    await world.spend(60, other=20, tea=20)
    assert world.changes() == [("trending", "tea")]


async def test_a_load_that_doubles_makes_nothing_trend_nor_does_one_that_ends() -> None:
    world = World()
    await world.spend(60, other=20, tea=4)
    await world.spend(20, other=40, tea=8)
    await world.spend(20)
    await world.spend(20, other=20, tea=4)
    assert world.changes() == []


async def test_where_everything_ends_a_trend_ends_too() -> None:
    world = World()
    await world.spend(60, other=20)
    await world.spend(5, other=20, tea=20)
    await world.spend(30)
    assert world.changes() == [("trending", "tea"), ("settled", "tea")]


async def test_nothing_trends_before_anything_is_usual() -> None:
    world = World()
    await world.spend(1, tea=20)
    assert world.changes() == []


async def test_four_replicas_decide_alike_what_one_alone_would() -> None:
    one, four = World(), World(replicas=4)
    for world in (one, four):
        await world.spend(60, other=20, tea=1)
        await world.spend(6, other=20, tea=12)
    (alone,) = one.watches[0].trends()
    for watch in four.watches:
        (trend,) = watch.trends()
        assert (trend.name, trend.since) == (alone.name, alone.since)
        assert trend.latest.now == pytest.approx(alone.latest.now)
    begun = {event.topic_id for event in four.said if isinstance(event, TopicTrending)}
    assert len(begun) == 1


async def test_a_trend_is_announced_at_once_and_again_every_few_seconds_and_holds_longer_than_that() -> None:
    world = World()
    await world.spend(60, other=20)
    await world.spend(2, other=20, tea=20)
    first, *_ = (event for event in world.said if isinstance(event, TopicTrending))
    assert (first.tenant, first.terms, first.origin) == ("acme", ("tea",), "detected")
    assert first.score is not None
    assert first.score > world.policy.ratio
    assert "of the requests, usually 0.10%" in first.reason
    world.said.clear()
    await world.spend(1, other=20, tea=20)
    again = [event for event in world.said if isinstance(event, TopicTrending)]
    assert len(again) == 60 // REPEAT_S
    assert {(event.topic_id, event.since) for event in again} == {(first.topic_id, first.since)}
    assert again[-1].until == world.clock.now() + HOLDS
    assert HOLDS.total_seconds() >= 3 * REPEAT_S


async def test_a_phrase_that_says_better_what_a_word_is_about_trends_in_its_place() -> None:
    world = World()
    await world.spend(60, other=20)
    await world.spend(4, other=20, world_cup=10)
    assert world.changes() == [("trending", "world cup")]
    await world.spend(60, other=20)
    await world.spend(4, other=20, cup_tea=3, cup_cake=3, cup=9)
    assert ("trending", "cup") in world.changes()


async def test_tenants_are_counted_apart_unless_the_policy_says_otherwise() -> None:
    apart, together = World(), World(across_tenants=True)
    for world in (apart, together):
        for _ in range(12):
            await world.spend(5, tenant="acme", other=10)
            await world.spend(5, tenant="beta", other=10)
        await world.spend(3, tenant="acme", other=10, tea=9)
    assert {trend.name for trend in apart.watches[0].trends()} == {("acme", "tea")}
    assert {trend.name for trend in together.watches[0].trends()} == {("", "tea")}
    (event, *_) = (event for event in together.said if isinstance(event, TopicTrending))
    assert event.tenant is None


async def test_no_more_topics_trend_than_may_and_the_most_unlikely_come_first(logged: list[dict[str, Any]]) -> None:
    world = World(max_trending=2)
    await world.spend(60, other=40)
    await world.spend(0.25, other=40, a1=10, a2=60, a3=30)
    assert {trend.name[1] for trend in world.watches[0].trends()} == {"a2", "a3"}
    assert "more topics trend than may" in [entry["event"] for entry in logged]


async def test_a_tenant_with_many_topics_leaves_the_others_theirs(logged: list[dict[str, Any]]) -> None:
    world = World(max_trending=3)
    for tenant in ("acme", "beta"):
        await world.spend(30, tenant=tenant, other=40)
    await world.spend(0.25, other=40, a1=20, a2=60, a3=30, a4=50)
    (watch,) = world.watches
    assert {trend.name[1] for trend in watch.trends()} == {"a2", "a3", "a4"}
    await world.spend(0.25, tenant="beta", other=40, b1=40, b2=60)
    assert {trend.name[1] for trend in watch.trends()} == {"a2", "a4", "b2"}
    gone = [entry["topic"] for entry in logged if entry["event"] == "a topic gives way to another tenant's"]
    assert gone == ["a3"]
    await world.spend(0.5, other=40, a1=20, a2=60, a3=30, a4=50)
    assert {trend.name[1] for trend in watch.trends()} == {"a2", "a4", "b2"}, "and it stays so"


async def test_a_tenant_that_asks_for_very_much_does_not_hide_a_burst_of_another() -> None:
    world = World(max_topics=100)
    (watch,) = world.watches
    for minute in range(30):
        await world.spend(1, tenant="beta", other=10)
        words = {f"word{minute}x{n}": 500 for n in range(100)}
        flood = (TopicCounts(tenant="acme", requests=50_000, keys=words),)
        await hear(watch, TopicCounted(batch_id=make.new_id(), counts=flood, counted_at=world.clock.now()))
    await world.spend(3, tenant="beta", other=10, tea=4)
    assert ("beta", "tea") in {trend.name for trend in watch.trends()}


async def test_a_clock_that_is_ahead_does_not_make_a_count_outlive_the_others() -> None:
    world = World()
    counts = (TopicCounts(tenant="acme", requests=5, keys={"tea": 5}),)
    ahead = TopicCounted(batch_id=make.new_id(), counts=counts, counted_at=START + timedelta(days=1))
    await hear(world.watches[0], ahead)
    world.clock.skip(1800)
    assert world.watches[0].tally.requests("acme").now < 0.01


async def test_what_is_near_to_trending_can_be_seen() -> None:
    world = World()
    await world.spend(60, other=20, tea=1)
    await world.spend(1, other=20, tea=3)
    (watch,) = world.watches
    assert watch.trends() == []
    (rising,) = watch.rising(5)
    assert rising.name == ("acme", "tea")
    assert json.dumps(watch.reason(rising))


@pytest.mark.parametrize("minutes", [5, 60, 600])
async def test_the_usual_rate_is_that_of_the_time_that_was_watched(minutes: float) -> None:
    world = World()
    await world.spend(minutes, other=5)
    (watch,) = world.watches
    assert watch.tally.requests("acme").usual * 60 / watch.tally.usual_s == pytest.approx(60, rel=0.05)

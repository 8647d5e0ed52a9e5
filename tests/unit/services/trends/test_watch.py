"""Topics that begin to trend and settle, and what is said about it."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from services.trends import watch as module
from services.trends.counting import Counting
from services.trends.watch import HOLDS, HOLDS_TOLD, LISTENS_S, REPEAT_S, REPEAT_TOLD_S, Watch
from shared.events import LONGEST_TOPIC_S, Event, TopicCounted, TopicCounts, TopicSettled, TopicTrending
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


async def test_a_clock_that_is_ahead_does_not_make_a_count_outlive_the_others() -> None:
    world = World()
    counts = (TopicCounts(tenant="acme", requests=5, keys={"tea": 5}),)
    ahead = TopicCounted(batch_id=make.new_id(), counts=counts, counted_at=START + timedelta(days=1))
    await hear(world.watches[0], ahead)
    world.clock.skip(1800)
    assert world.watches[0].requests("acme").now < 0.01


def told(**changes: Any) -> TopicTrending:
    fields = {"terms": ["tea"], "tenant": "acme", "since": START, "until": START + timedelta(hours=2)}
    return TopicTrending.model_validate(fields | changes)


async def test_what_is_told_from_outside_is_repeated_until_it_ends_or_has_settled() -> None:
    world = World()
    (watch,) = world.watches
    await hear(watch, told())
    (repeated,) = watch.tick()
    assert isinstance(repeated, TopicTrending)
    assert (repeated.origin, repeated.until, repeated.topic_id) == ("repeated", START + HOLDS_TOLD, told().topic_id)
    await hear(watch, repeated)  # its own, which says nothing new
    assert watch.tick() == []
    world.clock.skip(REPEAT_TOLD_S)
    assert len(watch.tick()) == 1
    world.clock.skip(7200)
    assert watch.tick() == []
    await hear(watch, told(until=world.clock.now() + timedelta(hours=1)))
    world.clock.skip(REPEAT_TOLD_S)
    assert len(watch.tick()) == 1
    await hear(watch, TopicSettled(terms=("teas",), tenant="acme", settled_at=START))
    world.clock.skip(REPEAT_TOLD_S)
    assert watch.tick() == []


async def test_who_says_that_a_topic_has_settled_knows_better_than_the_counts_for_a_while() -> None:
    world = World(slow=3600)
    (watch,) = world.watches
    await world.spend(60, other=20)
    await world.spend(3, other=20, tea=20)
    await hear(watch, TopicSettled(terms=("tea",), tenant="acme", settled_at=world.clock.now()))
    await world.spend(40, other=20)
    await world.spend(2, other=20, tea=20)
    assert world.changes() == [("trending", "tea"), ("settled", "tea")]
    await hear(watch, told(until=world.clock.now() + timedelta(hours=1)))
    await world.spend(1, other=20, tea=20)
    assert watch.trends()


async def test_a_tenant_is_remembered_for_what_it_told_last_and_takes_no_room_of_others(
    monkeypatch: pytest.MonkeyPatch, logged: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(module, "MOST_TOLD", 2)
    (watch,) = World().watches
    await hear(watch, told(tenant="beta"))
    for n in range(4):
        await hear(watch, told(terms=[f"tea{n}"]))
        await hear(watch, TopicSettled(terms=(f"coffee{n}",), tenant="acme", settled_at=START))
    repeated = [(event.tenant, event.terms) for event in watch.tick() if isinstance(event, TopicTrending)]
    assert repeated == [("beta", ("tea",)), ("acme", ("tea2",)), ("acme", ("tea3",))]
    assert [n for n in range(4) if watch._is_silenced(("acme", f"coffee{n}"))] == [2, 3]
    assert [entry["tenant"] for entry in logged if "more topics than are kept" in entry["event"]] == ["acme"]


async def test_a_replica_that_was_away_knows_from_the_others_what_still_holds() -> None:
    world = World(replicas=2)
    away, there = world.watches
    for watch in world.watches:
        await hear(watch, told(), told(terms=["coffee"]))
    await hear(there, TopicSettled(terms=("coffee",), tenant="acme", settled_at=START))
    away.subscribed()
    assert away.tick() == []
    await hear(away, *there.tick())
    world.clock.skip(LISTENS_S)
    assert [event.terms for event in away.tick() if isinstance(event, TopicTrending)] == [("tea",)]
    world.clock.skip(HOLDS_TOLD.total_seconds())
    assert away.tick() == [], "it goes on for as long as the others say"


async def test_where_all_were_away_they_go_by_what_they_knew() -> None:
    world = World()
    (watch,) = world.watches
    await hear(watch, told(), told(terms=["coffee"]))
    watch.subscribed()
    await hear(watch, TopicSettled(terms=("coffee",), tenant="acme", settled_at=START))
    world.clock.skip(LISTENS_S)
    assert [event.terms for event in watch.tick() if isinstance(event, TopicTrending)] == [("tea",)]


async def test_what_is_told_for_longer_than_may_be_is_not_repeated_for_longer() -> None:
    world = World()
    (watch,) = world.watches
    await hear(watch, told(until=START + timedelta(days=3650)))
    world.clock.skip(LONGEST_TOPIC_S)
    assert watch.tick() == []


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
    assert watch.requests("acme").usual * 60 / watch.usual_s == pytest.approx(60, rel=0.05)

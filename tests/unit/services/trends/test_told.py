"""What is told from outside: repeated while it holds, forgotten when it is over, and bounded."""

from datetime import timedelta
from typing import Any

import pytest

from services.trends import told as module
from services.trends.told import HOLDS, LISTENS_S, REPEAT_S
from shared.events import LONGEST_TOPIC_S, TopicSettled, TopicTrending
from tests.support.clock import START, ManualClock
from tests.unit.services.trends.test_watch import World, hear


def told(**changes: Any) -> TopicTrending:
    fields = {"terms": ["tea"], "tenant": "acme", "since": START, "until": START + timedelta(hours=2)}
    return TopicTrending.model_validate(fields | changes)


async def test_what_is_told_from_outside_is_repeated_until_it_ends_or_has_settled() -> None:
    world = World()
    (watch,) = world.watches
    await hear(watch, told())
    (repeated,) = watch.tick()
    assert isinstance(repeated, TopicTrending)
    assert (repeated.origin, repeated.until, repeated.topic_id) == ("repeated", START + HOLDS, told().topic_id)
    await hear(watch, repeated)  # its own, which says nothing new
    assert watch.tick() == []
    world.clock.skip(REPEAT_S)
    assert len(watch.tick()) == 1
    world.clock.skip(7200)
    assert watch.tick() == []
    await hear(watch, told(until=world.clock.now() + timedelta(hours=1)))
    world.clock.skip(REPEAT_S)
    assert len(watch.tick()) == 1
    await hear(watch, TopicSettled(terms=("teas",), tenant="acme", settled_at=START))
    world.clock.skip(REPEAT_S)
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
    monkeypatch.setattr(module, "MOST_OF_ONE", 2)
    (watch,) = World().watches
    await hear(watch, told(tenant="beta"))
    for n in range(4):
        await hear(watch, told(terms=[f"tea{n}"]))
        await hear(watch, TopicSettled(terms=(f"coffee{n}",), tenant="acme", settled_at=START))
    repeated = [(event.tenant, event.terms) for event in watch.tick() if isinstance(event, TopicTrending)]
    assert repeated == [("beta", ("tea",)), ("acme", ("tea2",)), ("acme", ("tea3",))]
    assert [n for n in range(4) if watch._told.is_silenced("acme", f"coffee{n}")] == [2, 3]
    assert [entry["tenant"] for entry in logged if "more topics are told" in entry["event"]] == ["acme", "acme"]


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
    world.clock.skip(HOLDS.total_seconds())
    assert len(away.tick()) == 1, "also when the others are gone"
    world.clock.skip(7200)
    assert away.tick() == []


async def test_what_was_told_outlives_the_replicas_that_heard_it_where_they_go_one_by_one() -> None:
    told_to, later, last = World(replicas=3).watches
    clock = told_to._clock
    assert isinstance(clock, ManualClock)
    await hear(told_to, told())
    await hear(later, *told_to.tick())
    clock.skip(1800)
    await hear(last, *later.tick())
    clock.skip(1800)
    (repeated,) = (event for event in last.tick() if isinstance(event, TopicTrending))
    assert (repeated.until, repeated.told_until) == (clock.now() + HOLDS, START + timedelta(hours=2))
    clock.skip(3600)
    assert last.tick() == []


async def test_what_a_replica_repeats_that_has_not_heard_of_the_end_yet_is_not_told_again() -> None:
    slower, watch = World(replicas=2).watches
    settled = TopicSettled(terms=("tea",), tenant="acme", settled_at=START + timedelta(minutes=1))
    await hear(slower, told())
    await hear(watch, told(), settled, *slower.tick())
    assert watch.tick() == []
    again = told(since=START + timedelta(minutes=2))
    await hear(slower, again)
    repeated = again.model_copy(update={"origin": "repeated", "told_until": again.until})
    await hear(watch, repeated)
    assert len(watch.tick()) == 0
    watch._clock.skip(REPEAT_S)  # type: ignore[attr-defined]  # the world's
    assert len(watch.tick()) == 1


async def test_the_room_of_all_tenants_is_bounded_and_who_told_most_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OF_ALL", 4)
    (watch,) = World().watches
    for tenant, term in (("acme", "a1"), ("acme", "a2"), ("beta", "b1"), ("gamma", "c1"), ("delta", "d1")):
        await hear(watch, told(tenant=tenant, terms=[term]))
    kept = [event.terms[0] for event in watch.tick() if isinstance(event, TopicTrending)]
    assert kept == ["a2", "b1", "c1", "d1"]
    for n in range(20):
        await hear(watch, told(tenant=f"tenant{n}"))
    assert len(watch._told) == 4


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

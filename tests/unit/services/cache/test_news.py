"""What a replica hears from the others: what it keeps in memory, and what it forgets."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache import selection
from services.cache.lookup import Entry
from services.cache.selection import REMEMBERED
from shared.events import CacheAudited, CacheFilled, CacheHit, Event, RequestMissed, ResponseCompleted
from tests.support import make
from tests.support.clock import START
from tests.support.replica import PROMPT, Decision, Replica, invalidation, near
from tests.support.sample import sample

LATER = START + timedelta(seconds=10)


def filled(**changes: Any) -> CacheFilled:
    fields = {
        "entry_id": make.new_id(),
        "tenant": "acme",
        "origin": "refresh",
        "key": make.key(),
        "output_text": "Paris, still.",
        "model": "local/tiny",
        "tier": "light",
        "freshness": make.freshness(),
        "completed_at": START,
    }
    return CacheFilled.model_validate(fields | changes)


def kept(replica: Replica) -> Entry | None:
    """What the front has for the key that answers of tests have."""
    return replica.front.get(make.key().exact, replica.clock.now())


def text(replica: Replica) -> str | None:
    found = kept(replica)
    return None if found is None else found.answer


@pytest.fixture
def replica() -> Replica:
    return Replica()


async def test_a_bought_answer_is_kept_as_the_entry_it_becomes(replica: Replica) -> None:
    answer = make.completed(freshness=make.freshness(category="slow", ttl_s=600))
    assert await replica.hear(answer) == []
    assert kept(replica) == Entry(
        entry_id=answer.request_id,
        scope=make.key().scope,
        exact=make.key().exact,
        tenant="acme",
        prompt=PROMPT,
        answer="Paris.",
        model="local/tiny",
        tier="light",
        category="slow",
        reason="nothing changes",
        cost_usd=0.25,
        stored_at=START,
        expires_at=START + timedelta(minutes=10),
        keep_until=START + timedelta(minutes=70),
        hits=0,
        good=0,
        bad=0,
        similarity=1.0,
        match="exact",
    )


async def test_what_was_bought_anywhere_is_served_here() -> None:
    here, there = Replica(), Replica()
    (miss,) = await there.ask(make.request())
    assert isinstance(miss, RequestMissed)
    await here.hear(miss, make.completed(miss.request, key=miss.key, output_text="From there."))
    (event,) = await here.ask(make.request())
    assert isinstance(event, ResponseCompleted)
    assert (event.source, event.output_text) == ("cache", "From there.")
    assert here.lookup.asked == []


@pytest.mark.parametrize(
    "change",
    [
        {"leader_id": make.new_id(), "source": "coalesced"},
        {"hit": CacheHit(entry_id=make.new_id(), similarity=0.9, match="semantic", stored_at=START, expires_at=LATER)},
        {"key": None},
        {"key": make.key(base=None)},
        {"freshness": None},
        {"freshness": make.freshness(ttl_s=0)},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_what_was_not_bought_or_may_not_be_reused_is_not_kept(replica: Replica, change: dict[str, Any]) -> None:
    await replica.hear(make.completed(**change))
    assert len(replica.front) == 0


async def test_an_answer_that_is_too_long_for_the_table_is_not_kept_in_memory_either() -> None:
    replica = Replica(bounds={"max_answer_chars": 5})
    await replica.hear(make.completed(output_text="Paris."))
    assert kept(replica) is None
    await replica.hear(make.completed(output_text="Paris"))
    assert text(replica) == "Paris"


async def test_what_was_refreshed_or_brought_along_is_kept(replica: Replica) -> None:
    entry = filled()
    await replica.hear(entry)
    found = kept(replica)
    assert found is not None
    assert (found.entry_id, found.answer) == (entry.entry_id, "Paris, still.")


async def test_what_moves_to_another_embedder_is_not_kept(replica: Replica) -> None:
    await replica.hear(filled(origin="reembed"))
    assert len(replica.front) == 0


@given(st.lists(st.integers(0, 100), min_size=1, unique=True))
def test_the_newest_answer_wins_in_whatever_order_they_are_heard(seconds: list[int]) -> None:
    async def hear() -> None:
        replica = Replica()
        for second in seconds:
            at = START + timedelta(seconds=second)
            kind: Event = make.completed(output_text=str(second), completed_at=at)
            await replica.news.heard(kind if second % 2 else filled(output_text=str(second), completed_at=at))
        assert text(replica) == str(max(seconds))

    asyncio.run(hear())


async def test_an_invalidation_forgets_what_it_means_and_nothing_else(replica: Replica) -> None:
    other = make.key("How tall is it?", exact=make.new_id())
    await replica.hear(make.completed(), make.completed(key=other))
    await replica.hear(invalidation(LATER, topic="capital"))
    assert text(replica) is None
    assert replica.front.get(other.exact, START) is not None


async def test_an_older_answer_that_comes_after_the_invalidation_is_not_kept(replica: Replica) -> None:
    replica.clock.skip(10)
    await replica.hear(invalidation(LATER))
    await replica.hear(make.completed(completed_at=START), filled(completed_at=LATER))
    assert len(replica.front) == 0


async def test_a_younger_answer_that_comes_after_the_invalidation_is_kept(replica: Replica) -> None:
    replica.clock.skip(10)
    await replica.hear(invalidation(LATER))
    await replica.hear(make.completed(completed_at=LATER + timedelta(seconds=1)))
    assert text(replica) == "Paris."


async def test_a_younger_answer_that_came_before_the_invalidation_stays(replica: Replica) -> None:
    await replica.hear(make.completed(completed_at=LATER))
    await replica.hear(invalidation(START))
    assert text(replica) == "Paris."


async def test_an_older_answer_is_not_kept_for_as_long_as_it_may_be_on_its_way(replica: Replica) -> None:
    await replica.hear(invalidation(START))
    replica.clock.skip(REMEMBERED.total_seconds())
    await replica.hear(invalidation(replica.clock.now(), tenant="other"))
    await replica.hear(make.completed(completed_at=START, freshness=make.freshness(ttl_s=3600)))
    assert len(replica.front) == 0


async def test_a_gap_in_what_is_heard_empties_memory_because_an_invalidation_may_have_been_in_it() -> None:
    replica = Replica({"Another?": 0.0})
    (miss,) = await replica.ask(make.request())
    assert isinstance(miss, RequestMissed)
    await replica.answer(miss)
    waiting = await replica.asked(make.request("Another?"), make.request("Another?"))
    replica.news.subscribed()
    assert replica.news.behind
    assert len(replica.front) == 0
    again = make.new_id()
    assert replica.in_flight.leader(again, replica.handler.key(make.request())).request_id == again
    assert not waiting[1].done()  # what is not finished is still heard of
    await replica.answer(replica.misses()[-1])
    assert waiting[1].done()


async def test_where_too_many_invalidations_are_heard_older_entries_of_their_tenant_go(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "MOST_REMEMBERED", 2)
    await replica.hear(make.completed(), make.completed(key=make.key(exact=make.new_id()), tenant="other"))
    for number in range(3):
        await replica.hear(invalidation(tenant="acme", model=str(number)))
    assert text(replica) is None
    assert len(replica.front) == 1


async def test_an_invalidation_from_the_future_does_not_go_on_forgetting(replica: Replica) -> None:
    await replica.hear(invalidation(START + timedelta(days=1)))
    await replica.hear(make.completed(completed_at=LATER))
    assert text(replica) == "Paris."


async def test_a_finished_answer_in_flight_is_forgotten_too(replica: Replica) -> None:
    (miss,) = await replica.ask(make.request())
    assert isinstance(miss, RequestMissed)
    await replica.answer(miss)
    other = replica.in_flight.leader(make.new_id(), replica.handler.key(make.request("Another?")))
    await replica.hear(invalidation(LATER, tenant="other"))
    assert replica.in_flight.leader(make.new_id(), replica.handler.key(make.request())).request_id == miss.request.id
    replica.clock.skip(1)
    await replica.hear(invalidation(LATER))
    again = make.new_id()
    assert replica.in_flight.leader(again, replica.handler.key(make.request())).request_id == again
    assert not other.done.is_set()


async def test_an_answer_that_may_not_be_kept_is_shared_by_those_who_wait_whatever_is_invalidated(
    replica: Replica,
) -> None:
    tasks = await replica.asked(make.request(), make.request())
    replica.clock.skip(1)
    await replica.hear(invalidation(replica.clock.now()))
    await replica.answer(replica.misses()[0], completed_at=START, freshness=None)
    assert all(task.done() for task in tasks)
    assert len(replica.answers("coalesced")) == 1


async def test_a_bought_answer_that_can_be_compared_makes_a_finding(replica: Replica) -> None:
    replica.lookup.nearest = [near()]
    replica.learned.decision = Decision(serve=False, risk=0.4, reason="too risky")
    (miss,) = await replica.ask(make.request())
    assert isinstance(miss, RequestMissed)
    (found,) = await replica.hear(make.completed(miss.request, key=miss.key))
    assert isinstance(found, CacheAudited)
    assert (found.kind, found.entry_id) == ("free", replica.lookup.nearest[0].entry_id)


async def test_a_finding_is_learned_from(replica: Replica) -> None:
    assert await replica.hear(sample(CacheAudited).model_copy(update={"kind": "audit"})) == []
    assert len(replica.learned.learned) == 1


async def test_events_it_has_no_use_for_change_nothing(replica: Replica) -> None:
    events: Sequence[Event] = (make.accepted(), make.failed(), make.routed(), make.rejected(), make.missed(key=None))
    assert await replica.hear(*events) == []
    assert len(replica.front) == 0


async def test_what_is_kept_goes_stale_as_its_category_says(replica: Replica) -> None:
    await replica.hear(make.completed(freshness=make.freshness(category="slow", ttl_s=600)))
    found = kept(replica)
    assert found is not None
    assert found == replace(found, keep_until=found.expires_at + timedelta(hours=1))
    replica.clock.skip(600 + 3600)
    assert kept(replica) is None

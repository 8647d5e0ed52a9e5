"""One request at the cache: what it gets, why, and how many calls are bought."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any, TypeVar

import numpy as np
import pytest

from services.cache import handler
from services.cache.handler import Explained
from services.cache.inflight import ANSWERED_KEPT_S
from services.cache.lookup import Entry
from shared.database import DatabaseUnavailable
from shared.errors import Park
from shared.events import (
    Attempt,
    CacheVerdict,
    Event,
    ReplyAddress,
    Request,
    RequestAccepted,
    RequestMissed,
    ResponseCompleted,
    ResponseFailed,
)
from shared.telemetry import metrics
from shared.vectors import decode_vector
from tests.support import make
from tests.support.clock import START, settled
from tests.support.replica import PROMPT, Decision, Replica, entry, invalidation, near, vector

T = TypeVar("T")


async def within(seconds: float, work: Awaitable[T]) -> T:
    async with asyncio.timeout(seconds):
        return await work


def completed(events: Sequence[Event]) -> ResponseCompleted:
    assert isinstance(events[0], ResponseCompleted), events
    return events[0]


def missed(events: Sequence[Event]) -> RequestMissed:
    (event,) = events
    assert isinstance(event, RequestMissed), event
    return event


def verdict(events: Sequence[Event]) -> CacheVerdict:
    event = events[0]
    assert isinstance(event, RequestMissed | ResponseCompleted)
    assert event.verdict is not None
    return event.verdict


def kept(replica: Replica, request: Request, **changes: Any) -> Entry:
    """An entry of this very request in the front of a replica."""
    key = replica.handler.key(request)
    found = entry(key.prompt, scope=key.scope, exact=key.exact, **changes)
    replica.front.put(found)
    return found


@pytest.fixture
def replica() -> Replica:
    return Replica()


# The same prompt


async def test_the_very_same_prompt_is_answered_from_the_table(replica: Replica) -> None:
    replica.lookup.exact = entry()
    request = make.request(metadata={"k": "v"}, reply=ReplyAddress(queue="q"))
    event = completed(await replica.ask(request))
    assert (event.source, event.output_text, event.cost_usd, event.saved_usd) == ("cache", "Paris.", 0.0, 0.5)
    assert (event.request_id, event.tenant, event.metadata, event.reply) == (
        request.id,
        "acme",
        {"k": "v"},
        ReplyAddress(queue="q"),
    )
    assert event.hit is not None
    assert (event.hit.match, event.hit.similarity, event.hit.stored_at) == ("exact", 1.0, START - timedelta(minutes=1))
    assert event.freshness is not None
    assert event.freshness.ttl_s == 600
    assert event.verdict == CacheVerdict(
        tier="exact", reason="same prompt", similarity=1.0, entry_id=event.hit.entry_id, age_s=60
    )
    assert replica.guards.judged == []


async def test_the_very_same_prompt_is_answered_from_memory_without_asking_anybody(replica: Replica) -> None:
    request = make.request()
    found = kept(replica, request)
    events = await replica.ask(request)
    assert completed(events).output_text == "Paris."
    assert (verdict(events).tier, verdict(events).reason, verdict(events).entry_id) == (
        "exact",
        "same prompt",
        found.entry_id,
    )
    assert (replica.embedder.embedded, replica.lookup.prompts, replica.lookup.asked) == ([], [], [])


async def test_what_the_table_had_is_in_memory_the_next_time(replica: Replica) -> None:
    request = make.request()
    key = replica.handler.key(request)
    replica.lookup.exact = entry(scope=key.scope, exact=key.exact)
    await replica.ask(request)
    replica.lookup.away = True
    assert completed(await replica.ask(make.request())).source == "cache"
    assert len(replica.lookup.prompts) == 1


async def test_an_invalidated_entry_that_is_still_in_the_table_is_neither_served_nor_kept(replica: Replica) -> None:
    request = make.request()
    key = replica.handler.key(request)
    replica.lookup.exact = entry(scope=key.scope, exact=key.exact)
    await replica.hear(invalidation(START))
    missed(await replica.ask(request))
    assert len(replica.front) == 0


async def test_a_near_entry_that_was_invalidated_is_not_served_either(replica: Replica) -> None:
    replica.lookup.nearest = [near()]
    await replica.hear(invalidation(START, topic="capital"))
    missed(await replica.ask(make.request()))


# A near prompt


async def test_a_near_prompt_that_is_verified_is_answered_from_the_cache(replica: Replica) -> None:
    found = near(similarity=0.97)
    replica.lookup.nearest = [found]
    events = await replica.ask(make.request(PROMPT))
    event = completed(events)
    assert event.hit is not None
    assert (event.source, event.hit.match, event.similarity) == ("cache", "semantic", 0.97)
    assert event.verdict == CacheVerdict(
        tier="semantic",
        reason="verified",
        similarity=0.97,
        risk=0.001,
        entry_id=found.entry_id,
        age_s=60,
    )
    assert replica.guards.judged == [(PROMPT, found.prompt)]


async def test_a_near_entry_is_not_kept_in_memory(replica: Replica) -> None:
    replica.lookup.nearest = [near()]
    await replica.ask(make.request())
    assert len(replica.front) == 0


async def test_a_prompt_that_is_too_far_is_a_miss_and_nothing_is_verified(replica: Replica) -> None:
    replica.lookup.nearest = [near(similarity=0.89)]
    events = await replica.ask(make.request())
    assert (
        missed(events).request.prompt,
        verdict(events).tier,
        verdict(events).reason,
        verdict(events).similarity,
    ) == (
        PROMPT,
        "miss",
        "not similar enough",
        0.89,
    )
    assert replica.guards.judged == []


async def test_an_entry_that_is_too_far_for_its_category_does_not_hide_the_next(replica: Replica) -> None:
    replica.learned.floors = {"dynamic": 0.97, "static": 0.9}
    replica.lookup.nearest = [near(similarity=0.95, category="dynamic"), near(similarity=0.92, answer="It is Paris.")]
    assert completed(await replica.ask(make.request())).output_text == "It is Paris."


async def test_what_a_guard_forbids_is_a_miss_with_its_reason(replica: Replica) -> None:
    replica.lookup.nearest = [near("4 apples", 0.99)]
    replica.guards.says("4 apples", reason="numbers")
    events = await replica.ask(make.request("3 apples"))
    missed(events)
    said = verdict(events)
    assert (said.tier, said.reason, said.risk) == ("miss", "numbers", None)
    assert said.entry_id == replica.lookup.nearest[0].entry_id
    assert replica.learned.decided == []


async def test_what_a_guard_and_the_learned_risk_speak_against_is_a_miss_with_its_reason(
    replica: Replica,
) -> None:
    replica.lookup.nearest = [near()]
    replica.guards.says(PROMPT, reason="content")
    replica.learned.decision = Decision(serve=False, risk=0.4, reason="too risky")
    events = await replica.ask(make.request())
    missed(events)
    assert (verdict(events).reason, verdict(events).risk) == ("content", 0.4)


async def test_what_only_the_learned_risk_speaks_against_is_a_miss_with_its_reason(replica: Replica) -> None:
    replica.lookup.nearest = [near()]
    replica.learned.decision = Decision(serve=False, risk=0.4, reason="too risky")
    events = await replica.ask(make.request())
    missed(events)
    assert (verdict(events).reason, verdict(events).risk) == ("too risky", 0.4)


async def test_an_entry_in_quarantine_is_not_served_until_it_was_confirmed() -> None:
    replica = Replica(audit={"quarantine": True})
    replica.lookup.nearest = [near()]
    events = await replica.ask(make.request())
    missed(events)
    assert verdict(events).reason == "quarantined"
    replica.lookup.nearest = [near(good=1)]
    assert completed(await replica.ask(make.request("And the capital of France?"))).source == "cache"


async def test_a_near_prompt_that_differs_is_passed_over_for_the_next(replica: Replica) -> None:
    replica.lookup.nearest = [
        near("What did 4 apples cost?", 0.99, answer="four"),
        near("What do 3 apples cost", 0.93, answer="three"),
    ]
    replica.guards.says("What did 4 apples cost?")
    events = await replica.ask(make.request("What do 3 apples cost?"))
    assert completed(events).output_text == "three"
    assert verdict(events).tier == "semantic"


async def test_if_all_near_prompts_differ_it_is_a_miss_that_names_the_nearest(replica: Replica) -> None:
    replica.lookup.nearest = [near("a", 0.99), near("b", 0.98)]
    replica.guards.says("a", reason="negation")
    replica.guards.says("b", reason="numbers")
    events = await replica.ask(make.request())
    missed(events)
    assert (verdict(events).reason, verdict(events).similarity) == ("negation", 0.99)


# A miss


async def test_in_an_empty_cache_it_is_a_miss(replica: Replica) -> None:
    events = await replica.ask(make.request())
    assert missed(events).verdict == CacheVerdict(tier="miss", reason="nothing near")


async def test_a_miss_carries_the_key_under_which_its_answer_will_be_found() -> None:
    replica = Replica({PROMPT: 0.3})
    request = make.request(PROMPT)
    event = missed(await replica.ask(request))
    assert event.request == request
    assert event.key is not None
    assert event.key.prompt == PROMPT
    assert event.key.embedding is not None
    assert decode_vector(event.key.embedding) == pytest.approx(vector(0.3), abs=1e-3)


async def test_a_cache_that_is_switched_off_asks_nobody() -> None:
    replica = Replica(enabled=False)
    replica.lookup.exact = entry()
    events = await replica.ask(make.request())
    assert missed(events).key is None
    assert verdict(events) == CacheVerdict(tier="bypass", reason="off")
    assert replica.lookup.prompts == []
    assert replica.embedder.embedded == []


async def test_a_long_prompt_is_matched_exactly_only() -> None:
    replica = Replica(max_prompt_chars=20)
    replica.lookup.nearest = [near("x" * 21, 1.0)]
    events = await replica.ask(make.request("x" * 21))
    event = missed(events)
    assert event.key is not None
    assert event.key.embedding is None
    assert verdict(events).reason == "too long to be matched by meaning"
    assert (len(replica.lookup.prompts), replica.lookup.asked) == (1, [])
    assert replica.embedder.embedded == []


async def test_a_prompt_that_the_model_reads_only_a_part_of_is_matched_exactly_only(replica: Replica) -> None:
    replica.embedder.refused = {PROMPT}
    replica.lookup.nearest = [near()]
    events = await replica.ask(make.request(PROMPT))
    missed(events)
    assert verdict(events).reason == "too long to be matched by meaning"


async def test_a_cache_that_cannot_be_read_is_an_empty_one(replica: Replica) -> None:
    replica.lookup.away = True
    events = await replica.ask(make.request())
    event = missed(events)
    assert event.key is not None
    assert event.key.embedding is not None
    assert verdict(events).reason == "the cache cannot be read"


async def test_while_the_embedder_is_away_the_same_prompt_is_still_found(replica: Replica) -> None:
    replica.embedder.error = Park("any error of ours")
    replica.lookup.nearest = [near()]
    events = await replica.ask(make.request())
    event = missed(events)
    assert event.key is not None
    assert event.key.embedding is None
    assert verdict(events).reason == "the embedder is away"
    replica.lookup.exact = entry("Hello?")
    assert completed(await replica.ask(make.request("Hello?"))).source == "cache"


async def test_only_a_request_that_is_looked_up_by_meaning_counts_for_the_learned_threshold(replica: Replica) -> None:
    replica.lookup.away = True
    await replica.ask(make.request("a"))
    replica.lookup.away = False
    replica.clock.skip(2)
    replica.lookup.exact = entry("b")
    await replica.ask(make.request("b"))
    assert (replica.learned.idle, replica.learned.decided) == (0, [])
    replica.lookup.exact = None
    await replica.ask(make.request("c", model="premium"))
    assert replica.learned.idle == 1


# What the caller says


async def test_no_cache_buys_an_answer_that_others_may_have(replica: Replica) -> None:
    replica.lookup.exact = entry()
    kept(replica, make.request())
    events = await replica.ask(make.request(cache_control={"no_cache": True}))
    event = missed(events)
    assert (verdict(events).tier, verdict(events).reason) == ("bypass", "no-cache")
    assert event.key is not None
    assert event.key.embedding is not None
    replica.front.forget(lambda _: True)
    replica.lookup.exact = None
    (task,) = await replica.asked(make.request())
    await replica.answer(event)
    assert completed(await within(5, task)).leader_id == event.request.id


async def test_no_cache_waits_for_nobody(replica: Replica) -> None:
    await replica.ask(make.request())
    missed(await within(5, replica.ask(make.request(cache_control={"no_cache": True}))))


async def test_no_store_is_served_what_there_is(replica: Replica) -> None:
    replica.lookup.nearest = [near()]
    assert completed(await replica.ask(make.request(cache_control={"no_store": True}))).source == "cache"


async def test_the_answer_to_no_store_is_neither_kept_nor_shared(replica: Replica) -> None:
    request = make.request(cache_control={"no_store": True})
    events = await replica.ask(request)
    event = missed(events)
    assert event.key is None
    assert verdict(events).reason == "no-store"
    other = missed(await within(5, replica.ask(make.request())))
    assert other.key is not None
    await replica.answer(event)
    assert len(replica.front) == 0
    (task,) = await replica.asked(make.request())
    assert not task.done()
    await replica.answer(other)
    assert completed(await within(5, task)).leader_id == other.request.id


async def test_no_store_waits_for_nobody(replica: Replica) -> None:
    await replica.ask(make.request())
    missed(await within(5, replica.ask(make.request(cache_control={"no_store": True}))))


async def test_no_cache_and_no_store_leave_no_trace(replica: Replica) -> None:
    events = await replica.ask(make.request(cache_control={"no_cache": True, "no_store": True}))
    assert missed(events).key is None
    assert verdict(events) == CacheVerdict(tier="bypass", reason="no-cache, no-store")
    assert replica.embedder.embedded == []


async def test_where_the_same_prompts_answer_is_too_old_a_younger_near_one_may_do(replica: Replica) -> None:
    replica.lookup.exact = entry()
    replica.lookup.nearest = [near(stored_at=START)]
    events = await replica.ask(make.request(cache_control={"max_age_s": 30}))
    assert verdict(events).tier == "semantic"
    assert len(replica.embedder.embedded) == 1


async def test_an_answer_bought_because_the_kept_one_is_too_old_can_be_found_by_meaning(replica: Replica) -> None:
    replica.lookup.exact = entry()
    event = missed(await replica.ask(make.request(cache_control={"max_age_s": 30})))
    assert event.key is not None
    assert event.key.embedding is not None


@pytest.mark.parametrize(("max_age_s", "served"), [(60, True), (59, False), (0, False), (None, True)])
@pytest.mark.parametrize("where", ["memory", "table", "near"])
async def test_an_entry_may_be_as_old_as_the_caller_says(where: str, max_age_s: int | None, *, served: bool) -> None:
    replica = Replica()
    request = make.request(cache_control={"max_age_s": max_age_s})
    if where == "memory":
        kept(replica, request)
    elif where == "table":
        replica.lookup.exact = entry()
    else:
        replica.lookup.nearest = [near()]
    (event,) = await replica.ask(request)
    assert isinstance(event, ResponseCompleted) == served


async def test_an_answer_in_flight_may_be_as_old_as_the_caller_says(replica: Replica) -> None:
    first = missed(await replica.ask(make.request()))
    await replica.answer(first)
    replica.front.forget(lambda _: True)
    replica.clock.skip(5)
    assert completed(await replica.ask(make.request(cache_control={"max_age_s": 5}))).leader_id == first.request.id
    younger = missed(await within(5, replica.ask(make.request(cache_control={"max_age_s": 4}))))
    (follower,) = await replica.asked(make.request())
    await replica.answer(younger)
    assert completed(await within(5, follower)).leader_id == younger.request.id


async def test_who_waits_for_a_request_that_finds_an_old_entry_is_not_given_it_where_it_is_too_old(
    replica: Replica,
) -> None:
    replica.lookup.nearest = [near(similarity=0.95)]
    patient, strict, stricter = (
        make.request(PROMPT),
        make.request(PROMPT, cache_control={"max_age_s": 10}),
        make.request(PROMPT, cache_control={"max_age_s": 11}),
    )
    tasks = await replica.asked(patient, strict, stricter)
    (miss,) = replica.misses()
    assert miss.request.id == strict.id
    await replica.answer(miss)
    answers = [completed(events) for events in await within(5, asyncio.gather(tasks[0], tasks[2]))]
    assert [(event.source, event.leader_id) for event in answers] == [("cache", None), ("coalesced", strict.id)]


async def test_who_waits_for_one_that_finds_an_old_entry_gets_none_that_its_own_tenant_would_not_be_served() -> None:
    stricter = {"freshness__tenants": {"other": {"ttl": {"strict": "60s"}}, "third": {"ttl": {"strict": "61s"}}}}
    replica = Replica(pools={"all": ["acme", "other", "third"]}, elsewhere=stricter)
    replica.lookup.exact = entry(PROMPT, category="strict")
    tasks = await replica.asked(*(make.request(PROMPT, tenant=tenant) for tenant in ("acme", "third", "other")))
    for task, source in zip(tasks[:2], ("cache", "coalesced"), strict=True):
        event = completed(await task)
        assert (event.source, event.verdict and event.verdict.age_s) == (source, 60)
    (bought,) = replica.misses()
    assert bought.request.tenant == "other"


async def test_a_near_answer_in_flight_may_be_as_old_as_the_caller_says() -> None:
    replica = Replica({"a": 0.0, "b": 0.1})
    await replica.answer(missed(await replica.ask(make.request("a"))))
    replica.clock.skip(5)
    missed(await within(5, replica.ask(make.request("b", cache_control={"max_age_s": 4}))))
    replica = Replica({"a": 0.0, "b": 0.1})
    await replica.answer(missed(await replica.ask(make.request("a"))))
    replica.clock.skip(5)
    assert completed(await replica.ask(make.request("b", cache_control={"max_age_s": 5}))).source == "coalesced"


async def test_a_prompt_about_the_asker_is_neither_served_nor_kept() -> None:
    replica = Replica(never={"personal": ["my balance"]})
    request = make.request("What is my balance?")
    kept(replica, request)
    events = await replica.ask(request)
    assert missed(events).key is None
    assert verdict(events) == CacheVerdict(tier="bypass", reason="personal")
    assert completed(await _served(replica, "What is his balance?")).source == "cache"


async def _served(replica: Replica, prompt: str) -> Sequence[Event]:
    request = make.request(prompt)
    kept(replica, request)
    return await replica.ask(request)


# The same prompt in flight


@pytest.mark.parametrize(("category", "shared"), [("slow", True), ("strict", False)])
async def test_a_near_answer_in_flight_is_shared_where_it_is_near_enough_for_its_category(
    category: str, shared: bool
) -> None:
    replica = Replica({"a": 0.0, "b": np.arccos(0.92)})
    first, second = await replica.asked(make.request("a"), make.request("b"))
    (miss,) = replica.misses()
    await replica.answer(miss, freshness=make.freshness(category=category, ttl_s=60))
    (event,) = second.result()
    assert first.done()
    assert (event.TYPE == ResponseCompleted.TYPE) is shared


@pytest.mark.parametrize("number", [2, 10])
async def test_equal_prompts_at_the_same_time_buy_one_answer(replica: Replica, number: int) -> None:
    tasks = await replica.asked(*(make.request(PROMPT) for _ in range(number)))
    (miss,) = replica.misses()
    answer = await replica.answer(miss, "Paris, of course.")
    await within(5, asyncio.gather(*tasks))
    shared = replica.answers("coalesced")
    assert len(replica.misses()) == 1
    assert len(shared) == number - 1
    assert {event.output_text for event in shared} == {"Paris, of course."}
    assert {event.leader_id for event in shared} == {answer.request_id}
    assert {(event.cost_usd, event.saved_usd, event.similarity) for event in shared} == {(0.0, answer.cost_usd, 1.0)}
    assert len({event.request_id for event in shared} | {answer.request_id}) == number
    assert all(
        event.verdict
        == CacheVerdict(tier="in_flight", reason="same prompt", similarity=1.0, entry_id=answer.request_id, age_s=0)
        for event in shared
    )


async def test_each_of_those_who_share_gets_its_own_reply_and_metadata(replica: Replica) -> None:
    requests = [make.request(metadata={"n": str(n)}, reply=ReplyAddress(queue=f"q{n}")) for n in range(3)]
    tasks = await replica.asked(*requests)
    await replica.answer(replica.misses()[0])
    await within(5, asyncio.gather(*tasks))
    found = {event.request_id: (event.metadata, event.reply) for event in replica.answers("coalesced")}
    assert found == {request.id: (request.metadata, request.reply) for request in requests[1:]}


async def test_prompts_under_way_at_another_replica_are_waited_for_too() -> None:
    here, there = Replica(), Replica()
    await there.asked(make.request(PROMPT))
    (miss,) = there.misses()
    await here.hear(miss)
    (task,) = await here.asked(make.request(PROMPT))
    assert here.events == []
    await here.answer(miss)
    await within(5, task)
    assert len(here.answers("coalesced")) == 1


async def test_near_prompts_under_way_at_another_replica_are_waited_for_too() -> None:
    here, there = Replica({"a": 0.0, "b": 0.2}), Replica({"a": 0.0})
    miss = missed(await there.ask(make.request("a")))
    await here.hear(miss)
    (task,) = await here.asked(make.request("b"))
    assert not task.done()
    await here.answer(miss)
    assert completed(await within(5, task)).leader_id == miss.request.id


async def test_after_a_failure_exactly_one_of_those_who_waited_leads(replica: Replica) -> None:
    tasks = await replica.asked(*(make.request(PROMPT) for _ in range(6)))
    (first,) = replica.misses()
    await replica.fail(first)
    assert len(replica.misses()) == 2
    second = replica.misses()[1]
    assert second.request.id != first.request.id
    await replica.answer(second)
    await within(5, asyncio.gather(*tasks))
    assert len(replica.misses()) == 2
    assert len(replica.answers("coalesced")) == 4


async def test_those_who_asked_the_very_same_fail_with_a_prompt_that_is_itself_at_fault(replica: Replica) -> None:
    requests = [make.request(metadata={"n": str(n)}, reply=ReplyAddress(queue=f"q{n}")) for n in range(10)]
    tasks = await replica.asked(*requests)
    replica.clock.skip(2)
    call = Attempt(lane="acme's own", code="content_filtered", message="no", at=START)
    leader: dict[str, Any] = {
        "code": "content_filtered",
        "message": "no, says the account of acme",
        "failures": (call,),
    }
    await replica.fail(replica.misses()[0], **leader, prompt_at_fault=True)
    outcomes = [events for (*events,) in await within(5, asyncio.gather(*tasks[1:]))]
    assert len(replica.misses()) == 1
    for request, (failed,) in zip(requests[1:], outcomes, strict=True):
        assert isinstance(failed, ResponseFailed)
        assert (failed.code, failed.attempts, failed.prompt_at_fault) == ("content_filtered", 0, True)
        assert failed.message == "content_filtered: the same prompt just failed, as it would again"
        assert (failed.failures, failed.route, failed.tier) == ((), None, None)
        assert (failed.request_id, failed.reply, failed.metadata) == (request.id, request.reply, request.metadata)
        assert failed.failed_at == START + timedelta(seconds=2)


async def test_a_near_prompt_does_not_fail_with_one_that_is_at_fault() -> None:
    replica = Replica({"a": 0.0, "b": 0.4})
    await replica.asked(make.request("a"))
    (task,) = await replica.asked(make.request("b"))
    await replica.fail(replica.misses()[0], prompt_at_fault=True)
    assert missed(await within(5, task)).request.prompt == "b"


async def test_who_was_disappointed_twice_waits_for_nobody_any_more(replica: Replica) -> None:
    tasks = await replica.asked(*(make.request(PROMPT) for _ in range(8)))
    for led in (1, 2):
        assert len(replica.misses()) == led
        await replica.fail(replica.misses()[-1])
    assert len(replica.misses()) == 8
    assert all(task.done() for task in tasks)
    assert {miss.verdict.reason for miss in replica.misses() if miss.verdict} == {
        "nothing near",
        "those it waited for brought nothing",
    }


async def test_the_late_answer_of_a_leader_that_ran_out_of_patience_is_good_for_who_waits_for_the_next() -> None:
    replica = Replica(leader_patience_s=0.05)
    tasks = await replica.asked(*(make.request(PROMPT) for _ in range(2)))
    replica.clock.skip(0.05)
    await within(5, asyncio.gather(*tasks))
    slow, after_it = replica.misses()
    (third,) = await replica.asked(make.request(PROMPT))
    assert after_it.request.id == replica.in_flight.leader(make.new_id(), replica.handler.key(slow.request)).request_id
    await replica.answer(slow)
    assert completed(await within(5, third)).leader_id == slow.request.id


async def test_who_waits_for_a_slow_one_goes_its_own_way_when_its_patience_ends() -> None:
    replica = Replica(leader_patience_s=0.05)
    tasks = await replica.asked(make.request(PROMPT), make.request(PROMPT))
    assert len(replica.misses()) == 1
    replica.clock.skip(0.05)
    await within(5, asyncio.gather(*tasks))
    assert len(replica.misses()) == 2
    assert replica.misses()[0].key == replica.misses()[1].key


async def test_who_waits_until_its_deadline_is_sent_on_to_be_told_so(replica: Replica) -> None:
    await replica.ask(make.request(PROMPT))
    deadline = START + timedelta(seconds=0.05)
    (task,) = await replica.asked(make.request(PROMPT, deadline=deadline))
    replica.clock.skip(0.05)
    events = await within(5, task)
    missed(events)
    assert verdict(events).reason == "the deadline has passed"


async def test_a_deadline_that_has_passed_waits_for_nobody(replica: Replica) -> None:
    first = missed(await replica.ask(make.request(PROMPT)))
    late = missed(await within(5, replica.ask(make.request(PROMPT, deadline=START))))
    await replica.fail(late)
    (task,) = await replica.asked(make.request(PROMPT))
    assert not task.done()  # the first one still leads
    await replica.answer(first)
    await within(5, task)


async def test_an_announced_request_that_is_delivered_again_waits_for_its_answer() -> None:
    replica = Replica()
    request = make.request(PROMPT)
    await replica.ask(request)
    (again,) = await replica.asked(request)
    await replica.answer(replica.misses()[0])
    told = completed(await within(5, again))
    assert told.request_id == request.id
    assert told.source != "coalesced"
    assert len(replica.misses()) == 1


async def test_a_redelivery_whose_answer_does_not_come_is_sent_on_again() -> None:
    """Its first miss may have been lost with the broker that announced it: better bought twice than never."""
    replica = Replica(leader_patience_s=0.05)
    request = make.request(PROMPT)
    await replica.ask(request)
    (again,) = await replica.asked(request)
    replica.clock.skip(0.05)
    assert missed(await within(5, again)).request.id == request.id


async def test_a_request_that_is_delivered_again_may_be_told_again(replica: Replica) -> None:
    request = make.request(PROMPT)
    await replica.ask(request)
    (again,) = await replica.asked(request)
    answer = await replica.answer(replica.misses()[0])
    told = completed(await within(5, again))
    assert (told.request_id, told.source, told.output_text) == (request.id, answer.source, answer.output_text)
    assert told.leader_id is None


async def test_a_request_that_never_left_is_announced_when_it_is_delivered_again(replica: Replica) -> None:
    request = make.request(PROMPT)
    for _ in range(2):  # the publish of the first failed: nobody heard of it
        missed(await replica.handler.accepted(RequestAccepted(request=request)))


async def test_a_request_that_failed_is_not_bought_again_by_its_redelivery(replica: Replica) -> None:
    request = make.request(PROMPT)
    await replica.ask(request)
    (again,) = await replica.asked(request)
    await replica.fail(replica.misses()[0])
    assert await within(5, again) == ()
    assert len(replica.misses()) == 1


async def test_a_request_that_is_replayed_is_bought_anew_and_its_result_says_so(replica: Replica) -> None:
    request = make.request(PROMPT)
    await replica.ask(request)
    again = request.model_copy(update={"replay": 1})
    (replay,) = await replica.asked(again)  # while the run before has not even failed here
    first, second = replica.misses()
    assert (first.request.replay, second.request.replay) == (0, 1)
    assert replay.done()
    (redelivered,) = await replica.asked(again)
    await replica.answer(second)
    (answer,) = await within(5, redelivered)
    assert (answer.subject, answer.run) == (request.id, 1)


async def test_no_more_wait_than_allowed_the_others_come_again_later() -> None:
    replica = Replica(max_waiting=2)
    tasks = await replica.asked(*(make.request(PROMPT) for _ in range(6)))
    assert len(replica.misses()) == 1
    assert [task.done() for task in tasks] == [True, False, False, True, True, True]
    for task in tasks[3:]:
        with pytest.raises(Park):
            task.result()
    await replica.answer(replica.misses()[0])
    await within(5, asyncio.gather(*tasks[:3]))
    assert len(replica.answers("coalesced")) == 2


async def test_one_that_is_near_to_one_in_flight_is_parked_too_and_leads_nobody_meanwhile() -> None:
    replica = Replica({PROMPT: 0.0, "near": 0.1}, max_waiting=1)
    tasks = await replica.asked(make.request(PROMPT), make.request(PROMPT))
    with pytest.raises(Park):
        await replica.ask(make.request("near"))
    await replica.answer(replica.misses()[0])
    await within(5, asyncio.gather(*tasks))
    assert completed(await within(5, replica.ask(make.request("near")))).source == "coalesced"
    assert len(replica.misses()) == 1


async def test_one_that_was_parked_counts_once_for_the_learned_threshold() -> None:
    replica = Replica({PROMPT: 0.0, "near": 0.1}, max_waiting=1)
    tasks = await replica.asked(make.request(PROMPT), make.request(PROMPT))
    counted = replica.learned.idle
    request = make.request("near")
    for _ in range(3):
        with pytest.raises(Park):
            await replica.ask(request)
    assert replica.learned.idle == counted + 1
    await replica.answer(replica.misses()[0])
    await within(5, asyncio.gather(*tasks))


async def test_the_requests_that_are_known_again_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "MOST_CONSIDERED", 2)
    replica = Replica({str(number): 0.6 * number for number in range(5)})
    for number in range(5):
        await replica.ask(make.request(str(number)))
    assert len(replica.handler._considered) == 2


def vetoes(reason: str) -> float:
    value: float = metrics.VETOES.labels(reason)._value.get()
    return value


async def test_what_was_verified_and_refused_is_counted_in_the_table_and_in_flight() -> None:
    replica = Replica({"3 apples": 0.0, "4 apples": 0.0})
    replica.guards.says("3 apples", reason="units")
    replica.lookup.nearest = [near(similarity=0.95), near(similarity=0.5)]
    before = vetoes("units"), vetoes("not similar enough")
    missed(await replica.ask(make.request("3 apples")))
    replica.lookup.nearest = []
    missed(await replica.ask(make.request("4 apples")))
    assert (vetoes("units"), vetoes("not similar enough")) == (before[0] + 2, before[1])


async def test_a_request_whose_cache_cannot_be_read_is_counted_as_that_and_as_nothing_else(replica: Replica) -> None:
    replica.lookup.away = True
    names = ("miss", "unavailable", "coalesced")
    before = [metrics.LOOKUPS.labels(name)._value.get() for name in names]
    missed(await replica.ask(make.request()))
    after = [metrics.LOOKUPS.labels(name)._value.get() for name in names]
    assert [now - then for then, now in zip(before, after, strict=True)] == [0, 1, 0]


async def test_a_place_among_those_who_wait_is_given_back() -> None:
    replica = Replica(max_waiting=1)
    for _ in range(3):
        tasks = await replica.asked(make.request(PROMPT), make.request(PROMPT))
        assert not tasks[1].done()
        await replica.answer(replica.misses()[-1], freshness=make.freshness(ttl_s=60))
        await within(5, asyncio.gather(*tasks))
        replica.clock.skip(3600)
    assert len(replica.misses()) == 3


async def test_a_follower_that_is_cancelled_gives_its_place_back() -> None:
    replica = Replica(max_waiting=1)
    tasks = await replica.asked(make.request(PROMPT), make.request(PROMPT))
    tasks[1].cancel()
    await settled()
    (third,) = await replica.asked(make.request(PROMPT))
    assert not third.done()
    await replica.answer(replica.misses()[0])
    await within(5, third)


async def test_two_tenants_never_share(replica: Replica) -> None:
    tasks = await replica.asked(make.request(PROMPT, tenant="acme"), make.request(PROMPT, tenant="other"))
    assert len(replica.misses()) == 2
    await asyncio.gather(*tasks)


async def test_two_tenants_of_a_pool_share() -> None:
    replica = Replica(pools={"both": ["acme", "other"]})
    tasks = await replica.asked(*(make.request(PROMPT, tenant=tenant) for tenant in ("acme", "other", "third")))
    assert [miss.request.tenant for miss in replica.misses()] == ["acme", "third"]
    await replica.answer(replica.misses()[0])
    assert completed(await within(5, tasks[1])).tenant == "other"


@pytest.mark.parametrize("change", [{"instructions": "Be rude."}, {"temperature": 1.0}, {"model": "premium"}], ids=repr)
async def test_other_circumstances_never_share(replica: Replica, change: dict[str, Any]) -> None:
    await replica.asked(make.request(PROMPT), make.request(PROMPT, **change))
    assert len(replica.misses()) == 2


async def test_an_answer_that_is_soon_stale_is_shared_no_longer_than_it_is_fresh(replica: Replica) -> None:
    await replica.answer(missed(await replica.ask(make.request())), freshness=make.freshness(ttl_s=2))
    replica.clock.skip(2)
    assert ANSWERED_KEPT_S > 2
    missed(await replica.ask(make.request()))


async def test_an_invalidation_takes_back_the_answer_in_flight(replica: Replica) -> None:
    await replica.answer(missed(await replica.ask(make.request())))
    await replica.hear(invalidation(START))
    missed(await replica.ask(make.request()))


async def test_an_answer_bought_before_an_invalidation_that_overtook_it_is_not_shared(replica: Replica) -> None:
    tasks = await replica.asked(*(make.request() for _ in range(3)))
    first = replica.misses()[0]
    replica.clock.skip(1)
    await replica.hear(invalidation(replica.clock.now()))
    await replica.answer(first, "Lutetia.", completed_at=START)
    assert [task.done() for task in tasks] == [True, True, False]
    replica.clock.skip(1)
    await replica.answer(replica.misses()[1], "Paris.")
    assert completed(await within(5, tasks[2])).output_text == "Paris."
    assert len(replica.misses()) == 2


async def test_an_answer_that_an_invalidation_overtook_ends_no_other_request_for_the_same_prompt() -> None:
    replica = Replica(leader_patience_s=0.05)
    tasks = await replica.asked(make.request(), make.request())
    replica.clock.skip(0.05)
    await within(5, asyncio.gather(*tasks))
    slow, after_it = replica.misses()
    await replica.hear(invalidation(replica.clock.now()))
    await replica.answer(slow, "Lutetia.", completed_at=START)
    (task,) = await replica.asked(make.request())
    replica.clock.skip(0.01)
    await replica.answer(after_it, "Paris.")
    assert completed(await within(5, task)).output_text == "Paris."


async def test_who_waits_when_an_invalidation_comes_gets_the_answer_that_is_bought_after_it(replica: Replica) -> None:
    tasks = await replica.asked(make.request(), make.request())
    await replica.hear(invalidation(START))
    replica.clock.skip(1)
    await replica.answer(replica.misses()[0])
    assert completed(await within(5, tasks[1])).source == "coalesced"


# A near prompt in flight


async def test_a_near_prompt_under_way_that_is_verified_is_shared_with_its_similarity() -> None:
    replica = Replica({PROMPT: 0.0, "capital of France, please": 0.2})
    await replica.asked(make.request(PROMPT))
    (task,) = await replica.asked(make.request("capital of France, please"))
    assert not task.done()
    answer = await replica.answer(replica.misses()[0])
    events = await within(5, task)
    event = completed(events)
    assert (event.source, event.leader_id) == ("coalesced", answer.request_id)
    assert event.similarity == pytest.approx(np.cos(0.2), abs=1e-3)
    assert (verdict(events).tier, verdict(events).reason) == ("in_flight", "verified")
    assert replica.guards.judged == [("capital of France, please", PROMPT)]


async def test_another_prompt_with_the_same_vector_is_near_and_not_the_same() -> None:
    replica = Replica({"polish": 0.0, "Polish": 0.0})
    await replica.asked(make.request("polish"))
    (task,) = await replica.asked(make.request("Polish"))
    await replica.answer(replica.misses()[0])
    events = await within(5, task)
    assert (verdict(events).tier, verdict(events).reason) == ("in_flight", "verified")


async def test_a_near_prompt_under_way_that_is_refused_buys_its_own() -> None:
    replica = Replica({"3 apples": 0.0, "4 apples": 0.0})
    replica.guards.says("3 apples", "4 apples")
    await replica.asked(make.request("3 apples"), make.request("4 apples"))
    assert len(replica.misses()) == 2


async def test_a_near_prompt_that_is_refused_is_passed_over_for_another() -> None:
    replica = Replica({"a": 0.0, "b": 0.1, "c": 0.2})
    replica.guards.says("a")
    await replica.asked(make.request("a"))
    await replica.asked(make.request("b"))
    (task,) = await replica.asked(make.request("c"))
    assert [miss.request.prompt for miss in replica.misses()] == ["a", "b"]
    await replica.answer(replica.misses()[1])
    assert completed(await within(5, task)).leader_id == replica.misses()[1].request.id


async def test_nothing_is_shared_through_one_that_borrows_itself() -> None:
    replica = Replica({"a": 0.0, "b": 0.4, "c": 0.8})
    for prompt in "abc":
        await replica.asked(make.request(prompt))
    assert [miss.request.prompt for miss in replica.misses()] == ["a", "c"]


async def test_who_asks_the_same_as_a_borrower_shares_what_it_borrowed() -> None:
    replica = Replica({"a": 0.0, "b": 0.4})
    await replica.asked(make.request("a"))
    tasks = await replica.asked(make.request("b"), make.request("b"))
    answer = await replica.answer(replica.misses()[0])
    first, second = (completed(events) for events in await within(5, asyncio.gather(*tasks)))
    assert (first.leader_id, second.leader_id) == (answer.request_id, first.request_id)
    assert first.similarity == second.similarity == pytest.approx(np.cos(0.4), abs=1e-3)
    assert second.verdict is not None
    assert second.verdict.reason == "verified"


async def test_what_a_leader_found_under_a_near_prompt_is_not_handed_on_to_a_third() -> None:
    replica = Replica({"a": 0.0, "b": 0.0})
    replica.lookup.nearest = [near("c", 1.0)]  # of the same vector: only the words tell them apart
    replica.guards.says("b", "c")
    leader = await replica.asked(make.request("a"))
    assert completed(leader[0].result()).source == "cache"
    first = replica.in_flight.leader(make.new_id(), replica.handler.key(make.request("a")))
    first.vector = vector(0.0)
    (borrower,) = await replica.asked(make.request("b"))
    replica.in_flight.answered(first, completed(leader[0].result()))
    missed(await within(5, borrower))


async def test_when_the_near_one_fails_the_borrower_buys_its_own() -> None:
    replica = Replica({"a": 0.0, "b": 0.4})
    await replica.asked(make.request("a"))
    (task,) = await replica.asked(make.request("b"))
    await replica.fail(replica.misses()[0])
    assert missed(await within(5, task)).request.prompt == "b"


async def test_when_the_near_one_fails_one_of_the_borrowers_leads_the_others() -> None:
    angles = {str(n): n / 1000 for n in range(20)}
    replica = Replica(angles, max_waiting=100)
    tasks = await replica.asked(*(make.request(prompt) for prompt in angles))
    (first,) = replica.misses()
    await replica.fail(first)
    assert len(replica.misses()) == 2
    await replica.answer(replica.misses()[1])
    await within(5, asyncio.gather(*tasks))
    assert len(replica.misses()) == 2
    assert len(replica.answers("coalesced")) == 18


@pytest.mark.parametrize("ending", ["slow", "failed late"])
async def test_near_prompts_whose_leader_brings_nothing_gather_behind_the_next_and_not_each_for_itself(
    ending: str,
) -> None:
    replica = Replica({str(n): n / 1000 for n in range(60)}, max_waiting=100, leader_patience_s=0.05)
    tasks = await replica.asked(*(make.request(str(n)) for n in range(60)))
    for led in (1, 2, 3):
        assert len(replica.misses()) == led
        if ending == "slow":
            replica.clock.skip(0.05)
            while not any(task.done() for task in tasks[led:]) or len(replica.misses()) == led:
                await asyncio.wait([task for task in tasks if not task.done()], return_when=asyncio.FIRST_COMPLETED)
                await settled()
            await settled()
        else:
            replica.clock.skip(0.0499)
            await replica.fail(replica.misses()[-1])
    assert len(replica.misses()) == 4
    await replica.answer(replica.misses()[-1])
    await within(5, asyncio.gather(*tasks))
    assert len(replica.answers("coalesced")) == 56


@pytest.mark.parametrize("seed", range(25))
async def test_near_equal_prompts_that_arrive_together_buy_one_answer(seed: int) -> None:
    random = Random(seed)
    angles = {str(n): random.uniform(0, 0.4) for n in range(50)}  # any two are nearer than the threshold
    replica = Replica(angles, max_waiting=100)
    replica.jittery(random)
    requests = [make.request(prompt) for prompt in angles]
    random.shuffle(requests)
    tasks: list[asyncio.Task[Sequence[Event]]] = []
    for request in requests:
        tasks.append(asyncio.create_task(replica.ask(request)))
        if random.random() < 0.3:
            await settled()
    for _ in range(20):
        await settled()
    (miss,) = replica.misses()
    await replica.answer(miss)
    await within(5, asyncio.gather(*tasks))
    assert len(replica.misses()) == 1
    assert len(replica.answers("coalesced")) == 49
    assert {event.leader_id for event in replica.answers("coalesced")} == {miss.request.id}


@pytest.mark.parametrize("seed", range(25))
async def test_whatever_the_verifier_says_nobody_waits_for_ever(seed: int) -> None:
    random = Random(seed)
    angles = {str(n): random.uniform(0, 0.8) for n in range(20)}
    replica = Replica(angles, max_waiting=1000)
    replica.jittery(random)
    for one in angles:
        for other in angles:
            if one < other and random.random() < 0.3:
                replica.guards.says(one, other)
    tasks = [asyncio.create_task(replica.ask(make.request(prompt))) for prompt in list(angles) * 2]
    answered = 0
    for _ in range(100):
        await settled()
        for miss in replica.misses()[answered:]:
            answered += 1
            await (replica.answer(miss, miss.request.prompt) if random.random() < 0.8 else replica.fail(miss))
    assert all(task.done() for task in tasks)
    for task in tasks:
        (event,) = task.result()
        if isinstance(
            event, ResponseCompleted
        ):  # an answer was bought for its words, or for words it was verified with
            asked = next(task_prompt for task_prompt in angles if event.key and event.key.prompt == task_prompt)
            assert frozenset((asked, event.output_text)) not in replica.guards.reasons


@pytest.mark.parametrize("seed", range(10))
async def test_two_that_are_near_to_each_other_never_wait_for_each_other(seed: int) -> None:
    replica = Replica({"a": 0.0, "b": 0.1})
    replica.jittery(Random(seed))
    tasks = [asyncio.create_task(replica.ask(make.request(prompt))) for prompt in "ab"]
    await settled()
    await settled()
    (miss,) = replica.misses()
    await replica.answer(miss)
    await within(5, asyncio.gather(*tasks))


async def test_who_waited_for_one_that_found_an_earlier_answer_shares_that(replica: Replica) -> None:
    replica.lookup.nearest = [near("capital of France", 0.95)]
    tasks = await replica.asked(make.request(PROMPT), make.request(PROMPT))
    await within(5, asyncio.gather(*tasks))
    assert replica.misses() == []
    assert len(replica.answers("cache")) == 1
    (shared,) = replica.answers("coalesced")
    assert (shared.output_text, shared.saved_usd, shared.similarity) == ("Paris.", 0.5, 0.95)
    assert shared.verdict is not None
    assert (shared.verdict.tier, shared.verdict.reason, shared.verdict.age_s) == ("in_flight", "verified", 60)


async def test_a_leader_that_breaks_frees_those_who_wait(replica: Replica) -> None:
    replica.embedder.error = ValueError("no memory")
    with pytest.raises(ValueError, match="no memory"):
        await replica.ask(make.request(PROMPT))
    replica.embedder.error = None
    missed(await within(5, replica.ask(make.request(PROMPT))))


async def test_a_leader_that_is_cancelled_frees_those_who_wait(replica: Replica) -> None:
    replica.embedder.angles = {"a": 0.0, "b": 0.4}
    await replica.asked(make.request("a"))
    borrower, follower = await replica.asked(make.request("b"), make.request("b"))
    borrower.cancel()
    await settled()
    assert borrower.cancelled()
    assert not follower.done()  # leads now, and borrows in turn
    await replica.answer(replica.misses()[0])
    assert completed(await within(5, follower)).source == "coalesced"


# Explaining


async def test_explaining_says_what_would_be_served_and_changes_nothing(replica: Replica) -> None:
    replica.lookup.nearest = [near("far", 0.95), near()]
    replica.guards.says("far", reason="numbers")
    explained = await replica.handler.explain(make.request())
    assert (explained.verdict.tier, explained.answer) == ("semantic", "Paris.")
    assert [each.reason for each in explained.considered] == ["numbers", "verified"]
    assert len(replica.front) == 0
    await replica.asked(make.request())
    assert replica.answers("coalesced") == []


async def test_explaining_an_exact_match_does_not_bring_it_into_memory(replica: Replica) -> None:
    replica.lookup.exact = entry()
    explained = await replica.handler.explain(make.request())
    assert (explained.verdict.tier, explained.answer) == ("exact", "Paris.")
    assert len(replica.front) == 0
    kept(replica, make.request(), answer="From memory.")
    assert (await replica.handler.explain(make.request())).answer == "From memory."


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda replica: None, "nothing near"),
        (lambda replica: setattr(replica.lookup, "nearest", [near(similarity=0.5)]), "not similar enough"),
    ],
)
async def test_explaining_a_miss_says_why(replica: Replica, prepare: Any, reason: str) -> None:
    prepare(replica)
    explained = await replica.handler.explain(make.request())
    assert (explained.verdict.tier, explained.verdict.reason, explained.answer) == ("miss", reason, None)
    assert replica.learned.idle == 0


async def test_a_cache_that_cannot_be_read_cannot_explain(replica: Replica) -> None:
    replica.lookup.away = True
    with pytest.raises(DatabaseUnavailable):
        await replica.handler.explain(make.request())


async def test_explaining_what_is_never_answered_says_so() -> None:
    replica = Replica(never={"personal": ["my balance"]})
    explained: Explained = await replica.handler.explain(make.request("What is my balance?"))
    assert explained.verdict == CacheVerdict(tier="bypass", reason="personal")


async def test_a_stale_entry_is_explained_as_long_as_it_would_be_served(replica: Replica) -> None:
    replica.lookup.exact = replace(entry(category="slow"), expires_at=START, keep_until=START + timedelta(seconds=1))
    assert (await replica.handler.explain(make.request())).answer == "Paris."
    replica.clock.skip(1)
    assert (await replica.handler.explain(make.request())).answer is None


async def test_a_tenant_s_own_time_to_live_holds_for_answers_of_others_in_its_pool() -> None:
    replica = Replica(pools={"both": ["acme", "globex"]})
    replica.lookup.nearest = [near()]
    own = {"globex": {"ttl": {"static": "none"}}}
    replica.handler._freshness = make.policy(freshness__tenants=own).freshness
    for tenant, served in (("acme", True), ("globex", False)):
        explained = await replica.handler.explain(make.request(PROMPT, tenant=tenant))
        assert (explained.answer is not None) is served

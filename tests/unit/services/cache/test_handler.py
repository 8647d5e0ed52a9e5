"""One request at the cache: what it gets, and how many calls are bought."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import numpy as np
import pytest

from services.cache.embedder import Embedder, Vectors
from services.cache.handler import CacheHandler
from services.cache.inflight import InFlight
from services.cache.lookup import Entry, Lookup
from shared.database import DatabaseUnavailable
from shared.events import (
    CacheKey,
    Event,
    ReplyAddress,
    Request,
    RequestAccepted,
    RequestMissed,
    ResponseCompleted,
    decode_vector,
)
from tests.support import make
from tests.support.clock import START, ManualClock, settled

PROMPT = "What is the capital of France?"
T = TypeVar("T")


def vector(angle: float) -> Vectors:
    return np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)


class FakeEmbedder(Embedder):
    """Prompts at the angles a test gives them; all others at right angles to each other's neighbours."""

    def __init__(self, angles: Mapping[str, float] | None = None) -> None:
        self.version = "fake/1"
        self.angles = dict(angles or {})
        self.embedded: list[str] = []
        self.error: Exception | None = None

    async def embed_each(self, texts: Sequence[str]) -> Sequence[Vectors]:
        self.embedded.extend(texts)
        if self.error is not None:
            raise self.error
        return [vector(self.angles.get(text, 1.5)) for text in texts]


class FakeLookup(Lookup):
    """Finds the entries a test put there."""

    def __init__(self) -> None:
        self.same: Entry | None = None
        self.near: list[Entry] = []
        self.away = False
        self.asked: list[str] = []

    async def exact(self, key: CacheKey, now: datetime) -> Entry | None:
        self.asked.append("exact")
        if self.away:
            raise DatabaseUnavailable("away")
        return self.same

    async def nearest(self, key: CacheKey, vector: Vectors, now: datetime) -> Sequence[Entry]:
        self.asked.append("nearest")
        if self.away:
            raise DatabaseUnavailable("away")
        return self.near


class Replica:
    """One replica of the cache, and the events it returned."""

    def __init__(self, angles: Mapping[str, float] | None = None, **policy: Any) -> None:
        self.clock = ManualClock()
        rules = make.policy(**{f"cache__{name}": value for name, value in policy.items()}).cache
        self.embedder = FakeEmbedder(angles)
        self.lookup = FakeLookup()
        self.in_flight = InFlight(self.clock, threshold=rules.threshold, patience_s=rules.leader_patience_s)
        self.handler = CacheHandler(rules, self.embedder, self.lookup, self.in_flight, self.clock)
        self.events: list[Event] = []

    async def ask(self, request: Request) -> Sequence[Event]:
        """Handle a request to its end, and hear what it caused, as every replica does."""
        events = await self.handler.accepted(RequestAccepted(request=request))
        self.events.extend(events)
        for event in events:
            await self.in_flight.heard(event)
        return events

    async def asked(self, *requests: Request) -> list["asyncio.Task[Sequence[Event]]"]:
        """Handle requests at the same time, as far as they get without waiting."""
        tasks = [asyncio.create_task(self.ask(request)) for request in requests]
        await settled()
        return tasks

    async def answer(self, miss: RequestMissed, text: str = "Paris.") -> ResponseCompleted:
        """The model's answer to a miss arrives."""
        event = make.completed(miss.request, key=miss.key, output_text=text)
        await self.in_flight.heard(event)
        await settled()
        return event

    def misses(self) -> list[RequestMissed]:
        return [event for event in self.events if isinstance(event, RequestMissed)]

    def answers(self, source: str) -> list[ResponseCompleted]:
        return [event for event in self.events if isinstance(event, ResponseCompleted) and event.source == source]


def entry(prompt: str = PROMPT, *, similarity: float = 1.0, match: Any = "exact", **changes: Any) -> Entry:
    fields: dict[str, Any] = {
        "entry_id": make.new_id(),
        "prompt": prompt,
        "answer": "Paris.",
        "model": "local/tiny",
        "tier": "light",
        "category": "static",
        "cost_usd": 0.5,
        "stored_at": START - timedelta(minutes=1),
        "expires_at": START + timedelta(minutes=9),
        "similarity": similarity,
        "match": match,
    }
    return Entry(**fields | changes)


async def within(seconds: float, work: Awaitable[T]) -> T:
    async with asyncio.timeout(seconds):
        return await work


@pytest.fixture
def replica() -> Replica:
    return Replica()


async def test_the_very_same_prompt_is_answered_from_the_cache(replica: Replica) -> None:
    replica.lookup.same = entry()
    request = make.request(metadata={"k": "v"}, reply=ReplyAddress(queue="q"))
    (event,) = await replica.ask(request)
    assert isinstance(event, ResponseCompleted)
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
    assert replica.embedder.embedded == []


async def test_a_near_prompt_is_answered_from_the_cache(replica: Replica) -> None:
    replica.lookup.near = [entry("Tell me the capital of France.", similarity=0.97, match="semantic")]
    (event,) = await replica.ask(make.request(PROMPT))
    assert isinstance(event, ResponseCompleted)
    assert event.hit is not None
    assert (event.source, event.hit.match, event.similarity) == ("cache", "semantic", 0.97)


async def test_a_prompt_below_the_threshold_is_a_miss(replica: Replica) -> None:
    replica.lookup.near = [entry(similarity=0.89, match="semantic")]
    (event,) = await replica.ask(make.request())
    assert isinstance(event, RequestMissed)


async def test_a_near_prompt_that_differs_is_passed_over_for_the_next(replica: Replica) -> None:
    replica.lookup.near = [
        entry("What did 4 apples cost?", similarity=0.99, match="semantic", answer="four"),
        entry("What do 3 apples cost", similarity=0.93, match="semantic", answer="three"),
    ]
    (event,) = await replica.ask(make.request("What do 3 apples cost?"))
    assert isinstance(event, ResponseCompleted)
    assert event.output_text == "three"


async def test_if_all_near_prompts_differ_it_is_a_miss(replica: Replica) -> None:
    replica.lookup.near = [entry("What do 4 apples cost?", similarity=0.99, match="semantic")]
    (event,) = await replica.ask(make.request("What do 3 apples cost?"))
    assert isinstance(event, RequestMissed)


async def test_a_miss_carries_the_key_under_which_its_answer_will_be_found() -> None:
    replica = Replica({PROMPT: 0.3})
    request = make.request(PROMPT)
    (event,) = await replica.ask(request)
    assert isinstance(event, RequestMissed)
    assert event.request == request
    assert event.key is not None
    assert event.key.prompt == PROMPT
    assert event.key.embedding is not None
    assert decode_vector(event.key.embedding) == pytest.approx(vector(0.3), abs=1e-3)


async def test_a_cache_that_is_switched_off_asks_nobody() -> None:
    replica = Replica(enabled=False)
    replica.lookup.same = entry()
    (event,) = await replica.ask(make.request())
    assert isinstance(event, RequestMissed)
    assert event.key is None
    assert replica.lookup.asked == []
    assert replica.embedder.embedded == []


async def test_a_long_prompt_is_matched_exactly_only() -> None:
    replica = Replica(max_prompt_chars=20)
    replica.lookup.near = [entry("x" * 21, similarity=1.0, match="semantic")]
    (event,) = await replica.ask(make.request("x" * 21))
    assert isinstance(event, RequestMissed)
    assert event.key is not None
    assert event.key.embedding is None
    assert replica.lookup.asked == ["exact"]


async def test_a_cache_that_cannot_be_read_is_an_empty_one(replica: Replica) -> None:
    replica.lookup.away = True
    (event,) = await replica.ask(make.request())
    assert isinstance(event, RequestMissed)
    assert event.key is not None
    assert event.key.embedding is not None


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
    await here.in_flight.heard(miss)
    (task,) = await here.asked(make.request(PROMPT))
    assert here.events == []
    await here.answer(miss)
    await within(5, task)
    assert len(here.answers("coalesced")) == 1


async def test_after_a_failure_exactly_one_of_those_who_waited_leads(replica: Replica) -> None:
    tasks = await replica.asked(*(make.request(PROMPT) for _ in range(6)))
    (first,) = replica.misses()
    assert first.key is not None
    await replica.in_flight.heard(make.failed(first.request, exact=first.key.exact))
    await settled()
    assert len(replica.misses()) == 2
    second = replica.misses()[1]
    assert second.request.id != first.request.id
    await replica.answer(second)
    await within(5, asyncio.gather(*tasks))
    assert len(replica.misses()) == 2
    assert len(replica.answers("coalesced")) == 4


async def test_who_waits_for_a_slow_one_goes_its_own_way_when_its_patience_ends() -> None:
    replica = Replica(leader_patience_s=0.05)
    tasks = await replica.asked(make.request(PROMPT), make.request(PROMPT))
    assert len(replica.misses()) == 1
    replica.clock.skip(0.05)
    await within(5, asyncio.gather(*tasks))
    assert len(replica.misses()) == 2
    assert replica.misses()[0].key == replica.misses()[1].key


async def test_an_announced_request_that_is_delivered_again_waits_for_its_answer() -> None:
    replica = Replica()
    request = make.request(PROMPT)
    await replica.ask(request)
    (again,) = await replica.asked(request)
    await replica.answer(replica.misses()[0])
    (told,) = await within(5, again)
    assert isinstance(told, ResponseCompleted)
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
    (missed,) = await within(5, again)
    assert isinstance(missed, RequestMissed)
    assert missed.request.id == request.id


async def test_a_request_that_is_delivered_again_may_be_told_again(replica: Replica) -> None:
    request = make.request(PROMPT)
    await replica.ask(request)
    (again,) = await replica.asked(request)
    answer = await replica.answer(replica.misses()[0])
    (told,) = await within(5, again)
    assert isinstance(told, ResponseCompleted)
    assert (told.request_id, told.source, told.output_text) == (request.id, answer.source, answer.output_text)
    assert told.leader_id is None


async def test_a_request_that_never_left_is_announced_when_it_is_delivered_again(replica: Replica) -> None:
    request = make.request(PROMPT)
    for _ in range(2):  # the publish of the first failed: nobody heard of it
        (event,) = await replica.handler.accepted(RequestAccepted(request=request))
        assert isinstance(event, RequestMissed)


async def test_a_request_that_failed_is_not_bought_again_by_its_redelivery(replica: Replica) -> None:
    request = make.request(PROMPT)
    await replica.ask(request)
    (again,) = await replica.asked(request)
    (miss,) = replica.misses()
    assert miss.key is not None
    await replica.in_flight.heard(make.failed(request, exact=miss.key.exact))
    await settled()
    again.cancel()
    await asyncio.gather(again, return_exceptions=True)
    assert len(replica.misses()) == 1


async def test_no_more_wait_than_allowed_the_others_go_their_own_way() -> None:
    replica = Replica(max_waiting=2)
    tasks = await replica.asked(*(make.request(PROMPT) for _ in range(6)))
    assert len(replica.misses()) == 4
    assert sum(not task.done() for task in tasks) == 2
    await replica.answer(replica.misses()[0])
    await within(5, asyncio.gather(*tasks))
    assert len(replica.answers("coalesced")) == 2


async def test_a_place_among_those_who_wait_is_given_back() -> None:
    replica = Replica(max_waiting=1)
    for _ in range(3):
        tasks = await replica.asked(make.request(PROMPT), make.request(PROMPT))
        assert not tasks[1].done()
        miss = replica.misses()[-1]
        await replica.answer(miss)
        await within(5, asyncio.gather(*tasks))
        replica.clock.skip(3600)
    assert len(replica.misses()) == 3


async def test_two_tenants_never_share(replica: Replica) -> None:
    tasks = await replica.asked(make.request(PROMPT, tenant="acme"), make.request(PROMPT, tenant="other"))
    assert len(replica.misses()) == 2
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("change", [{"instructions": "Be rude."}, {"temperature": 1.0}, {"model": "premium"}], ids=repr)
async def test_other_circumstances_never_share(replica: Replica, change: dict[str, Any]) -> None:
    await replica.asked(make.request(PROMPT), make.request(PROMPT, **change))
    assert len(replica.misses()) == 2


async def test_a_near_prompt_under_way_is_shared_with_its_similarity() -> None:
    replica = Replica({PROMPT: 0.0, "capital of France, please": 0.2})
    await replica.asked(make.request(PROMPT))
    (task,) = await replica.asked(make.request("capital of France, please"))
    assert not task.done()
    answer = await replica.answer(replica.misses()[0])
    (event,) = await within(5, task)
    assert isinstance(event, ResponseCompleted)
    assert (event.source, event.leader_id) == ("coalesced", answer.request_id)
    assert event.similarity == pytest.approx(np.cos(0.2), abs=1e-3)


async def test_a_near_prompt_that_differs_in_a_number_buys_its_own() -> None:
    replica = Replica({"3 apples": 0.0, "4 apples": 0.0})
    await replica.asked(make.request("3 apples"), make.request("4 apples"))
    assert len(replica.misses()) == 2


async def test_nothing_is_shared_through_one_that_borrows_itself() -> None:
    replica = Replica({"a": 0.0, "b": 0.4, "c": 0.8})
    for prompt in "abc":
        await replica.asked(make.request(prompt))
    assert [miss.request.prompt for miss in replica.misses()] == ["a", "c"]


async def test_when_the_near_one_fails_the_borrower_buys_its_own() -> None:
    replica = Replica({"a": 0.0, "b": 0.4})
    await replica.asked(make.request("a"))
    (task,) = await replica.asked(make.request("b"))
    (miss,) = replica.misses()
    assert miss.key is not None
    await replica.in_flight.heard(make.failed(miss.request, exact=miss.key.exact))
    (event,) = await within(5, task)
    assert isinstance(event, RequestMissed)
    assert event.request.prompt == "b"


async def test_who_waited_for_one_that_found_an_earlier_answer_shares_that(replica: Replica) -> None:
    replica.lookup.near = [entry("capital of France", similarity=0.95, match="semantic")]
    tasks = await replica.asked(make.request(PROMPT), make.request(PROMPT))
    await within(5, asyncio.gather(*tasks))
    assert replica.misses() == []
    assert len(replica.answers("cache")) == 1
    (shared,) = replica.answers("coalesced")
    assert (shared.output_text, shared.saved_usd) == ("Paris.", 0.5)


async def test_a_leader_that_breaks_frees_those_who_wait(replica: Replica) -> None:
    replica.embedder.error = ValueError("no memory")
    with pytest.raises(ValueError, match="no memory"):
        await replica.ask(make.request(PROMPT))
    replica.embedder.error = None
    (event,) = await within(5, replica.ask(make.request(PROMPT)))
    assert isinstance(event, RequestMissed)


async def test_a_leader_that_is_cancelled_frees_those_who_wait(replica: Replica) -> None:
    replica.embedder.angles = {"a": 0.0, "b": 0.4}
    await replica.asked(make.request("a"))
    borrower, follower = await replica.asked(make.request("b"), make.request("b"))
    borrower.cancel()
    await settled()
    assert borrower.cancelled()
    assert not follower.done()  # leads now, and borrows in turn
    await replica.answer(replica.misses()[0])
    (event,) = await within(5, follower)
    assert isinstance(event, ResponseCompleted)

"""A call and the deadline of its request: before it leaves, while it is under way, and after."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.inference.assembly import Replica
from services.inference.completion import Completion
from services.inference.errors import ProviderFault
from services.inference.finished import Arrived
from shared.errors import BrokerUnavailable
from shared.events import (
    CacheFilled,
    Event,
    Request,
    RequestRouted,
    ResponseCompleted,
    ResponseFailed,
    ResponseLate,
    Usage,
)
from shared.policy.tiers import Lane, Tier
from tests.support import make
from tests.support.broker import WatchedBroker
from tests.support.clock import START, ManualClock, settled
from tests.support.pool import FakePool

ANSWER = Completion("Paris.", Usage(input_tokens=9, output_tokens=2), "stop", 0.25)


class SlowProvider:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.calls = 0
        self.answer: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()

    async def complete(self, request: Request, tier: Tier, lane: Lane, *, timeout_s: float) -> Completion:
        self.calls += 1
        return await asyncio.shield(self.answer)


class Late:
    """A replica with a slow provider."""

    def __init__(self, broker: WatchedBroker, **policy: Any) -> None:
        self.clock, self.provider, self.broker = ManualClock(), SlowProvider(), broker
        rules = make.policy(**{f"tiers__light__{name}": value for name, value in policy.items()})
        self.replica = Replica.assemble(rules, self.provider, FakePool().as_pool, broker, self.clock)

    def run(self, event: RequestRouted, *, again: bool = False) -> "asyncio.Task[Sequence[Event]]":
        return asyncio.create_task(self.replica.inference.routed(Arrived(event, again=again)))


@pytest.fixture
async def it() -> Late:
    return Late(await WatchedBroker.ready())


def until(seconds: float, **changes: Any) -> RequestRouted:
    return make.routed(make.request(deadline=START + timedelta(seconds=seconds), **changes))


def cost() -> float:
    labels = {"tier": "light", "lane": "local/tiny"}
    return REGISTRY.get_sample_value("forebay_cost_usd_total", labels) or 0.0


async def test_at_its_deadline_a_request_fails_and_its_answer_is_kept_for_others(it: Late) -> None:
    event, before = until(3), cost()
    running = it.run(event)
    await it.clock.advance(3)
    (outcome,) = await running
    assert isinstance(outcome, ResponseFailed)
    assert (outcome.code, outcome.attempts, it.provider.calls) == ("deadline_exceeded", 1, 1)
    it.provider.answer.set_result(ANSWER)
    await settled()
    late, said = it.broker.published
    assert (late.routing_key, said.routing_key) == (ResponseLate.PATTERN, CacheFilled.PATTERN)
    assert b"Paris." in said.body
    paid = ResponseLate.model_validate_json(late.body)
    assert (paid.request_id, paid.tier, paid.cost_usd) == (event.request.id, "light", ANSWER.cost_usd)
    assert cost() == before + ANSWER.cost_usd


async def test_an_answer_before_the_deadline_is_the_result(it: Late) -> None:
    running = it.run(until(3))
    await it.clock.advance(2.9)
    it.provider.answer.set_result(ANSWER)
    (outcome,) = await running
    assert isinstance(outcome, ResponseCompleted)
    await it.clock.advance(1)
    assert it.broker.published == []


async def test_a_late_answer_that_may_not_be_stored_is_not() -> None:
    it = Late(await WatchedBroker.ready())
    running = it.run(until(3, cache_control={"no_store": True}))
    await it.clock.advance(3)
    await running
    it.provider.answer.set_result(ANSWER)
    await settled()
    assert it.broker.keys() == [ResponseLate.PATTERN]


async def test_a_late_failure_harms_nobody(it: Late) -> None:
    running = it.run(until(3))
    await it.clock.advance(3)
    await running
    it.provider.answer.set_exception(ProviderFault("500"))
    await settled()
    assert it.broker.published == []


async def test_a_late_answer_waits_for_a_broker_that_is_away(it: Late) -> None:
    running = it.run(until(3))
    await it.clock.advance(3)
    await running
    it.broker.failures = [BrokerUnavailable("away")] * 3
    it.provider.answer.set_result(ANSWER)
    await it.clock.advance(10)
    assert it.broker.keys() == [ResponseLate.PATTERN, CacheFilled.PATTERN]


async def test_no_more_than_some_calls_outlive_their_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that has become slow gets no more of them the slower it is."""
    monkeypatch.setattr("services.inference.caller.MOST_LATE", 2)
    it = Late(await WatchedBroker.ready())
    for _ in range(4):
        running = it.run(until(it.clock.monotonic() + 3))
        await it.clock.advance(3)
        await running
    assert (it.provider.calls, it.replica.lanes.gates["local/tiny"].under_way) == (4, 2)
    it.provider.answer.set_result(ANSWER)
    await settled()
    assert it.replica.lanes.gates["local/tiny"].under_way == 0


async def test_a_call_whose_deadline_passes_before_it_left_is_not_made() -> None:
    it = Late(await WatchedBroker.ready())
    gate = it.replica.lanes.gates["local/tiny"]
    gate._tell_to_wait(4, "rate_limited")
    running = it.run(until(3))
    await it.clock.advance(3)
    (outcome,) = await running
    assert isinstance(outcome, ResponseFailed)
    assert (outcome.code, outcome.attempts) == ("deadline_exceeded", 0)
    await it.clock.advance(10)
    assert (it.provider.calls, gate.waiting) == (0, 0)


async def test_a_redelivery_while_the_call_is_under_way_waits_for_the_same_call(it: Late) -> None:
    event = make.routed()
    lost = it.run(event)
    await settled()
    lost.cancel()
    await settled()
    again = it.run(event, again=True)
    await settled()
    it.provider.answer.set_result(ANSWER)
    (outcome,) = await again
    assert isinstance(outcome, ResponseCompleted)
    await settled()
    assert (it.provider.calls, it.broker.published) == (1, [])


async def test_what_is_answered_while_the_connection_is_away_is_said_when_it_is_back(it: Late) -> None:
    lost = it.run(make.routed())
    await settled()
    lost.cancel()
    it.broker.failures = [BrokerUnavailable("away")] * 2
    it.provider.answer.set_result(ANSWER)
    await it.clock.advance(10)
    assert it.broker.keys() == ["response.completed.light"]

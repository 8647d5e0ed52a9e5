"""What a replica tells of its queues: whose turn has come, how long that took, and what waits still."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from services.inference.assembly import Replica
from services.inference.completion import Completion
from services.inference.errors import ProviderError, ProviderFault, ProviderRefused
from services.inference.finished import Arrived
from services.inference.waits import EVERY_S, TAKEN_S
from shared import envelope
from shared.errors import Park
from shared.events import Event, LaneThrottled, Priority, QueueReport, QueueReported, Request, Usage
from shared.policy.tiers import Lane, Tier
from tests.support import make
from tests.support.broker import WatchedBroker
from tests.support.brownout import LADDER
from tests.support.clock import ManualClock, settled
from tests.support.pool import FakePool

ANSWER = Completion("Paris.", Usage(input_tokens=9, output_tokens=2), "stop", 0.25)


class Scripted:
    """Each call ends as the test says, when it says so."""

    def __init__(self) -> None:
        self.calls: list[asyncio.Future[Completion]] = []

    async def complete(self, request: Request, tier: Tier, lane: Lane, *, timeout_s: float) -> Completion:
        self.calls.append(asyncio.get_running_loop().create_future())
        return await self.calls[-1]


class It:
    """A replica whose first tier makes so many calls at a time."""

    def __init__(self, broker: WatchedBroker, *, ladder: dict[str, Any] = LADDER, **tier: Any) -> None:
        self.clock, self.provider, self.broker = ManualClock(), Scripted(), broker
        rules = make.policy(brownout=ladder, **{f"tiers__light__{name}": value for name, value in tier.items()})
        self.replica = Replica.assemble(rules, self.provider, FakePool().as_pool, broker, self.clock)
        self.clock.skip(100)  # requests are of START

    async def run(self, waited_s: float = 0.0, **request: Any) -> "asyncio.Task[Sequence[Event]]":
        accepted_at = self.clock.now() - timedelta(seconds=waited_s)
        routed = make.routed(make.request(accepted_at=accepted_at, **request))
        task = asyncio.create_task(self.replica.inference.routed(Arrived(routed, again=False)))
        await settled()
        return task

    async def end(self, call: int, error: ProviderError | None = None) -> None:
        if error is None:
            self.provider.calls[call].set_result(ANSWER)
        else:
            self.provider.calls[call].set_exception(error)
        await settled()

    def broken_for(self, seconds: float) -> None:
        until = self.clock.now() + timedelta(seconds=seconds)
        signal = LaneThrottled(signal_id=make.new_id(), lane="local/tiny", until=until, broken=True)
        self.replica.lanes.gates["local/tiny"].heard(signal)

    def report(self) -> QueueReport | None:
        return self.replica.waits.report().get("light")


@pytest.fixture
async def it() -> It:
    return It(await WatchedBroker.ready(), concurrency=2)


async def test_a_turn_that_is_answered_counts_once_with_what_it_had_waited(it: It) -> None:
    running = [await it.run(waited_s) for waited_s in (3.0, 5.0)]
    await it.end(0)
    await it.end(1)
    await asyncio.gather(*running)
    assert it.report() == QueueReport(started=2, waited_s=4.0)
    assert it.report() is None


async def test_a_call_that_takes_its_time_counts_before_it_is_answered_and_not_again_after(it: It) -> None:
    running = await it.run(7.0)
    assert it.report() is None
    await it.clock.advance(TAKEN_S)
    assert it.report() == QueueReport(started=1, waited_s=7.0)
    await it.end(0)
    await running
    assert it.report() is None


async def test_bulk_may_wait_and_is_no_measure(it: It) -> None:
    running = [await it.run(500.0, priority=Priority.BULK), await it.run(1.0)]
    await it.end(0)
    await it.end(1)
    await asyncio.gather(*running)
    assert it.report() == QueueReport(started=2, waited_s=1.0)
    bulk = await it.run(500.0, priority=Priority.BULK)
    await it.end(2)
    await bulk
    assert it.report() == QueueReport(started=1, waited_s=None)


async def test_those_in_hand_without_a_call_wait_and_so_do_those_that_were_only_taken(it: It) -> None:
    running = [await it.run() for _ in range(5)]
    assert it.report() == QueueReport(waiting=3)
    it.replica.waits.watch("light", lambda: 7)
    assert it.report() == QueueReport(waiting=10)
    it.replica.waits.watch("light", lambda: 0)
    for call in range(5):
        await it.end(call)
    await asyncio.gather(*running)
    assert it.report() == QueueReport(started=5, waited_s=0.0)


async def test_what_a_provider_breaks_off_at_once_was_no_turn() -> None:
    it = It(await WatchedBroker.ready(), attempts=1)
    running = await it.run(60.0)
    await it.end(0, ProviderFault("503"))
    await running
    assert it.report() is None


async def test_an_answer_about_the_prompt_is_one(it: It) -> None:
    running = await it.run(60.0)
    await it.end(0, ProviderRefused("400"))
    await running
    assert it.report() == QueueReport(started=1, waited_s=60.0)


async def test_a_probe_of_a_broken_lane_counts_only_when_it_is_answered(it: It) -> None:
    it.broken_for(10)
    await it.clock.advance(10)
    running = await it.run(60.0)
    await it.clock.advance(10 * TAKEN_S)
    assert it.report() is None
    await it.end(0)
    await running
    report = it.report()
    assert report is not None
    assert report.started == 1
    assert report.waited_s == pytest.approx(60, abs=5)  # its leave is spread


async def test_a_request_that_is_put_aside_is_in_hand_no_more(it: It) -> None:
    it.broken_for(60)
    running = await it.run()
    assert it.report() == QueueReport(waiting=1)
    await it.clock.advance(10)
    with pytest.raises(Park):
        await running
    assert it.report() is None


async def test_it_is_told_every_second_and_its_end_once(it: It) -> None:
    async with it.replica.waits.telling(it.broker):
        await it.clock.advance(10 * EVERY_S)
        assert it.broker.published == []  # nothing to say
        running = await it.run(4.0)
        await it.end(0)
        await running
        await it.clock.advance(10 * EVERY_S)
    said = [envelope.decode(message) for message in it.broker.published]
    assert all(isinstance(event, QueueReported) for event in said)
    assert [dict(event.tiers) for event in said if isinstance(event, QueueReported)] == [
        {"light": QueueReport(started=1, waited_s=4.0)},
        {},
    ]


async def test_while_the_broker_is_away_nothing_is_told_and_it_goes_on(it: It) -> None:
    async with it.replica.waits.telling(it.broker):
        it.broker.connected = False
        running = await it.run(4.0)
        await it.end(0)
        await running
        await it.clock.advance(EVERY_S)
        it.broker.connected = True
        await it.clock.advance(EVERY_S)
    assert len(it.broker.published) == 1


async def test_a_replay_has_lain_dead_and_its_wait_is_no_measure(it: It) -> None:
    running = await it.run(86_400.0, replay=1)
    await it.end(0)
    await running
    assert it.report() == QueueReport(started=1, waited_s=None)

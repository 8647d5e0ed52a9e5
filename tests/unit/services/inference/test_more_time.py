"""A deadline that passes while requests wait too long."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from services.inference.assembly import Replica
from services.inference.completion import Completion
from services.inference.finished import Arrived
from shared.errors import Park
from shared.events import (
    BrownoutNote,
    Event,
    LaneThrottled,
    Request,
    RequestRouted,
    ResponseCompleted,
    ResponseFailed,
    Usage,
)
from shared.memory import MemoryBroker
from shared.policy.tiers import Lane, Tier
from tests.support import make
from tests.support.brownout import ONE, aged
from tests.support.clock import START, ManualClock, settled
from tests.support.pool import FakePool

BY_S = 300
LADDER = {"longer_deadline": {"from": "60s", "by": BY_S}}
LOWERED = BrownoutNote(step="cheaper_tier", tier="premium", age_s=70)


class Slow:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()

    async def complete(self, request: Request, tier: Tier, lane: Lane, *, timeout_s: float) -> Completion:
        return await asyncio.shield(self.answer)


class It:
    """A replica that hears how old the queues are."""

    def __init__(self, **ages: float) -> None:
        self.clock, self.provider = ManualClock(), Slow()
        self.replica = Replica.assemble(
            make.policy(brownout=LADDER), self.provider, FakePool().as_pool, MemoryBroker(), self.clock
        )
        self.replica.brownout.told(aged(ONE, **ages))

    async def run(self, event: RequestRouted) -> "asyncio.Task[Sequence[Event]]":
        task = asyncio.create_task(self.replica.inference.routed(Arrived(event, again=False)))
        await settled()
        return task

    async def answered(self, task: "asyncio.Task[Sequence[Event]]") -> ResponseCompleted:
        self.provider.answer.set_result(Completion("Paris.", Usage(input_tokens=9, output_tokens=2), "stop", 0.25))
        (outcome,) = await task
        assert isinstance(outcome, ResponseCompleted)
        return outcome


def until(seconds: float, *, route: str = "light", **request: Any) -> RequestRouted:
    deadline = START + timedelta(seconds=seconds)
    return make.routed(make.request(deadline=deadline, **request), route=make.route(route), brownout=(LOWERED,))


async def test_one_that_waited_beyond_its_deadline_is_answered_and_told_so() -> None:
    it = It(light=65.0)
    it.clock.skip(4)
    outcome = await it.answered(await it.run(until(2)))
    assert [note.step for note in outcome.brownout] == ["cheaper_tier", "longer_deadline"]
    note = outcome.brownout[-1]
    assert (note.tier, note.age_s, note.detail) == ("light", 65.0, "up to 300 s after its deadline")


async def test_one_whose_answer_comes_in_time_was_not_touched() -> None:
    it = It(light=65.0)
    task = await it.run(until(10))
    await it.clock.advance(9)
    assert (await it.answered(task)).brownout == (LOWERED,)


@pytest.mark.parametrize(
    ("ages", "request_"),
    [
        ({"light": 59.0}, {}),
        ({"premium": 500.0}, {}),  # the queue of another tier
        ({"light": 65.0}, {"firm_deadline": True}),
    ],
)
async def test_without_a_step_that_holds_or_against_its_client_s_will_it_fails(
    ages: dict[str, float], request_: dict[str, Any]
) -> None:
    it = It(**ages)
    it.clock.skip(4)
    (outcome,) = await (await it.run(until(2, **request_)))
    assert isinstance(outcome, ResponseFailed)
    assert (outcome.code, outcome.attempts, outcome.brownout) == ("deadline_exceeded", 0, (LOWERED,))


async def test_the_more_time_ends_as_well_and_the_failure_tells_of_it() -> None:
    it = It(light=65.0)
    task = await it.run(until(2))
    await it.clock.advance(2 + BY_S)
    (outcome,) = await task
    assert isinstance(outcome, ResponseFailed)
    assert outcome.code == "deadline_exceeded"
    assert [note.step for note in outcome.brownout] == ["cheaper_tier", "longer_deadline"]


async def test_it_is_given_once_and_kept_while_the_request_is_put_aside() -> None:
    it = It(light=65.0)
    broken = LaneThrottled(signal_id=make.new_id(), lane="local/tiny", until=START + timedelta(minutes=1), broken=True)
    it.replica.lanes.gates["local/tiny"].heard(broken)
    task = await it.run(until(20))
    await it.clock.advance(5)
    with pytest.raises(Park) as parked:
        await task
    event = parked.value.instead
    assert isinstance(event, RequestRouted)
    assert event.more_time_s == BY_S
    it.clock.skip(20 + BY_S)  # the brownout goes on, and its time is over all the same
    it.replica.brownout.told(aged(light=65.0))
    (outcome,) = await (await it.run(event))
    assert isinstance(outcome, ResponseFailed)
    assert outcome.message.endswith("and the 300 s more has passed")

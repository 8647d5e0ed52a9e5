"""What one replica of ingest makes of the load."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from services.ingest.admission import LATEST_S, LOOK_S, Admission
from services.ingest.backlog import FORGOTTEN_S
from shared import envelope
from shared.background import background
from shared.broker import Message
from shared.errors import Overloaded, Park, TooManyRequests
from shared.events import Priority, QueueAged, QueueReport, QueueReported, Request
from shared.topology import ACCEPTED, RECORDS, SUBMITTED, Queue, routed
from tests.support import make
from tests.support.broker import WatchedBroker
from tests.support.brownout import aged
from tests.support.clock import ManualClock, settled


class Gate:
    """Admission on a broker in memory; its queues are looked at when a test says so."""

    def __init__(self, broker: WatchedBroker, **admission: Any) -> None:
        self.broker = broker
        self.clock = ManualClock()
        rules = make.policy(admission=admission, brownout={"shed_bulk": {"from": "2m"}})
        self.admission = Admission(rules, broker, self.clock)

    @classmethod
    async def opened(cls, **admission: Any) -> "Gate":
        return cls(await WatchedBroker.ready(), **admission)

    async def fill(self, queue: Queue, messages: int) -> None:
        await self.broker.publish([Message("", queue.name, b"")] * messages)

    async def hear(self, **ages: float) -> None:
        await self.admission.surge.heard(aged(**ages))

    async def look(self) -> None:
        await self.admission._look()

    def take(self, **changes: Any) -> Request:
        request = make.request(**changes)
        self.admission.admit(request.tenant, request.priority, request.model)
        self.admission.took(request)
        return request


async def test_what_waits_in_the_broker_counts_whoever_took_it() -> None:
    gate = await Gate.opened(max_queued=10)
    gate.take()
    await gate.fill(routed("light"), 6)
    await gate.fill(routed("premium").parking[0], 4)
    await gate.look()
    with pytest.raises(Overloaded, match="10 requests wait"):
        gate.take()


async def test_the_time_to_come_back_is_that_in_which_there_will_be_room() -> None:
    gate = await Gate.opened(max_queued=10)
    await gate.fill(routed("light"), 29)
    await gate.look()
    for _ in range(20):  # two a second
        await gate.clock.advance(LOOK_S)
        for _ in range(2):
            gate.admission.finished(make.completed())
        await gate.look()
    with pytest.raises(Overloaded) as refused:
        gate.take()
    assert refused.value.after_s == pytest.approx(20 / 2)


async def test_nobody_is_sent_away_for_ever() -> None:
    gate = await Gate.opened(max_queued=1)
    await gate.fill(routed("light"), 5)
    await gate.look()
    await gate.clock.advance(100_000)
    await gate.look()
    with pytest.raises(Overloaded) as refused:
        gate.take()
    assert refused.value.after_s == LATEST_S


async def test_what_cannot_be_written_is_not_taken() -> None:
    gate = await Gate.opened(max_unwritten=3)
    await gate.fill(RECORDS, 3)
    await gate.look()
    with pytest.raises(Overloaded, match="written"):
        gate.take()
    await gate.broker.purge(RECORDS)
    await gate.look()
    gate.take()


async def test_bulk_has_a_bound_of_its_own() -> None:
    gate = await Gate.opened(max_queued_bulk=1)
    gate.take(priority=Priority.BULK)
    with pytest.raises(Overloaded, match="bulk"):
        gate.take(priority=Priority.BULK)
    gate.take()


async def test_one_tenant_cannot_fill_the_queue_for_the_others() -> None:
    gate = await Gate.opened(max_queued_per_tenant=2)
    first = gate.take()
    gate.take()
    with pytest.raises(TooManyRequests, match="acme"):
        gate.take()
    gate.take(tenant="other")
    gate.admission.finished(make.completed(first))
    gate.take()


async def test_replicas_that_take_submissions_share_the_limits() -> None:
    gate = await Gate.opened(max_queued_per_tenant=4)
    async with gate.broker.subscribe(SUBMITTED, prefetch=1), gate.broker.subscribe(SUBMITTED, prefetch=1):
        await gate.look()
    gate.take()
    gate.take()
    with pytest.raises(TooManyRequests):
        gate.take()


async def test_a_request_whose_end_was_missed_is_not_counted_for_ever() -> None:
    gate = await Gate.opened(max_queued_per_tenant=1)
    gate.take()
    await gate.clock.advance(FORGOTTEN_S)
    await gate.look()
    gate.take()
    gate.admission.subscribed()
    gate.take()


async def test_while_the_broker_is_away_the_last_look_counts_and_looking_goes_on() -> None:
    gate = await Gate.opened(max_queued=1)
    await gate.fill(routed("light"), 1)
    watching = asyncio.create_task(gate.admission.watch())
    await settled()
    gate.broker.connected = False
    await gate.clock.advance(5 * LOOK_S)
    with pytest.raises(Overloaded):
        gate.take()
    gate.broker.connected = True
    await gate.broker.purge(routed("light"))
    await gate.clock.advance(LOOK_S)
    gate.take()
    watching.cancel()


async def test_bulk_is_refused_while_what_starts_has_waited_too_long() -> None:
    gate = await Gate.opened()
    gate.take(priority=Priority.BULK)
    await gate.hear(light=130.0)
    with pytest.raises(Overloaded, match="what is started in light now has waited 130 s") as refused:
        gate.take(priority=Priority.BULK)
    assert refused.value.after_s == 130 - 60  # at half of the step's age it ends
    request = gate.take()
    (note,) = gate.admission.brownout(request.id)
    assert (note.step, note.tier, note.age_s) == ("shed_bulk", "light", 130.0)
    gate.take(priority=Priority.BULK, model="premium")  # which waits for nobody
    await gate.hear(light=59.0)
    gate.take(priority=Priority.BULK)


async def test_bulk_is_told_to_come_back_when_those_who_wait_now_are_gone() -> None:
    gate = await Gate.opened()
    await gate.fill(routed("light"), 2000)
    await gate.look()
    for _ in range(20):  # two a second
        await gate.clock.advance(LOOK_S)
        for _ in range(2):
            gate.admission.finished(make.completed())
        await gate.look()
    await gate.hear(light=130.0)
    with pytest.raises(Overloaded) as refused:
        gate.take(priority=Priority.BULK)
    assert refused.value.after_s == pytest.approx(2000 / 2)


async def test_what_inference_holds_is_ahead_of_who_comes_now() -> None:
    gate = await Gate.opened()
    await gate.fill(routed("light"), 20)
    held = QueueReported(report_id=uuid4(), replica=uuid4(), tiers={"light": QueueReport(started=2, waiting=40)})
    for _ in range(20):  # two a second, and as many come: 60 wait all the time
        await gate.admission.surge.heard(held)
        await gate.look()
        await gate.clock.advance(LOOK_S)
        for _ in range(2):
            gate.admission.finished(make.completed())
    await gate.admission.surge.heard(held)
    await gate.look()
    assert gate.admission.estimate_ms(uuid4()) == pytest.approx(1000 * 60 / 2, rel=0.1)
    await gate.clock.advance(10 * LOOK_S)  # the replica is gone
    await gate.look()
    assert gate.admission.estimate_ms(uuid4()) < 1000 * 20


async def test_bulk_at_the_other_door_is_put_aside_meanwhile() -> None:
    gate = await Gate.opened()
    await gate.hear(light=130.0)
    with pytest.raises(Park) as parked:
        await gate.admission.admit_later("acme", Priority.BULK, asyncio.Event())
    assert parked.value.after_s == 70
    await gate.admission.admit_later("acme", Priority.INTERACTIVE, asyncio.Event())


async def test_what_is_not_routed_yet_waits_for_the_tier_it_will_likely_run_on() -> None:
    gate = await Gate.opened()
    await gate.fill(ACCEPTED, 10)
    async with background(gate.admission.surge.tell, name="surge", clock=gate.clock):
        for _ in range(20):
            await gate.look()
            await gate.clock.advance(LOOK_S)
    told = [envelope.decode(message) for message in gate.broker.published if message.routing_key == "queue.aged"]
    assert isinstance(told[-1], QueueAged)
    assert told[-1].ages == {"light": pytest.approx(20, abs=2)}


def too_low_by(at_least_s: float) -> float:
    """How many estimates of bought answers were too low by so many seconds or more; infinity: all there are."""
    labels = {"answer": "bought", "le": f"{-at_least_s}" if at_least_s < float("inf") else "+Inf"}
    return REGISTRY.get_sample_value("forebay_estimate_error_seconds_bucket", labels) or 0.0


async def test_every_estimate_is_compared_with_what_came_of_it() -> None:
    gate = await Gate.opened()
    before = [too_low_by(seconds) for seconds in (2.0, 5.0, float("inf"))]
    request = gate.take()
    assert gate.admission.estimate_ms(request.id) == 1000
    await gate.clock.advance(4)
    gate.admission.finished(make.completed(request))
    gate.admission.finished(make.completed(request))
    gate.admission.finished(make.completed())  # of another replica
    after = [too_low_by(seconds) for seconds in (2.0, 5.0, float("inf"))]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 0, 1]


async def test_a_request_that_takes_longer_than_promised_still_has_an_estimate() -> None:
    gate = await Gate.opened()
    request = gate.take()
    await gate.clock.advance(100)
    assert gate.admission.estimate_ms(request.id) > 0

"""A fair queue on both brokers: nobody waits for another tenant's backlog, and nothing is lost in the side queues."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from shared import envelope
from shared.broker import Broker, Message
from shared.consumer import Consumer, published_with
from shared.errors import ForebayError, Park
from shared.events import Event
from shared.fairness import window_of
from shared.topology import EXCHANGES, REQUESTS, Binding, Queue, Topology
from tests.contract.conftest import DELIVERY_LIMIT

PATIENCE_S = 30
AT_ONCE = 2
WORK = Queue("work", (Binding(REQUESTS, "work.*"),), delays=(600,), fair=True)
ALL = Topology(EXCHANGES, (WORK, WORK.dead, *WORK.parking, *WORK.sides))


class Never(ForebayError):
    code = "never"


def message(tenant: str, number: int, priority: str = "interactive") -> Message:
    headers = {envelope.PREFIX + "tenant": tenant, envelope.PREFIX + envelope.PRIORITY: priority}
    return Message(REQUESTS.name, "work.a", str(number).encode(), headers, message_id=f"{tenant}-{number}")


def backlog(tenant: str, count: int, priority: str = "interactive") -> list[Message]:
    return [message(tenant, number, priority) for number in range(count)]


@dataclass
class Desk:
    """A handler that begins when a test lets it, and keeps in which order it was called."""

    error: Exception | None = None
    seen: list[Message] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, message: Message) -> Sequence[Event]:
        await self.open.wait()
        self.seen.append(message)
        self.changed.set()
        if self.error is not None:
            raise self.error
        return ()

    async def saw(self, count: int) -> list[str]:
        """The ids of all it has seen, once there are so many."""
        while len(self.seen) < count:
            self.changed.clear()
            await self.changed.wait()
        return [str(message.message_id) for message in self.seen]


@pytest.fixture
async def queue(broker: Broker) -> Broker:
    await broker.declare(ALL)
    return broker


@asynccontextmanager
async def at_work(broker: Broker, desk: Desk) -> AsyncIterator[Consumer[Message]]:
    subject = Consumer(broker, WORK, desk, source="test", decode=lambda each: each, concurrency=AT_ONCE)
    async with asyncio.timeout(PATIENCE_S):
        task = asyncio.create_task(subject.run())
        yield subject
        desk.open.set()
        await subject.stop()
        await task


async def waiting(broker: Broker, *queues: Queue) -> int:
    return sum(depth.ready for depth in await broker.look(queues))


async def in_view(broker: Broker) -> None:
    """Return once the consumer has seen the whole queue; fails by the timeout of :func:`at_work`."""
    while await waiting(broker, WORK):
        await asyncio.sleep(0)


async def test_one_tenants_thousand_do_not_delay_anothers_first(queue: Broker) -> None:
    await queue.publish([*backlog("hog", 1000), message("first", 0)])
    async with at_work(queue, desk := Desk()):
        await in_view(queue)
        desk.open.set()
        order = await desk.saw(1001)
    # Those that were begun before it was there, and one turn of the other tenant.
    assert order.index("first-0") <= AT_ONCE + 1
    assert sorted(order) == sorted({*(f"hog-{n}" for n in range(1000)), "first-0"})


async def test_a_tenants_requests_stay_roughly_in_order(queue: Broker) -> None:
    await queue.publish(backlog("hog", 300))
    async with at_work(queue, desk := Desk()):
        await in_view(queue)
        desk.open.set()
        order = await desk.saw(300)
    early = [int(name.removeprefix("hog-")) - place for place, name in enumerate(order)]
    # Those at hand go on while the side queue is not quick enough; there are no more of them than may be held.
    assert len([by for by in early if by > AT_ONCE]) <= AT_ONCE + window_of(AT_ONCE)


async def test_interactive_requests_pass_bulk_of_many_tenants_and_bulk_is_not_starved(queue: Broker) -> None:
    bulk = [message(f"tenant-{n}", n, "bulk") for n in range(100)]
    await queue.publish([*bulk, *backlog("person", 60)])
    async with at_work(queue, desk := Desk()):
        await in_view(queue)
        desk.open.set()
        order = await desk.saw(160)
    places = [place for place, name in enumerate(order) if name.startswith("person")]
    assert places[0] <= AT_ONCE
    assert places[29] < 60  # at least half of the turns, where all of bulk came first
    assert len([name for name in order[:60] if name.startswith("tenant")]) >= 5


async def test_what_was_set_aside_dies_under_the_name_of_its_queue_with_all_it_had(queue: Broker) -> None:
    await queue.publish(backlog("hog", 40))
    async with at_work(queue, desk := Desk(error=Never("no"))):
        await in_view(queue)
        desk.open.set()
        await desk.saw(40)
    async with queue.subscribe(WORK.dead, prefetch=40) as subscription, asyncio.timeout(PATIENCE_S):
        letters: list[Message] = []
        while len(letters) < 40:
            letters += [delivery.message for delivery in await subscription.take(40)]
    assert {letter.headers["forebay-queue"] for letter in letters} == {WORK.name}
    assert {letter.message_id for letter in letters} == {f"hog-{n}" for n in range(40)}
    assert any(each.routing_key.startswith(f"{WORK.name}.interactive") for each in desk.seen)
    assert {published_with(each) for each in desk.seen} == {"work.a"}


async def test_the_delivery_limit_holds_in_a_side_queue_too(queue: Broker) -> None:
    side = WORK.side("bulk", "hog")
    await queue.publish([replace(message("hog", 1), exchange="", routing_key=side.name)])
    async with queue.subscribe(side, prefetch=1) as subscription, asyncio.timeout(PATIENCE_S):
        for _ in range(DELIVERY_LIMIT + 1):
            (delivery,) = await subscription.take(1)
            await subscription.hand_back([delivery])
    async with queue.subscribe(WORK.dead, prefetch=1) as subscription, asyncio.timeout(PATIENCE_S):
        (letter,) = await subscription.take(1)
    assert letter.message.message_id == "hog-1"


async def test_what_was_set_aside_can_be_parked(queue: Broker) -> None:
    await queue.publish(backlog("hog", 40))
    async with at_work(queue, desk := Desk(error=Park("later"))):
        await in_view(queue)
        desk.open.set()
        await desk.saw(40)
    assert await waiting(queue, *WORK.parking) == 40


async def test_a_consumer_that_stops_gives_back_what_it_had_not_begun(queue: Broker) -> None:
    await queue.publish(backlog("hog", 100))
    async with at_work(queue, desk := Desk()):
        await in_view(queue)
    async with asyncio.timeout(PATIENCE_S):
        while await waiting(queue, WORK, *WORK.sides) != 100 - len(desk.seen):
            await asyncio.sleep(0)
    assert len(desk.seen) <= AT_ONCE


async def test_while_nobody_has_many_nothing_is_moved(queue: Broker) -> None:
    few = [message(f"tenant-{n % 10}", n) for n in range(20)]
    await queue.publish(few)
    async with at_work(queue, desk := Desk()):
        desk.open.set()
        await desk.saw(20)
    assert {each.routing_key for each in desk.seen} == {"work.a"}


async def test_a_consumer_tells_how_many_it_holds_and_has_not_begun_with(queue: Broker) -> None:
    await queue.publish(backlog("hog", 9))
    async with at_work(queue, desk := Desk()) as consumer:
        await in_view(queue)
        while consumer.waiting() < 9 - AT_ONCE:
            await asyncio.sleep(0)
        assert consumer.waiting() == 9 - AT_ONCE
        desk.open.set()
        await desk.saw(9)
        assert consumer.waiting() == 0

"""Parking on both brokers: a delivery goes away for a while, and the broker brings it back by itself."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest

from shared.broker import Broker, Delivery, Message
from shared.consumer import KEY_HEADER, PARKED_HEADER, Consumer, Dead, obituary, parked, times_parked
from shared.errors import Park, TopologyConflict
from shared.events import Event
from shared.topology import EXCHANGES, REQUESTS, Binding, Queue, Return, Topology

PATIENCE_S = 10
DELAY_S = 0.4
# The broker counts in whole milliseconds.
ROUNDING_S = 0.005
WORK = Queue("work", (Binding(REQUESTS, "work.*"),), delays=(DELAY_S,))
# Parked for longer than any test lasts, so that what is in the parking queue can be read there.
SLOW = Queue("slow", (Binding(REQUESTS, "slow.*"),), delays=(600,))


def parking(queue: Queue) -> Queue:
    place = queue.parked()
    assert place is not None
    return place


ALL = Topology(EXCHANGES, tuple(one for queue in (WORK, SLOW) for one in (queue, queue.dead, parking(queue))))


def message(queue: Queue = WORK, body: str = "hello") -> Message:
    return Message(
        exchange=REQUESTS.name,
        routing_key=f"{queue.name}.a",
        body=body.encode(),
        headers={"text": "ä", "number": 7, "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
        content_type="application/json",
        message_id=body,
        correlation_id="c",
        reply_to="r",
        app_id="a",
        timestamp=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )


def own(message: Message) -> dict[str, object]:
    """Its headers without the broker's."""
    return {name: value for name, value in message.headers.items() if not name.startswith("x-")}


@dataclass
class Parker:
    """A handler that parks each message a number of times, and keeps what it saw and when."""

    times: int = 1
    seen: list[Message] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, message: Message) -> Sequence[Event]:
        self.seen.append(message)
        self.at.append(asyncio.get_running_loop().time())
        self.changed.set()
        if times_parked(message) < self.times:
            raise Park("later")
        return ()

    async def saw(self, count: int) -> None:
        """Return once it was called that often."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.seen) < count:
                self.changed.clear()
                await self.changed.wait()


async def run_until_saw(broker: Broker, handler: Parker, count: int, queue: Queue = WORK) -> None:
    """Run a consumer until its handler was called ``count`` times, and stop it in order."""
    runner = Consumer(broker, queue, handler, source="test", decode=lambda message: message, concurrency=10)
    running = asyncio.create_task(runner.run())
    await handler.saw(count)
    async with asyncio.timeout(PATIENCE_S):
        await runner.stop()
        await running


async def next_of(broker: Broker, queue: Queue) -> Delivery:
    """The next message of a queue, acknowledged."""
    async with broker.subscribe(queue, prefetch=1) as subscription, asyncio.timeout(PATIENCE_S):
        (delivery,) = await subscription.take(1)
        await subscription.ack([delivery])
        return delivery


async def is_empty(broker: Broker, queue: Queue) -> bool:
    """Whether nothing is ready and nothing comes back at once: a marker sent now is the first to arrive."""
    await broker.publish([Message("", queue.name, b"marker")])
    return (await next_of(broker, queue)).message.body == b"marker"


@pytest.fixture
async def declared(broker: Broker) -> Broker:
    await broker.declare(ALL)
    return broker


async def test_what_is_parked_is_brought_back_after_the_delay_and_not_before(declared: Broker) -> None:
    handler = Parker()
    await declared.publish([message()])
    await run_until_saw(declared, handler, 2)
    away_s = handler.at[1] - handler.at[0]
    assert away_s >= DELAY_S - ROUNDING_S
    assert await is_empty(declared, WORK)
    assert await is_empty(declared, WORK.dead)


async def test_the_parked_copy_is_the_message_as_it_came_with_a_count(declared: Broker) -> None:
    sent = message(SLOW)
    await declared.publish([sent])
    await run_until_saw(declared, Parker(), 1, SLOW)
    copy = (await next_of(declared, parking(SLOW))).message
    assert own(copy) == {**sent.headers, PARKED_HEADER: 1, KEY_HEADER: sent.routing_key}
    assert replace(copy, headers=sent.headers) == replace(sent, exchange="", routing_key="slow.parked.600s")
    assert await is_empty(declared, SLOW)


async def test_it_comes_back_as_it_was_under_the_name_of_its_queue_and_with_new_attempts(declared: Broker) -> None:
    sent = message()
    await declared.publish([sent])
    async with declared.subscribe(WORK, prefetch=1) as subscription:
        (delivery,) = await subscription.take(1)
        await subscription.hand_back([delivery])
    await run_until_saw(declared, Parker(), 1)
    back = await next_of(declared, WORK)
    assert back.attempts == 0
    assert own(back.message) == {**sent.headers, PARKED_HEADER: 1, KEY_HEADER: sent.routing_key}
    assert replace(back.message, headers=sent.headers) == replace(sent, exchange="", routing_key="work")


async def test_parked_again_and_again_it_counts_and_never_goes_missing(declared: Broker) -> None:
    handler = Parker(times=3)
    await declared.publish([message()])
    await run_until_saw(declared, handler, 4)
    assert [times_parked(seen) for seen in handler.seen] == [0, 1, 2, 3]
    deaths = [seen.headers.get("x-death") for seen in handler.seen]
    assert deaths[0] is None
    for death in deaths[1:]:  # each time it is a new message: nothing of the times before is with it
        assert isinstance(death, list)
        assert [(one["queue"], one["reason"], one["count"]) for one in death] == [(parking(WORK).name, "expired", 1)]
    assert await is_empty(declared, WORK)


async def test_headers_that_came_with_an_earlier_death_are_not_parked(declared: Broker) -> None:
    death = {"queue": "slow", "reason": "expired", "count": 1, "exchange": "", "routing-keys": ["slow"]}
    sent = message(SLOW)
    await declared.publish([replace(sent, headers={**sent.headers, "x-death": [death], "x-first-death-queue": "slow"})])
    await run_until_saw(declared, Parker(), 1, SLOW)
    copy = (await next_of(declared, parking(SLOW))).message
    assert not {"x-death", "x-first-death-queue"} & set(copy.headers)


async def test_many_come_back_each_once(declared: Broker) -> None:
    handler = Parker()
    names = [str(n) for n in range(100)]
    await declared.publish([message(body=name) for name in names])
    await run_until_saw(declared, handler, 2 * len(names))
    assert sorted((seen.body.decode() for seen in handler.seen if times_parked(seen)), key=int) == names
    assert await is_empty(declared, WORK)


async def test_it_waits_for_the_next_consumer_when_the_one_that_parked_it_is_gone(declared: Broker) -> None:
    await declared.publish([message()])
    await run_until_saw(declared, Parker(), 1)
    await run_until_saw(declared, later := Parker(), 1)
    assert times_parked(later.seen[0]) == 1
    assert await is_empty(declared, WORK)


async def test_a_consumer_that_dies_before_it_parked_loses_nothing(declared: Broker) -> None:
    taken = asyncio.Event()

    async def stuck(_: Message) -> Sequence[Event]:
        taken.set()
        await asyncio.Event().wait()
        raise Park("never said")

    await declared.publish([message()])
    dying = asyncio.create_task(
        Consumer(declared, WORK, stuck, source="test", decode=lambda message: message, concurrency=1).run()
    )
    async with asyncio.timeout(PATIENCE_S):
        await taken.wait()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    await run_until_saw(declared, handler := Parker(), 2)
    assert [times_parked(seen) for seen in handler.seen] == [0, 1]


@pytest.mark.parametrize("header", ["CC", "BCC"])
@pytest.mark.parametrize("value", ["text", ["slow"]])
async def test_a_header_that_the_broker_would_route_by_goes_no_further(
    declared: Broker, header: str, value: object
) -> None:
    """RabbitMQ closes the channel on a CC that is no list, and would send a copy to each queue of one that is."""
    handed_in = replace(message(SLOW), headers={header: value})
    delivery = Delivery(handed_in, tag=1)
    await declared.publish([parked(SLOW, handed_in), obituary(SLOW, delivery, Dead("no", "no"))])
    for kept in (parking(SLOW), SLOW.dead):
        assert header not in (await next_of(declared, kept)).message.headers
        assert await is_empty(declared, kept)
    assert await is_empty(declared, SLOW)


async def test_the_delay_cannot_be_changed_behind_the_brokers_back(declared: Broker) -> None:
    other = replace(parking(WORK), returns=Return(WORK.name, 2 * DELAY_S))
    with pytest.raises(TopologyConflict, match=r"work\.parked"):
        await declared.declare(Topology((), (other,)))
    await declared.declare(Topology((), (replace(WORK, delays=()),)))  # the work queue itself knows nothing of it


async def test_of_several_delays_the_next_longer_one_is_taken(declared: Broker) -> None:
    work = replace(WORK, delays=(DELAY_S, 600.0))
    await declared.declare(Topology((), work.parking))
    await declared.publish([parked(work, message(body=f"{s:g}"), s) for s in (0.0, DELAY_S, DELAY_S + 1, 9_999.0)])
    later = work.parking[1]
    assert [(await next_of(declared, later)).message.body for _ in range(2)] == [b"1.4", b"9999"]
    back = [(await next_of(declared, WORK)).message.body for _ in range(2)]
    assert sorted(back) == [b"0", b"0.4"]

"""What the flow relies on, asked of the broker in memory and of RabbitMQ alike."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from shared.broker import Broker, Delivery, Depth, Message, Subscription
from shared.errors import BrokerUnavailable, TopologyConflict, Unroutable
from shared.memory import MemoryBroker
from shared.rabbitmq import RabbitBroker
from shared.topology import DEAD, EXCHANGES, REQUESTS, Binding, Queue, Topology
from tests.contract.conftest import DELIVERY_LIMIT

WORK = Queue("work", (Binding(REQUESTS, "work.*"),))
OWN = Queue("", (Binding(REQUESTS, "work.*"),))
ALL = Topology(EXCHANGES, (WORK, WORK.dead))
PATIENCE_S = 10


def message(body: str = "hello", key: str = "work.a") -> Message:
    return Message(exchange=REQUESTS.name, routing_key=key, body=body.encode(), message_id=body)


async def bodies(subscription: Subscription, count: int) -> list[str]:
    """Take ``count`` messages and acknowledge them."""
    taken: list[str] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(taken) < count:
            deliveries = await subscription.take(count - len(taken))
            await subscription.ack(deliveries)
            taken += [delivery.message.body.decode() for delivery in deliveries]
    return taken


@pytest.fixture
async def declared(broker: Broker) -> Broker:
    await broker.declare(ALL)
    return broker


async def test_declaring_twice_changes_nothing(declared: Broker) -> None:
    await declared.publish([message()])
    await declared.declare(ALL)
    async with declared.subscribe(WORK, prefetch=1) as subscription:
        assert await bodies(subscription, 1) == ["hello"]


async def test_a_queue_that_exists_with_other_arguments_is_a_conflict(declared: Broker) -> None:
    other = replace(WORK, dead_letters=True)
    with pytest.raises(TopologyConflict, match="work"):
        await declared.declare(Topology((), (other,)))
    await declared.declare(ALL)  # and the connection is still good


async def test_a_message_arrives_as_it_was_sent(declared: Broker) -> None:
    sent = Message(
        exchange=REQUESTS.name,
        routing_key="work.a",
        body=b"\x00\xff",
        headers={"text": "ä", "number": 7},
        content_type="application/json",
        message_id="m",
        correlation_id="c",
        reply_to="r",
        app_id="a",
        timestamp=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )
    await declared.publish([sent])
    async with declared.subscribe(WORK, prefetch=1) as subscription:
        (delivery,) = await subscription.take(1)
        await subscription.ack([delivery])
    received = replace(delivery.message, headers={k: delivery.message.headers[k] for k in sent.headers})
    assert received == sent
    assert delivery.attempts == 0


async def test_messages_come_in_the_order_they_were_published(declared: Broker) -> None:
    await declared.publish([message(str(n)) for n in range(50)])
    async with declared.subscribe(WORK, prefetch=7) as subscription:
        assert await bodies(subscription, 50) == [str(n) for n in range(50)]


async def test_what_is_here_and_not_taken_is_counted(declared: Broker) -> None:
    await declared.publish([message(str(number)) for number in range(3)])
    async with declared.subscribe(WORK, prefetch=2) as subscription:
        (first,) = await subscription.take(1)
        async with asyncio.timeout(PATIENCE_S):
            while subscription.here < 1:
                await asyncio.sleep(0)
        assert subscription.here == 1  # the third is beyond the prefetch
        assert len(subscription.take_nowait(5)) == 1
        assert subscription.here == 0
        await subscription.ack([first])
        (third,) = await subscription.take(5)
        assert third.message.body == b"2"


async def test_a_mandatory_message_that_no_queue_takes_is_an_error(declared: Broker) -> None:
    with pytest.raises(Unroutable, match=r"elsewhere\.a"):
        await declared.publish([message(), message("lost", "elsewhere.a")])


async def test_a_copy_that_no_queue_takes_is_no_error(declared: Broker) -> None:
    await declared.publish([replace(message("copy"), exchange="", routing_key="gone", mandatory=False)])


async def test_the_default_exchange_reaches_a_queue_by_name(declared: Broker) -> None:
    await declared.publish([replace(message("direct"), exchange="", routing_key="work", mandatory=False)])
    async with declared.subscribe(WORK, prefetch=1) as subscription:
        assert await bodies(subscription, 1) == ["direct"]


async def test_what_was_not_acknowledged_comes_again(declared: Broker) -> None:
    await declared.publish([message("1"), message("2"), message("3")])
    async with declared.subscribe(WORK, prefetch=10) as subscription:
        taken: list[str] = []
        while len(taken) < 3:
            for delivery in await subscription.take(10):
                taken.append(delivery.message.body.decode())
                if delivery.message.body == b"2":
                    await subscription.ack([delivery])
    async with declared.subscribe(WORK, prefetch=10) as subscription:
        assert sorted(await bodies(subscription, 2)) == ["1", "3"]
        assert subscription.take_nowait(1) == []


async def test_acknowledging_several_at_once_leaves_the_others(declared: Broker) -> None:
    await declared.publish([message(str(n)) for n in range(6)])
    async with declared.subscribe(WORK, prefetch=6) as subscription:
        taken: list[Delivery] = []
        while len(taken) < 6:
            taken += await subscription.take(6)
        await subscription.ack(taken[:2])
        await subscription.ack([taken[3], taken[5]])
    async with declared.subscribe(WORK, prefetch=6) as subscription:
        assert sorted(await bodies(subscription, 2)) == ["2", "4"]
        assert subscription.take_nowait(1) == []


async def test_what_is_handed_back_counts_its_attempts(declared: Broker) -> None:
    await declared.publish([message()])
    async with declared.subscribe(WORK, prefetch=1) as subscription:
        for attempt in range(3):
            (delivery,) = await subscription.take(1)
            assert delivery.attempts == attempt
            await subscription.hand_back([delivery])


async def test_what_comes_back_too_often_goes_to_the_dead_letters(declared: Broker) -> None:
    await declared.publish([message("poison"), message("healthy")])
    handed_out = 0
    async with declared.subscribe(WORK, prefetch=1) as subscription:
        while True:
            (delivery,) = await subscription.take(1)
            if delivery.message.body == b"healthy":
                await subscription.ack([delivery])
                break
            handed_out += 1
            await subscription.hand_back([delivery])
    assert handed_out == DELIVERY_LIMIT + 1
    async with declared.subscribe(WORK.dead, prefetch=1) as dead:
        async with asyncio.timeout(PATIENCE_S):
            (delivery,) = await dead.take(1)
        assert (delivery.message.exchange, delivery.message.routing_key) == (DEAD.name, "work")
        assert delivery.message.body == b"poison"
        await dead.ack([delivery])


async def test_a_consumer_holds_no_more_than_its_prefetch(declared: Broker) -> None:
    await declared.publish([message(str(n)) for n in range(5)])
    async with declared.subscribe(WORK, prefetch=2) as one:
        held: list[Delivery] = []
        while len(held) < 2:
            held += await one.take(5)
        assert [delivery.message.body for delivery in held] == [b"0", b"1"]
        async with declared.subscribe(WORK, prefetch=5) as two:
            assert await bodies(two, 3) == ["2", "3", "4"]
        assert one.take_nowait(5) == []
        await one.ack(held)


async def test_a_closed_subscription_ends_and_returns_what_nobody_took(declared: Broker) -> None:
    await declared.publish([message("1"), message("2")])
    async with declared.subscribe(WORK, prefetch=2) as subscription:
        (first,) = await subscription.take(1)
        await subscription.close()
        assert await subscription.take(1) == []
        await subscription.ack([first])
    async with declared.subscribe(WORK, prefetch=2) as subscription:
        assert await bodies(subscription, 1) == ["2"]
        assert subscription.take_nowait(1) == []


async def test_closing_wakes_who_waits(declared: Broker) -> None:
    async with declared.subscribe(WORK, prefetch=1) as subscription, asyncio.timeout(PATIENCE_S):
        waiting = asyncio.ensure_future(subscription.take(1))
        await asyncio.sleep(0)
        await subscription.close()
        assert await waiting == []


async def test_every_owner_of_a_private_queue_gets_its_own_copy(declared: Broker) -> None:
    async with declared.subscribe(OWN, prefetch=5) as one, declared.subscribe(OWN, prefetch=5) as two:
        await declared.publish([message("news")])
        assert await bodies(one, 1) == await bodies(two, 1) == ["news"]
    async with declared.subscribe(OWN, prefetch=5) as late:
        await declared.publish([message("fresh")])
        assert await bodies(late, 1) == ["fresh"]


async def all_back(broker: RabbitBroker | MemoryBroker, count: int) -> None:
    """What was looked at is back in its queue: RabbitMQ puts it there after the channel is closed."""
    async with asyncio.timeout(PATIENCE_S):
        while await broker.waiting(WORK) != count:
            pass


async def test_a_queue_can_be_looked_at_and_keeps_what_is_in_it(declared: RabbitBroker | MemoryBroker) -> None:
    await declared.publish([message(str(n)) for n in range(5)])
    assert await declared.waiting(WORK) == 5
    for limit, count in ((2, 2), (9, 5)):
        assert len(await declared.browse(WORK, limit)) == count
        await all_back(declared, 5)
    found = await declared.browse(WORK, 9)
    assert {each.body for each in found} == {b"0", b"1", b"2", b"3", b"4"}
    assert (found[0].exchange, found[0].routing_key) == (REQUESTS.name, "work.a")


async def test_what_is_picked_is_gone_and_the_others_stay(declared: RabbitBroker | MemoryBroker) -> None:
    await declared.publish([message(str(n)) for n in range(5)])
    assert await declared.remove(WORK, 9, lambda each: each.body in (b"1", b"3")) == 2
    await all_back(declared, 3)
    assert await declared.remove(WORK, 0, lambda _: True) == 0
    assert await declared.remove(WORK, 2, lambda _: False) == 0
    await all_back(declared, 3)
    assert {each.body for each in await declared.browse(WORK, 9)} == {b"0", b"2", b"4"}
    await all_back(declared, 3)
    assert await declared.purge(WORK) == 3
    assert (await declared.waiting(WORK), await declared.browse(WORK, 9)) == (0, [])


async def test_a_queue_that_is_not_there_cannot_be_looked_at(declared: RabbitBroker | MemoryBroker) -> None:
    other = Queue("nowhere", ())
    for look in (declared.waiting(other), declared.browse(other, 1), declared.purge(other)):
        with pytest.raises((BrokerUnavailable, KeyError)):
            await look
    await declared.publish([message()])  # and the connection is still good


async def test_a_look_tells_what_waits_and_who_takes_it(declared: Broker) -> None:
    await declared.publish([message(str(n)) for n in range(3)])
    assert await declared.look([WORK.dead, WORK]) == [Depth(0, 0), Depth(3, 0)]
    async with declared.subscribe(WORK, prefetch=1) as subscription:
        held = await subscription.take(1)
        assert await declared.look([WORK]) == [Depth(2, 1)]
        await subscription.ack(held)


async def test_two_equal_messages_without_an_id_are_two(declared: Broker) -> None:
    nameless = replace(message("equal"), message_id=None)
    await declared.publish([nameless, nameless])
    async with declared.subscribe(WORK, prefetch=2) as subscription:
        assert await bodies(subscription, 2) == ["equal", "equal"]

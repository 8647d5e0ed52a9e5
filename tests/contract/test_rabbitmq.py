"""What only a real broker can do to us: go away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from urllib.parse import urlsplit

import httpx
import pytest

from infra.local.stack import Stack
from shared.broker import Message
from shared.consumer import PAUSE_MAX_S, Consumer, times_parked
from shared.errors import BrokerUnavailable, PublishRefused, Unroutable
from shared.rabbitmq import RabbitBroker
from shared.topology import REQUESTS, Queue
from tests.chaos.proxy import Proxy
from tests.contract import test_parking
from tests.contract.test_broker import ALL, WORK, bodies, message
from tests.contract.test_parking import Parker, parking, run_until_saw
from tests.support.clock import ManualClock

PATIENCE_S = 15


async def cut(stack: Stack, vhost: str) -> None:
    """Close all connections of a virtual host, from the broker's side."""
    async with httpx.AsyncClient(
        base_url=stack.rabbitmq_management_url, auth=("guest", "guest"), trust_env=False
    ) as management:
        while True:  # the list is collected in the background
            response = await management.get(f"/api/vhosts/{vhost}/connections")
            if connections := response.json():
                break
            await asyncio.sleep(0.05)
        for connection in connections:
            await management.delete(f"/api/connections/{connection['name']}")


async def test_a_subscription_tells_that_its_connection_is_gone_and_a_new_one_goes_on(
    infrastructure: Stack, rabbit: RabbitBroker, amqp_url: str
) -> None:
    await rabbit.declare(ALL)
    await rabbit.publish([message("kept")])
    with pytest.raises(BrokerUnavailable):  # noqa: PT012  # leaving the block may raise as well as what is in it
        async with rabbit.subscribe(WORK, prefetch=1) as subscription, asyncio.timeout(PATIENCE_S):
            (held,) = await subscription.take(1)
            await cut(infrastructure, amqp_url.rsplit("/", 1)[1])
            await subscription.take(1)
    async with asyncio.timeout(PATIENCE_S):
        await rabbit.wait_connected()
        async with rabbit.subscribe(WORK, prefetch=1) as subscription:
            (again,) = await subscription.take(1)
            await subscription.ack([again])
    assert again.message.body == held.message.body == b"kept"
    assert again.attempts == 1


async def test_publishing_without_a_broker_fails_at_once_and_says_so() -> None:
    async with RabbitBroker("amqp://guest:secret@127.0.0.1:9/", name="nobody there") as broker:
        assert not broker.connected
        with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:9") as raised:
            await broker.publish([Message(REQUESTS.name, "work.a", b"")])
    assert "secret" not in str(raised.value)


@asynccontextmanager
async def at_most_one(stack: Stack, vhost: str, queue: str) -> AsyncIterator[None]:
    """Let a queue hold one message while the block runs."""
    policy = f"/api/policies/{vhost}/full"
    body = {"pattern": f"^{queue}$", "definition": {"max-length": 1}, "apply-to": "queues"}
    async with httpx.AsyncClient(
        base_url=stack.rabbitmq_management_url, auth=("guest", "guest"), trust_env=False
    ) as management:
        (await management.put(policy, json=body)).raise_for_status()
        yield
        (await management.delete(policy)).raise_for_status()


async def test_what_is_parked_outlives_the_connection(
    infrastructure: Stack, rabbit: RabbitBroker, amqp_url: str
) -> None:
    await rabbit.declare(test_parking.ALL)
    await rabbit.publish([test_parking.message()])
    await run_until_saw(rabbit, Parker(), 1)
    with pytest.raises(BrokerUnavailable):  # noqa: PT012  # leaving the block may raise as well as what is in it
        async with rabbit.subscribe(test_parking.SLOW, prefetch=1) as subscription, asyncio.timeout(PATIENCE_S):
            await cut(infrastructure, amqp_url.rsplit("/", 1)[1])
            await subscription.take(1)
    async with asyncio.timeout(PATIENCE_S):
        await rabbit.wait_connected()
    await run_until_saw(rabbit, handler := Parker(), 1)
    assert times_parked(handler.seen[0]) == 1


async def test_while_the_parking_queue_is_full_a_delivery_is_held_and_parking_tried_again(
    infrastructure: Stack, rabbit: RabbitBroker, amqp_url: str
) -> None:
    work = test_parking.SLOW
    clock = ManualClock()
    handler = Parker()
    runner = Consumer(rabbit, work, handler, source="test", decode=lambda message: message, concurrency=1, clock=clock)
    await rabbit.declare(test_parking.ALL)
    async with (
        asyncio.timeout(PATIENCE_S),
        at_most_one(infrastructure, amqp_url.rsplit("/", 1)[1], parking(work).name),
        asyncio.TaskGroup() as tasks,
    ):
        await fill(rabbit, parking(work))
        await rabbit.publish([test_parking.message(work, "held")])
        tasks.create_task(runner.run())
        await clock.sleeper()  # after the refusal, before the next try
        hurry = tasks.create_task(pass_time(clock))
        async with rabbit.subscribe(parking(work), prefetch=1) as subscription:
            body = b""
            while body != b"held":
                (delivery,) = await subscription.take(1)
                await subscription.ack([delivery])
                body = delivery.message.body
        await runner.stop()
        hurry.cancel()
    assert len(handler.seen) == 1
    assert await test_parking.is_empty(rabbit, work)


async def fill(rabbit: RabbitBroker, queue: Queue) -> None:
    """Publish into a queue until it refuses: quorum queues overshoot their bound."""
    with suppress(PublishRefused):
        while True:
            await rabbit.publish([Message("", queue.name, b"one too many")])


async def pass_time(clock: ManualClock) -> None:
    """Wake everybody who sleeps."""
    while True:
        await clock.sleeper()
        await clock.advance(PAUSE_MAX_S)


async def test_a_message_that_waits_for_its_confirm_is_not_sent_again(rabbit: RabbitBroker, amqp_url: str) -> None:
    await rabbit.declare(ALL)
    clock = ManualClock()
    parts = urlsplit(amqp_url)
    proxy = Proxy([parts.port or 0], clock=clock)
    async with proxy.serving() as port:
        slow_url = parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}").geturl()
        async with RabbitBroker(slow_url, name="slow", publish_timeout_s=0.2) as slow, asyncio.timeout(PATIENCE_S):
            await slow.wait_connected()
            await slow.publish([message("first")])
            proxy.delay_s = 1.0
            for _ in range(3):
                with pytest.raises(BrokerUnavailable, match="no confirm"):
                    await slow.publish([message("slow")])
            proxy.delay_s = 0.0
            await clock.advance(1.0)
            with suppress(BrokerUnavailable):  # a machine that is busy may need longer; it arrives all the same
                await slow.publish([message("last")])
            async with rabbit.subscribe(WORK, prefetch=10) as subscription:
                assert await bodies(subscription, 3) == ["first", "slow", "last"]


async def test_a_channel_that_the_broker_closes_takes_no_other_with_it(rabbit: RabbitBroker) -> None:
    await rabbit.declare(ALL)
    await rabbit.publish([message(str(n)) for n in range(200)])
    session = rabbit._now()
    with pytest.raises(BrokerUnavailable):  # noqa: PT012  # leaving the block may raise as well as what is in it
        async with rabbit.subscribe(WORK, prefetch=200) as subscription, asyncio.timeout(PATIENCE_S):
            deliveries = list(await subscription.take(200))
            while len(deliveries) < 200:
                deliveries += await subscription.take(200)
            await subscription._channel.basic_ack(1000, wait=False)  # which was never handed out
            while not subscription.lost:
                await subscription.ack([deliveries.pop(0)] if deliveries else [])
                await asyncio.sleep(0)
            await subscription.take(1)
    await rabbit.publish([message("after")])
    assert rabbit._now() is session


async def test_of_messages_with_one_id_the_one_that_nobody_takes_is_returned(rabbit: RabbitBroker) -> None:
    await rabbit.declare(ALL)
    one, other = message("id", key="nobody.a"), message("id", key="work.a")
    refused, taken, refused_too = await asyncio.gather(
        *(rabbit.publish([each]) for each in (one, other, replace(one, body=b"again"))), return_exceptions=True
    )
    assert isinstance(refused, Unroutable)
    assert taken is None
    assert isinstance(refused_too, Unroutable)

"""The runner on both brokers: nothing is acknowledged before what follows from it is confirmed."""

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from services.persistence.obituary import Obituaries
from shared import envelope, topology
from shared.broker import Broker, Message
from shared.clock import SYSTEM_CLOCK
from shared.consumer import CODE_HEADER, REASON_HEADER, Consumer
from shared.errors import ForebayError
from shared.events import Event, RequestAccepted, RequestMissed, ResponseFailed
from shared.examples import example
from shared.topology import ACCEPTED, MISSED, RECORDS, Queue

PATIENCE_S = 10
EVENT = cast("RequestAccepted", example(RequestAccepted))


class Refused(ForebayError):
    code = "refused"


@pytest.fixture
async def flow(broker: Broker) -> Broker:
    await broker.declare(topology.topology(("light", "premium")))
    return broker


async def publish(broker: Broker, event: Event = EVENT) -> None:
    await broker.publish(envelope.encode(event, source="test", now=SYSTEM_CLOCK.now()))


def consumer(broker: Broker, queue: Queue, handler: object, decode: object = envelope.decode) -> Consumer[Event]:
    return Consumer(
        broker,
        queue,
        handler,  # type: ignore[arg-type]
        source="test",
        decode=decode,  # type: ignore[arg-type]
        concurrency=10,
    )


async def first(broker: Broker, queue: Queue) -> Message:
    """The first message of a queue, acknowledged."""
    async with broker.subscribe(queue, prefetch=1) as subscription, asyncio.timeout(PATIENCE_S):
        (delivery,) = await subscription.take(1)
        await subscription.ack([delivery])
        return delivery.message


async def is_empty(broker: Broker, queue: Queue) -> bool:
    """Whether a queue has nothing ready and nothing comes back to it: a marker sent now is the first to arrive."""
    marker = Message(exchange="", routing_key=queue.name, body=b"marker", mandatory=False)
    await broker.publish([marker])
    return (await first(broker, queue)).body == b"marker"


async def run_once(broker: Broker, runner: Consumer[Event], handled: asyncio.Event) -> None:
    """Run a consumer until its handler says that it has run, and stop it in order."""
    running = asyncio.create_task(runner.run())
    async with asyncio.timeout(PATIENCE_S):
        await handled.wait()
        await runner.stop()
        await running


async def test_what_a_handler_returns_is_published_and_the_delivery_is_gone(flow: Broker) -> None:
    handled = asyncio.Event()

    async def handler(event: RequestAccepted) -> Sequence[Event]:
        handled.set()
        return (RequestMissed(request=event.request),)

    await publish(flow)
    await run_once(flow, consumer(flow, ACCEPTED, handler), handled)
    assert envelope.decode(await first(flow, MISSED)) == RequestMissed(request=EVENT.request)
    assert await is_empty(flow, ACCEPTED)


async def test_a_refusal_is_dead_lettered_with_its_reason_and_gets_a_terminal_result(flow: Broker) -> None:
    handled = asyncio.Event()

    async def handler(_: Event) -> Sequence[Event]:
        handled.set()
        raise Refused("not this one")

    await publish(flow)
    await run_once(flow, consumer(flow, ACCEPTED, handler), handled)
    letter = await first(flow, ACCEPTED.dead)
    assert letter.headers[CODE_HEADER] == "refused"
    assert letter.headers[REASON_HEADER] == "not this one"
    assert envelope.decode(letter) == EVENT

    written = asyncio.Event()

    async def undertake(message: Message) -> Sequence[Event]:
        written.set()
        return await Obituaries(SYSTEM_CLOCK).died(message)

    dead = topology.topology(("light", "premium")).queue("persistence.dead")
    await first(flow, RECORDS)  # the writer's copy of the request
    await run_once(flow, consumer(flow, dead, undertake, decode=lambda message: message), written)
    failed = envelope.decode(await first(flow, RECORDS))
    assert isinstance(failed, ResponseFailed)
    assert (failed.request_id, failed.code, failed.tenant) == (EVENT.request.id, "dead_lettered", "acme")
    assert "not this one" in failed.message


async def test_a_message_that_is_no_event_harms_only_itself(flow: Broker) -> None:
    handled = asyncio.Event()

    async def handler(event: RequestAccepted) -> Sequence[Event]:
        handled.set()
        return (RequestMissed(request=event.request),)

    await flow.publish([Message("", ACCEPTED.name, b"\xff not json", mandatory=False)])
    await publish(flow)
    await run_once(flow, consumer(flow, ACCEPTED, handler), handled)
    assert (await first(flow, ACCEPTED.dead)).body == b"\xff not json"
    assert isinstance(envelope.decode(await first(flow, MISSED)), RequestMissed)


async def test_stopping_finishes_what_was_taken(flow: Broker) -> None:
    taken, go_on = asyncio.Event(), asyncio.Event()

    async def handler(event: RequestAccepted) -> Sequence[Event]:
        taken.set()
        await go_on.wait()
        return (RequestMissed(request=event.request),)

    await publish(flow)
    runner = consumer(flow, ACCEPTED, handler)
    running = asyncio.create_task(runner.run())
    async with asyncio.timeout(PATIENCE_S):
        await taken.wait()
        await runner.stop()
        assert not running.done()
        go_on.set()
        await running
    assert isinstance(envelope.decode(await first(flow, MISSED)), RequestMissed)
    assert await is_empty(flow, ACCEPTED)


async def test_a_consumer_that_dies_leaves_its_work_to_the_next(flow: Broker) -> None:
    taken, handled = asyncio.Event(), asyncio.Event()

    async def stuck(_: Event) -> Sequence[Event]:
        taken.set()
        await asyncio.Event().wait()
        return ()

    async def works(event: RequestAccepted) -> Sequence[Event]:
        handled.set()
        return (RequestMissed(request=event.request),)

    await publish(flow)
    dying = asyncio.create_task(consumer(flow, ACCEPTED, stuck).run())
    async with asyncio.timeout(PATIENCE_S):
        await taken.wait()
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
    await run_once(flow, consumer(flow, ACCEPTED, works), handled)
    assert isinstance(envelope.decode(await first(flow, MISSED)), RequestMissed)

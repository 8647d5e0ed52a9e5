"""The hops on Forebay's own runner and broker, with an event as all events are: ``… URL work|feed N``."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import ClassVar, Final
from uuid import UUID

from shared import loop
from shared.broker import Message
from shared.consumer import Consumer
from shared.events import Event
from shared.publishing import publish
from shared.rabbitmq import RabbitBroker
from shared.telemetry import logs
from shared.topology import Binding, Exchange, Queue, Topology
from tests.bench.pipeline import hops

EXCHANGE: Final = Exchange("bench.hops")
QUEUES: Final = tuple(Queue(name, (Binding(EXCHANGE, name),)) for name in (*hops.QUEUES, hops.DONE))


class Request(hops.Body):
    """Ids are read as such, as in all events."""

    id: UUID  # type: ignore[assignment]  # what is written is the same


class Hopped(Event):
    """What goes from hop to hop."""

    TYPE: ClassVar[str] = "bench.hopped.v1"
    EXCHANGE: ClassVar[Exchange] = EXCHANGE
    PATTERN: ClassVar[str] = "hop.*"

    request: Request
    to: str

    @property
    def routing_key(self) -> str:
        return self.to

    @property
    def subject(self) -> UUID:
        return self.request.id

    @property
    def owner(self) -> str:
        return self.request.tenant


def _decode(message: Message) -> Hopped:
    return Hopped.model_validate_json(message.body)


async def _hop(event: Hopped) -> Sequence[Event]:
    return [Hopped(request=event.request, to=hops.NEXT[event.to])]


def _broker(url: str) -> RabbitBroker:
    return RabbitBroker(url, name="forebay bench", topology=Topology((EXCHANGE,), QUEUES))


async def _work(url: str) -> None:
    logs.configure("bench", form="json", level="warning")
    async with _broker(url) as broker:
        await broker.wait_connected()
        consumers = [
            Consumer(broker, queue, _hop, source="bench", decode=_decode, concurrency=hops.PREFETCH)
            for queue in QUEUES[:-1]
        ]
        async with asyncio.TaskGroup() as tasks:
            for consumer in consumers:
                tasks.create_task(consumer.run())
            hops.ready()


async def _feed(url: str, count: int) -> None:
    async with _broker(url) as broker:
        await broker.wait_connected()

        async def batch(numbers: range) -> None:
            events = [Hopped(request=Request(**hops.body(number)), to=hops.QUEUES[0]) for number in numbers]
            await publish(broker, events, source="bench", now=datetime.now(UTC))

        await hops.in_batches(count, batch)


if __name__ == "__main__":
    hops.main(lambda url: loop.run(_work(url)), lambda url, count: loop.run(_feed(url, count)))

"""The hops on FastStream: ``… URL work|feed N``."""

import asyncio

from faststream import AckPolicy
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue

from shared import loop
from tests.bench.pipeline import hops


def _queue(name: str) -> RabbitQueue:
    return RabbitQueue(name, durable=True, queue_type=QueueType.QUORUM)


def _broker(url: str) -> RabbitBroker:
    return RabbitBroker(url, default_channel=Channel(prefetch_count=hops.PREFETCH), logger=None)


async def _work(url: str) -> None:
    broker = _broker(url)

    def subscribe(name: str, following: str) -> None:
        @broker.subscriber(_queue(name), ack_policy=AckPolicy.REJECT_ON_ERROR)  # type: ignore[untyped-decorator]  # not installed where types are checked
        async def hop(body: hops.Body) -> None:
            await broker.publish(body, queue=following, persist=True)

    for name, following in hops.NEXT.items():
        subscribe(name, following)
    async with broker:
        await broker.declare_queue(_queue(hops.DONE))
        await broker.start()
        hops.ready()
        await asyncio.Event().wait()


async def _feed(url: str, count: int) -> None:
    async with _broker(url) as broker:

        async def batch(numbers: range) -> None:
            await asyncio.gather(
                *(broker.publish(hops.body(number), queue=hops.QUEUES[0], persist=True) for number in numbers)
            )

        await hops.in_batches(count, batch)


if __name__ == "__main__":
    hops.main(lambda url: loop.run(_work(url)), lambda url, count: loop.run(_feed(url, count)))

"""The hops on taskiq-aio-pika: ``… URL work|feed N``."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from taskiq.acks import AcknowledgeType
from taskiq.receiver import Receiver
from taskiq_aio_pika import AioPikaBroker, Queue, QueueType

from shared import loop
from tests.bench.pipeline import hops


def _broker(url: str) -> AioPikaBroker:
    broker = AioPikaBroker(url, qos=hops.PREFETCH)
    return broker.with_queues(*(Queue(name=name, type=QueueType.QUORUM) for name in (*hops.QUEUES, hops.DONE)))


def _hop(broker: AioPikaBroker, name: str) -> Any:
    """The task of a queue, which starts the next one."""

    async def hop(body: hops.Body) -> None:
        await tasks[hops.NEXT[name]].kiq(body)

    return broker.register_task(hop, task_name=name, queue_name=name)


async def _work(url: str) -> None:
    broker = _broker(url)
    broker.is_worker_process = True
    for name in hops.QUEUES:
        tasks[name] = _hop(broker, name)
    tasks[hops.DONE] = broker.register_task(lambda body: None, task_name=hops.DONE, queue_name=hops.DONE)
    await broker.startup()
    # The broker's list of queues is also what it listens to, and nobody is to take what is done.
    broker.with_queues(*(queue for queue in broker._task_queues if queue.name != hops.DONE))
    receiver = Receiver(
        broker,
        ThreadPoolExecutor(1),
        max_async_tasks=hops.HOPS * hops.PREFETCH,
        max_prefetch=hops.PREFETCH,
        ack_type=AcknowledgeType.WHEN_EXECUTED,
    )
    hops.ready()
    await receiver.listen(asyncio.Event())


async def _feed(url: str, count: int) -> None:
    broker = _broker(url)
    tasks[hops.NEXT[hops.QUEUES[0]]] = None
    first = _hop(broker, hops.QUEUES[0])
    await broker.startup()

    async def batch(numbers: range) -> None:
        await asyncio.gather(*(first.kiq(hops.Body(**hops.body(number))) for number in numbers))

    await hops.in_batches(count, batch)
    await broker.shutdown()


tasks: dict[str, Any] = {}

if __name__ == "__main__":
    hops.main(lambda url: loop.run(_work(url)), lambda url, count: loop.run(_feed(url, count)))

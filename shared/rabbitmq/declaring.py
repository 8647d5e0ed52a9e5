"""Queues as they are declared."""

from typing import TYPE_CHECKING, Final

from aio_pika import abc

from shared.topology import DEAD, Queue

if TYPE_CHECKING:
    from aiormq.abc import FieldTable

PRIVATE_MESSAGES: Final = 100_000
UNLIMITED: Final = 1_000_000


async def declare_queue(channel: abc.AbstractChannel, queue: Queue, delivery_limit: int) -> str:
    """Declare a queue and bind it; returns its name."""
    declared = await channel.declare_queue(
        None if queue.exclusive else queue.name,
        durable=not queue.exclusive,
        exclusive=queue.exclusive,
        auto_delete=queue.exclusive,
        arguments=arguments(queue, delivery_limit),
    )
    for binding in queue.bindings:
        await declared.bind(binding.exchange.name, binding.pattern)
    return declared.name


def arguments(queue: Queue, delivery_limit: int) -> "FieldTable | None":
    """The x-arguments a queue is declared with."""
    if queue.exclusive:
        return {"x-max-length": PRIVATE_MESSAGES}  # the oldest give way: who follows events can bear a gap
    if queue.dead_letters:
        # RabbitMQ 4 would drop a letter that was read and returned 20 times.
        return {"x-queue-type": "quorum", "x-delivery-limit": UNLIMITED}
    if queue.returns is not None:
        return {
            "x-queue-type": "quorum",
            "x-message-ttl": round(queue.returns.after_s * 1000),
            "x-dead-letter-exchange": "",  # the default exchange: straight to the queue of that name
            "x-dead-letter-routing-key": queue.returns.queue,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
    if queue.fleeting is not None:
        return {
            "x-queue-type": "quorum",
            "x-delivery-limit": delivery_limit,
            "x-max-length": queue.fleeting.messages,
            "x-message-ttl": round(queue.fleeting.seconds * 1000),
            "x-overflow": "drop-head",
        }
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": delivery_limit,
        "x-dead-letter-exchange": DEAD.name,
        "x-dead-letter-routing-key": queue.side_of or queue.name,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }

"""What the flow asks of a message broker: publish and know it arrived, take and say when it is done.

Everything above this line of the code sees :class:`Message` and :class:`Delivery`, never a client library's objects.
Both directions work on batches, so that a faster data plane can replace the client below without touching a handler.
Implementations: ``shared.rabbitmq`` (the real one) and ``shared.memory`` (its twin for tests); one contract suite
runs on both.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from shared.topology import Queue, Topology


@dataclass(frozen=True, slots=True)
class Message:
    """One message on the wire.

    Attributes:
        mandatory: the publisher wants an error when no queue takes it.
        reply_to: queue the sender wants the terminal event in, by way of the default exchange.
    """

    exchange: str
    routing_key: str
    body: bytes
    headers: Mapping[str, object] = field(default_factory=dict)
    content_type: str | None = None
    message_id: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    app_id: str | None = None
    timestamp: datetime | None = None
    mandatory: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """A message handed to a consumer, until it is acknowledged or handed back.

    Attributes:
        tag: the broker's own handle for it; opaque to everyone else.
        attempts: how often it was handed out before this time and came back.
    """

    message: Message
    tag: int
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Depth:
    """What a look at a queue shows.

    Attributes:
        ready: messages that no consumer has.
        consumers: who takes from it.
    """

    ready: int
    consumers: int


class Subscription(Protocol):
    """Deliveries of one queue, bounded by the prefetch."""

    @property
    def lost(self) -> bool:
        """Whether its connection is gone; what was unacknowledged comes again to somebody."""
        ...

    @property
    def here(self) -> int:
        """Deliveries that can be taken without waiting."""
        ...

    async def take(self, limit: int) -> Sequence[Delivery]:
        """Wait for at least one delivery and return up to ``limit`` of them, oldest first.

        Returns an empty sequence once the subscription is closed and nothing is left.

        Raises:
            BrokerUnavailable: the connection is gone; the broker hands unacknowledged deliveries out again.
        """
        ...

    def take_nowait(self, limit: int) -> Sequence[Delivery]:
        """Return up to ``limit`` deliveries that are here already, oldest first; raises as :meth:`take`."""
        ...

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Say that these are done. On a lost connection this does nothing: they come again."""
        ...

    async def hand_back(self, deliveries: Sequence[Delivery], *, failed: bool = True) -> None:
        """Return these to the queue; ``failed`` ones count towards the delivery limit where the broker can tell."""
        ...

    async def close(self) -> None:
        """Ask for no more; deliveries not yet taken go back to the queue."""
        ...


class Broker(Protocol):
    """A connection to the exchanges and queues."""

    @property
    def trouble(self) -> str | None:
        """Why a publish has no chance right now; None where it has one."""
        ...

    async def declare(self, topology: Topology) -> None:
        """Declare exchanges, queues and bindings; repeating it changes nothing.

        Raises:
            TopologyConflict: a queue or exchange exists with other arguments.
            BrokerUnavailable: there is no connection.
        """
        ...

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish all and return when the broker has confirmed each.

        Raises:
            Unroutable: a mandatory message was returned.
            BrokerUnavailable: no connection, or no confirm in time; any of them may have arrived.
        """
        ...

    async def look(self, queues: Sequence[Queue]) -> Sequence[Depth]:
        """How deep some queues are, in their order; cheap enough for every second.

        Raises:
            BrokerUnavailable: there is no connection, or no answer in time.
        """
        ...

    def subscribe(self, queue: Queue, *, prefetch: int) -> AbstractAsyncContextManager[Subscription]:
        """Consume a queue; a queue without a name is this consumer's own and goes with it.

        Raises:
            BrokerUnavailable: there is no connection.
        """
        ...

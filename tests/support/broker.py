"""The broker in memory with faults on demand: refused publishes, lost connections, and a log of what was settled."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from shared.broker import Delivery, Message, Subscription
from shared.errors import BrokerUnavailable
from shared.memory import MemoryBroker
from shared.topology import Queue, topology

TIERS = ("light", "premium")


class WatchedBroker(MemoryBroker):
    """A MemoryBroker that a test can watch and disturb.

    Attributes:
        failures: errors that the next publishes raise, in order.
        tried: the messages of each publish, also of those that failed.
        log: what happened, in order: ("publish", routing key), ("ack", message id), ("hand back", message id).
    """

    def __init__(self, *, delivery_limit: int = 5) -> None:
        super().__init__(delivery_limit=delivery_limit)
        self.failures: list[Exception] = []
        self.tried: list[Sequence[Message]] = []
        self.log: list[tuple[str, str | None]] = []
        self._watched: list[_Watched] = []

    @classmethod
    async def ready(cls) -> "WatchedBroker":
        """A broker with the whole topology of two tiers."""
        broker = cls()
        await broker.declare(topology(TIERS))
        return broker

    async def publish(self, messages: Sequence[Message]) -> None:
        self.tried.append(messages)
        if self.failures:
            raise self.failures.pop(0)
        await super().publish(messages)
        self.log.extend(("publish", message.routing_key) for message in messages)

    @asynccontextmanager
    async def subscribe(  # type: ignore[override]  # wrapped: the same protocol, not the same class
        self, queue: Queue, *, prefetch: int
    ) -> AsyncIterator[Subscription]:
        async with super().subscribe(queue, prefetch=prefetch) as inner:
            watched = _Watched(inner, self.log)
            self._watched.append(watched)
            try:
                yield watched
            finally:
                self._watched.remove(watched)

    async def lose_connection(self) -> None:
        """Every subscription ends as with a broken connection; a new one works at once."""
        for subscription in self._watched:
            await subscription.lose()

    def acknowledged(self) -> list[str | None]:
        """Ids of the messages that were acknowledged, in order."""
        return [what for act, what in self.log if act == "ack"]

    def keys(self) -> list[str]:
        """Routing keys of all that was published, in order."""
        return [message.routing_key for message in self.published]


class _Watched:
    """A subscription that keeps a log and can be lost."""

    def __init__(self, inner: Subscription, log: list[tuple[str, str | None]]) -> None:
        self._inner = inner
        self._log = log
        self._lost = False

    @property
    def lost(self) -> bool:
        return self._lost or self._inner.lost

    @property
    def here(self) -> int:
        return self._inner.here

    async def take(self, limit: int) -> Sequence[Delivery]:
        taken = await self._inner.take(limit)
        self._check()
        return taken

    def take_nowait(self, limit: int) -> Sequence[Delivery]:
        self._check()
        return self._inner.take_nowait(limit)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        self._log.extend(("ack", delivery.message.message_id) for delivery in deliveries)
        await self._inner.ack(deliveries)

    async def hand_back(self, deliveries: Sequence[Delivery], *, failed: bool = True) -> None:
        self._log.extend(("hand back", delivery.message.message_id) for delivery in deliveries)
        await self._inner.hand_back(deliveries, failed=failed)

    async def close(self) -> None:
        await self._inner.close()

    async def lose(self) -> None:
        self._lost = True
        await self._inner.close()

    def _check(self) -> None:
        if self._lost:
            raise BrokerUnavailable("the connection was lost")

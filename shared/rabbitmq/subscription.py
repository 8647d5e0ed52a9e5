"""Deliveries of one queue, on a channel of its own."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress

from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from pamqp import commands
from pamqp.base import Frame
from pamqp.frame import marshal

from shared.broker import Delivery
from shared.errors import BrokerUnavailable
from shared.rabbitmq import wire
from shared.rabbitmq.losses import LOST
from shared.rabbitmq.outbox import Outbox
from shared.rabbitmq.tags import Tags


class RabbitSubscription:
    """See :class:`shared.broker.Subscription`."""

    def __init__(self, channel: Channel, queue: str, outbox: Outbox, connection_lost: asyncio.Event) -> None:
        self._channel = channel
        self._queue = queue
        self._outbox = outbox
        self._connection_lost = connection_lost
        self._tag: str | None = None
        self._waiting: deque[Delivery] = deque()
        self._tags = Tags()
        self._acks_due = False
        self._changed = asyncio.Event()
        self._closed = False
        self._gone = False

    async def start(self) -> None:
        """Begin to consume."""
        self._channel.on_consumer_cancel_callbacks.add(self.lose)
        self._tag = (await self._channel.basic_consume(self._queue, self._on_message)).consumer_tag

    @property
    def lost(self) -> bool:
        """Whether its connection or channel is gone."""
        # aiormq calls a channel closed some turns after it has agreed to it: a frame in between costs the connection.
        closing = self._channel._close_exception is not None  # noqa: SLF001  # there is no other sign of it
        return self._gone or closing or self._connection_lost.is_set()

    @property
    def here(self) -> int:
        """Deliveries that nobody took yet."""
        return len(self._waiting)

    def lose(self, *_: object) -> None:
        """Its channel is gone, or the broker has cancelled the consumer."""
        self._gone = True
        self._changed.set()

    async def _on_message(self, message: DeliveredMessage) -> None:
        self._tags.came(message.delivery_tag or 0)  # first: what is not under way is acknowledged with what is newer
        self._waiting.append(wire.delivery(message))
        self._changed.set()

    async def take(self, limit: int) -> Sequence[Delivery]:
        """Wait for at least one delivery; empty once closed."""
        while True:
            taken = self.take_nowait(limit)
            if taken or self._closed:
                return taken
            self._changed.clear()
            await self._changed.wait()

    def take_nowait(self, limit: int) -> Sequence[Delivery]:
        """What is here already."""
        if self.lost:
            raise BrokerUnavailable(f"the channel that consumes {self._queue} is gone")
        return [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge at the end of this turn, with all others that are done by then."""
        if self.lost:
            return
        self._tags.done(delivery.tag for delivery in deliveries)
        if not self._acks_due:
            self._acks_due = True
            self._outbox.send_later(self._acks)

    def _acks(self) -> bytes:
        self._acks_due = False
        if self.lost:
            return b""
        upto, single = self._tags.to_ack()
        frames: list[Frame] = [commands.Basic.Ack(tag) for tag in single]
        if upto is not None:
            frames.append(commands.Basic.Ack(upto, multiple=True))
        return self._marshalled(frames)

    async def hand_back(self, deliveries: Sequence[Delivery], *, failed: bool = True) -> None:
        """Return to the queue: by reject, which counts everywhere, or by nack, which RabbitMQ 4.3 does not count."""
        if self.lost or not deliveries:
            return
        tags = self._tags.returned(delivery.tag for delivery in deliveries)
        kind = commands.Basic.Reject if failed else commands.Basic.Nack
        self._outbox.send(self._marshalled([kind(tag, requeue=True) for tag in tags]))

    def _marshalled(self, frames: Iterable[Frame]) -> bytes:
        return b"".join(marshal(frame, self._channel.number) for frame in frames)

    async def close(self) -> None:
        """Cancel the consumer and hand back what nobody took."""
        self._closed = True
        with suppress(*LOST):
            if self._tag is not None and not self._gone:
                await self._channel.basic_cancel(self._tag)
        await self.hand_back(list(self._waiting), failed=False)
        self._waiting.clear()
        self._changed.set()

"""One connection and its two publishing channels, for as long as it lasts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Final, Self, cast

import aio_pika
import structlog
from aio_pika import abc
from aiormq.channel import Channel

from shared import alarms
from shared.broker import Message
from shared.rabbitmq.losses import LOST
from shared.rabbitmq.outbox import Outbox
from shared.rabbitmq.publisher import Confirm, Publisher
from shared.telemetry import metrics

log = structlog.stdlib.get_logger(__name__)

CONNECT_TIMEOUT_S: Final = 10.0
HEARTBEAT_S: Final = 15
COPIES_UNDER_WAY: Final = 1000
COPIES_WAIT_S: Final = 2.0
# What was sent before the broker blocked the connection may still be confirmed, within this time.
BLOCKED_GRACE_S: Final = 0.5


class Session:
    """A connection that is there.

    Attributes:
        outbox: where all frames of its channels go that need no answer.
        publisher: of what must arrive.
        lost: set when the connection, or a channel that publishes, is gone.
        blocked: why the broker takes nothing for now; None where it does.
    """

    def __init__(self, connection: abc.AbstractConnection) -> None:
        assert connection.transport is not None  # it was connected a moment ago
        self._connection = connection
        self.outbox = Outbox(connection.transport.connection)
        self.publisher: Publisher
        self._replies: Publisher
        self._copies: set[Confirm] = set()
        self._deadlines: set[asyncio.Timeout] = set()
        self.lost = asyncio.Event()
        self.blocked: str | None = None

    @classmethod
    async def open(cls, url: str, name: str) -> Self:
        """Connect; raises what aio-pika raises."""
        connection = await aio_pika.connect(
            url,
            timeout=CONNECT_TIMEOUT_S,
            heartbeat=HEARTBEAT_S,
            client_properties={"connection_name": name},
        )
        session = cls(connection)
        connection.close_callbacks.add(session._on_close)
        alarms.follow(connection, session._on_alarm)
        try:
            session.publisher = await session._publisher()
            # A reply queue that is gone must not disturb the flow: what goes there has a channel of its own.
            session._replies = await session._publisher()
        except BaseException:
            await session.close()
            raise
        return session

    async def _publisher(self) -> Publisher:
        channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
        channel.close_callbacks.add(self._on_close)
        return Publisher(await underlay(channel), self.outbox)

    def _on_close(self, *_: object) -> None:
        self.lost.set()

    def _on_alarm(self, reason: str | None) -> None:
        log.warning("RabbitMQ takes messages again" if reason is None else "RabbitMQ takes nothing", reason=reason)
        self.blocked = reason
        metrics.BLOCKED.set(reason is not None)
        if reason is not None:
            soon = asyncio.get_running_loop().time() + BLOCKED_GRACE_S
            for deadline in self._deadlines:
                if deadline.expired():  # and whose it is has not come to its end: no more can be changed
                    continue
                when = deadline.when()
                deadline.reschedule(soon if when is None else min(soon, when))

    def deadline(self, seconds: float) -> "_Deadline":
        """As asyncio.timeout, but soon over once the broker has blocked the connection."""
        return _Deadline(seconds, self._deadlines)

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[abc.AbstractChannel]:
        """A channel of one's own; closing it hands back what is unacknowledged on it."""
        channel = await self._connection.channel(publisher_confirms=False)
        try:
            yield channel
        finally:
            with suppress(*LOST, TimeoutError):
                async with asyncio.timeout(CONNECT_TIMEOUT_S):  # a blocked connection answers nothing
                    await self.outbox.flushed()  # acknowledgements, before what they are about is handed back
                    await channel.close()

    def publish_copy(self, message: Message, *, within_s: float) -> None:
        """Publish and don't look back: a reply queue that is gone, full or slow is its owner's business."""
        if len(self._copies) >= COPIES_UNDER_WAY:
            log.warning("a copy is dropped: too many are not confirmed", queue=message.routing_key)
            return
        confirm = self._replies.publish(message)
        if not confirm.done():
            self._copies.add(confirm)
            timer = asyncio.get_running_loop().call_later(within_s, confirm.cancel)
            confirm.add_done_callback(lambda _: timer.cancel())
            confirm.add_done_callback(self._copies.discard)

    async def close(self) -> None:
        """Close the connection; copies that are on their way have a moment to arrive."""
        if self._copies and not self.lost.is_set():
            await asyncio.wait(self._copies, timeout=COPIES_WAIT_S)
        with suppress(*LOST, TimeoutError):
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                if not self.lost.is_set():
                    await self.outbox.flushed()
                await self._connection.close()


class _Deadline:
    """A timeout that others may shorten while it lasts. One is made for each publish, hence no generator."""

    __slots__ = ("_all", "_timeout")

    def __init__(self, seconds: float, deadlines: set[asyncio.Timeout]) -> None:
        self._timeout = asyncio.timeout(seconds)
        self._all = deadlines

    async def __aenter__(self) -> None:
        self._all.add(self._timeout)
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._all.discard(self._timeout)
        await self._timeout.__aexit__(kind, error, trace)


async def underlay(channel: abc.AbstractChannel) -> Channel:
    """Aiormq's channel below one of aio-pika."""
    return cast("Channel", await channel.get_underlay_channel())

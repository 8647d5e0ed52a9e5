"""RabbitMQ through aio-pika, behind the :class:`shared.broker.Broker` interface.

One plain (not "robust") connection at a time, replaced with jittered backoff when it is lost. Nothing is replayed
behind the caller's back: a publish during an outage fails at once or by its deadline, a subscription ends with
``BrokerUnavailable``, and what was unacknowledged comes again, because the broker says so. The robust classes would
restore consumers silently and leave the acks of the old channel to fail.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import stamina
import structlog
from aio_pika.exceptions import ChannelPreconditionFailed, DeliveryError, PublishError
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from pamqp import commands

from shared import tolerance
from shared.broker import Depth, Message
from shared.errors import BrokerUnavailable, PublishRefused, TopologyConflict, Unpublishable, Unroutable
from shared.rabbitmq import wire
from shared.rabbitmq.declaring import declare_queue
from shared.rabbitmq.losses import LOST
from shared.rabbitmq.session import Session, underlay
from shared.rabbitmq.subscription import RabbitSubscription
from shared.telemetry import metrics
from shared.topology import Queue, Topology

log = structlog.stdlib.get_logger(__name__)

RECONNECT_MAX_S: Final = 5.0
LOOK_TIMEOUT_S: Final = 5.0


class RabbitBroker:
    """A connection to RabbitMQ that comes back by itself."""

    def __init__(
        self,
        url: str,
        *,
        name: str,
        publish_timeout_s: float = 10.0,
        delivery_limit: int = 20,
        topology: Topology | None = None,
    ) -> None:
        """``topology`` is declared on every connection: a broker that lost its data gets it again."""
        tolerance.install()
        self._topology = topology
        self._url = url
        self._name = name
        self._publish_timeout_s = publish_timeout_s
        self._delivery_limit = delivery_limit
        self._session: Session | None = None
        self._up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._keeper = asyncio.create_task(self._keep_connected(), name="broker connection")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._keeper is not None
        self._keeper.cancel()
        with suppress(asyncio.CancelledError, TopologyConflict):
            await self._keeper

    @property
    def connected(self) -> bool:
        """Whether there is a connection right now."""
        return self._session is not None

    @property
    def trouble(self) -> str | None:
        """Why a publish has no chance right now: no connection, or an alarm of the broker."""
        if self._session is None:
            return "not connected"
        return None if self._session.blocked is None else f"blocked by an alarm: {self._session.blocked}"

    @property
    def address(self) -> str:
        """Where the broker is, without the password."""
        return _without_password(self._url)

    async def wait_connected(self) -> None:
        """Return once there is a connection.

        Raises:
            TopologyConflict: the broker has other queues of these names.
        """
        assert self._keeper is not None
        up = asyncio.ensure_future(self._up.wait())
        await asyncio.wait((up, self._keeper), return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        if self._keeper.done():
            self._keeper.result()

    async def watch(self) -> None:
        """Never return; raises what keeps the connection from coming back, as :meth:`wait_connected` does."""
        assert self._keeper is not None
        await asyncio.shield(self._keeper)

    async def _keep_connected(self) -> None:
        while True:
            session = await self._connect()
            self._session = session
            self._up.set()
            metrics.CONNECTED.set(1)
            try:
                await session.lost.wait()
                log.warning("lost the connection to RabbitMQ", broker=_without_password(self._url))
            finally:
                self._session = None
                self._up.clear()
                metrics.CONNECTED.set(0)
                metrics.BLOCKED.set(0)
                await session.close()

    async def _connect(self) -> Session:
        attempts = stamina.retry_context(
            on=(*LOST, TimeoutError, BrokerUnavailable),
            attempts=None,
            timeout=None,
            wait_max=RECONNECT_MAX_S,
            wait_jitter=1.0,
        )
        async for attempt in attempts:
            with attempt:
                session = await Session.open(self._url, self._name)
                try:
                    if self._topology is not None:
                        await self._declare(session, self._topology)
                except BaseException:
                    await session.close()
                    raise
                return session
        raise AssertionError("unreachable: there is no limit to the attempts")

    def _now(self) -> Session:
        if self._session is None:
            raise BrokerUnavailable(f"no connection to RabbitMQ at {_without_password(self._url)}")
        if self._session.blocked is not None:  # it reads nothing more: whatever is asked would wait for its answer
            raise BrokerUnavailable(f"RabbitMQ takes nothing for now: {self._session.blocked}")
        return self._session

    async def declare(self, topology: Topology) -> None:
        """Declare all of it; see :class:`shared.broker.Broker`."""
        await self._declare(self._now(), topology)

    async def _declare(self, session: Session, topology: Topology) -> None:
        try:
            async with session.channel() as channel:
                for exchange in topology.exchanges:
                    await channel.declare_exchange(exchange.name, "topic", durable=True)
                for queue in topology.queues:
                    await declare_queue(channel, queue, self._delivery_limit)
        except ChannelPreconditionFailed as error:
            raise TopologyConflict(
                f"{error}. The broker keeps what was declared first: delete the old one when it is empty "
                "(rabbitmqctl delete_queue NAME), or use another virtual host."
            ) from None
        except LOST as error:
            raise BrokerUnavailable(f"declaring the topology: {error}") from error

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish all, pipelined; see :class:`shared.broker.Broker`. What nobody must take is not waited for.

        A message that comes again while its confirm is still due is not sent again: its confirm is waited for.
        """
        session = self._now()
        mandatory = [(message, session.publisher.publish(message)) for message in messages if message.mandatory]
        if mandatory:
            try:
                async with session.deadline(self._publish_timeout_s):
                    await asyncio.wait([confirm for _, confirm in mandatory])
            except TimeoutError:
                if session.blocked is not None:
                    raise BrokerUnavailable(f"no confirm: RabbitMQ takes nothing for now: {session.blocked}") from None
                raise BrokerUnavailable(f"no confirm within {self._publish_timeout_s:g} s") from None
        for message, confirm in mandatory:
            error = asyncio.CancelledError() if confirm.cancelled() else confirm.exception()
            if error is not None:
                raise _publish_error(message, error) from error
        for message in messages:
            if not message.mandatory:
                session.publish_copy(message, within_s=self._publish_timeout_s)

    async def look(self, queues: Sequence[Queue]) -> Sequence[Depth]:
        """How deep some queues are, all over one channel; see :class:`shared.broker.Broker`."""
        session = self._now()
        try:
            async with session.deadline(LOOK_TIMEOUT_S), session.channel() as channel:
                declared = [(await channel.declare_queue(queue.name, passive=True)) for queue in queues]
        except (*LOST, TimeoutError) as error:
            raise BrokerUnavailable(f"looking at queues: {error!r}") from error
        results = [queue.declaration_result for queue in declared]
        return [Depth(result.message_count or 0, result.consumer_count or 0) for result in results]

    async def waiting(self, queue: Queue) -> int:
        """How many messages of a queue are ready; raises BrokerUnavailable."""
        (depth,) = await self.look([queue])
        return depth.ready

    async def browse(self, queue: Queue, limit: int) -> Sequence[Message]:
        """Up to so many messages of a queue, in its order; they stay there.

        Nobody else is given them meanwhile; they are back a moment later, maybe in another order. Raises
        BrokerUnavailable.
        """
        async with self._aside(queue) as channel:
            return [wire.delivery(got).message async for got in _first(channel, queue, limit)]

    async def remove(self, queue: Queue, limit: int, unwanted: Callable[[Message], bool]) -> int:
        """Look at up to so many messages of a queue, one by one, and delete those that are unwanted; returns how many.

        The others are as after :meth:`browse`. Raises BrokerUnavailable.
        """
        removed = 0
        async with self._aside(queue) as channel:
            async for got in _first(channel, queue, limit):
                if unwanted(wire.delivery(got).message):
                    await channel.basic_ack(got.delivery_tag or 0)
                    removed += 1
        return removed

    async def purge(self, queue: Queue) -> int:
        """Delete what is ready in a queue; returns how many that were. Raises BrokerUnavailable."""
        async with self._aside(queue) as channel:
            return (await channel.queue_purge(queue.name)).message_count or 0

    @asynccontextmanager
    async def _aside(self, queue: Queue) -> AsyncIterator[Channel]:
        """A channel to look at a queue; what was taken and not acknowledged goes back when it is closed."""
        try:
            async with self._now().channel() as channel:
                yield await underlay(channel)
        except LOST as error:
            raise BrokerUnavailable(f"looking at {queue.name}: {error}") from error

    @asynccontextmanager
    async def subscribe(self, queue: Queue, *, prefetch: int) -> AsyncIterator["RabbitSubscription"]:
        """Consume a queue on a channel of its own; see :class:`shared.broker.Broker`."""
        session = self._now()
        try:
            async with session.channel() as channel:
                await channel.set_qos(prefetch_count=prefetch)
                name = await declare_queue(channel, queue, self._delivery_limit) if queue.exclusive else queue.name
                subscription = RabbitSubscription(await underlay(channel), name, session.outbox, session.lost)
                channel.close_callbacks.add(subscription.lose)
                await subscription.start()
                yield subscription
        except LOST as error:
            raise BrokerUnavailable(f"consuming {queue.name or 'an own queue'}: {error}") from error


async def _first(channel: Channel, queue: Queue, limit: int) -> AsyncIterator[DeliveredMessage]:
    """Up to so many messages of a queue, unacknowledged."""
    for _ in range(limit):
        got = await channel.basic_get(queue.name)
        if isinstance(got.delivery, commands.Basic.GetEmpty):
            return
        yield got


def _publish_error(message: Message, error: BaseException) -> Exception:
    what = f"{message.routing_key!r} on {message.exchange!r}"
    match error:
        case PublishError():
            return Unroutable(f"no queue takes {what}")
        case DeliveryError():
            return PublishRefused(f"a queue that takes {what} is full")
        case BrokerUnavailable():
            return BrokerUnavailable(f"publishing {what}: {error}")
        case _ if isinstance(error, (*LOST, asyncio.CancelledError)):  # aiormq cancels what a dead connection owes
            return BrokerUnavailable(f"publishing {what}: {error!r}")
        case _:
            return Unpublishable(f"publishing {what}: {error!r}")


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 5672}{parts.path}"

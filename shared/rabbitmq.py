"""RabbitMQ through aio-pika, behind the :class:`shared.broker.Broker` interface.

One plain (not "robust") connection at a time, replaced with jittered backoff when it is lost. Nothing is replayed
behind the caller's back: a publish during an outage fails at once or by its deadline, a subscription ends with
``BrokerUnavailable``, and what was unacknowledged comes again, because the broker says so. The robust classes would
restore consumers silently and leave the acks of the old channel to fail.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

import aio_pika
import stamina
import structlog
from aio_pika import abc
from aio_pika.exceptions import AMQPError, ChannelPreconditionFailed, DeliveryError, PublishError

from shared import alarms, tolerance
from shared.broker import Delivery, Depth, Message
from shared.errors import BrokerUnavailable, PublishRefused, TopologyConflict, Unpublishable, Unroutable
from shared.telemetry import metrics
from shared.topology import DEAD, Queue, Topology

if TYPE_CHECKING:
    from aiormq.abc import FieldTable

log = structlog.stdlib.get_logger(__name__)

CONNECT_TIMEOUT_S: Final = 10.0
RECONNECT_MAX_S: Final = 5.0
HEARTBEAT_S: Final = 15
PRIVATE_MESSAGES: Final = 100_000
UNLIMITED: Final = 1_000_000
COPIES_UNDER_WAY: Final = 1000
COPIES_WAIT_S: Final = 2.0
# What was sent before the broker blocked the connection may still be confirmed, within this time.
BLOCKED_GRACE_S: Final = 0.5
LOOK_TIMEOUT_S: Final = 5.0
# What aio-pika raises when a connection or channel is gone, or goes while it is being used.
LOST: Final = (AMQPError, OSError, RuntimeError, asyncio.InvalidStateError)


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
        self._session: _Session | None = None
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

    async def _connect(self) -> "_Session":
        attempts = stamina.retry_context(
            on=(*LOST, TimeoutError, BrokerUnavailable),
            attempts=None,
            timeout=None,
            wait_max=RECONNECT_MAX_S,
            wait_jitter=1.0,
        )
        async for attempt in attempts:
            with attempt:
                session = await _Session.open(self._url, self._name)
                try:
                    if self._topology is not None:
                        await self._declare(session, self._topology)
                except BaseException:
                    await session.close()
                    raise
                return session
        raise AssertionError("unreachable: there is no limit to the attempts")

    def _now(self) -> "_Session":
        if self._session is None:
            raise BrokerUnavailable(f"no connection to RabbitMQ at {_without_password(self._url)}")
        if self._session.blocked is not None:  # it reads nothing more: whatever is asked would wait for its answer
            raise BrokerUnavailable(f"RabbitMQ takes nothing for now: {self._session.blocked}")
        return self._session

    async def declare(self, topology: Topology) -> None:
        """Declare all of it; see :class:`shared.broker.Broker`."""
        await self._declare(self._now(), topology)

    async def _declare(self, session: "_Session", topology: Topology) -> None:
        try:
            async with session.channel() as channel:
                for exchange in topology.exchanges:
                    await channel.declare_exchange(exchange.name, "topic", durable=True)
                for queue in topology.queues:
                    await self._declare_queue(channel, queue)
        except ChannelPreconditionFailed as error:
            raise TopologyConflict(
                f"{error}. The broker keeps what was declared first: delete the old one when it is empty "
                "(rabbitmqctl delete_queue NAME), or use another virtual host."
            ) from None
        except LOST as error:
            raise BrokerUnavailable(f"declaring the topology: {error}") from error

    async def _declare_queue(self, channel: abc.AbstractChannel, queue: Queue) -> abc.AbstractQueue:
        declared = await channel.declare_queue(
            None if queue.exclusive else queue.name,
            durable=not queue.exclusive,
            exclusive=queue.exclusive,
            auto_delete=queue.exclusive,
            arguments=arguments(queue, self._delivery_limit),
        )
        for binding in queue.bindings:
            await declared.bind(binding.exchange.name, binding.pattern)
        return declared

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish all, pipelined; see :class:`shared.broker.Broker`. What nobody must take is not waited for.

        A message that comes again while its confirm is still due is not sent again: its confirm is waited for.
        """
        session = self._now()
        mandatory = [(message, session.confirming(message)) for message in messages if message.mandatory]
        if mandatory:
            try:
                async with session.deadline(self._publish_timeout_s):
                    await asyncio.wait([task for _, task in mandatory])
            except TimeoutError:
                if session.blocked is not None:
                    raise BrokerUnavailable(f"no confirm: RabbitMQ takes nothing for now: {session.blocked}") from None
                raise BrokerUnavailable(f"no confirm within {self._publish_timeout_s:g} s") from None
        for message, task in mandatory:
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
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
            return [_from_wire(got).message async for got in _first(channel, queue, limit)]

    async def remove(self, queue: Queue, limit: int, unwanted: Callable[[Message], bool]) -> int:
        """Look at up to so many messages of a queue, one by one, and delete those that are unwanted; returns how many.

        The others are as after :meth:`browse`. Raises BrokerUnavailable.
        """
        removed = 0
        async with self._aside(queue) as channel:
            async for got in _first(channel, queue, limit):
                if unwanted(_from_wire(got).message):
                    await got.ack()
                    removed += 1
        return removed

    async def purge(self, queue: Queue) -> int:
        """Delete what is ready in a queue; returns how many that were. Raises BrokerUnavailable."""
        async with self._aside(queue) as channel:
            source = await channel.get_queue(queue.name, ensure=False)
            return (await source.purge()).message_count or 0

    @asynccontextmanager
    async def _aside(self, queue: Queue) -> AsyncIterator[abc.AbstractChannel]:
        """A channel to look at a queue; what was taken and not acknowledged goes back when it is closed."""
        try:
            async with self._now().channel() as channel:
                yield channel
        except LOST as error:
            raise BrokerUnavailable(f"looking at {queue.name}: {error}") from error

    @asynccontextmanager
    async def subscribe(self, queue: Queue, *, prefetch: int) -> AsyncIterator["RabbitSubscription"]:
        """Consume a queue on a channel of its own; see :class:`shared.broker.Broker`."""
        session = self._now()
        try:
            async with session.channel() as channel:
                await channel.set_qos(prefetch_count=prefetch)
                if queue.exclusive:
                    source = await self._declare_queue(channel, queue)
                else:
                    source = await channel.get_queue(queue.name, ensure=False)
                subscription = RabbitSubscription(channel, source, session.lost)
                await subscription.start()
                yield subscription
        except LOST as error:
            raise BrokerUnavailable(f"consuming {queue.name or 'an own queue'}: {error}") from error


async def _first(channel: abc.AbstractChannel, queue: Queue, limit: int) -> AsyncIterator[abc.AbstractIncomingMessage]:
    """Up to so many messages of a queue, unacknowledged."""
    source = await channel.get_queue(queue.name, ensure=False)
    for _ in range(limit):
        if (got := await source.get(fail=False)) is None:
            return
        yield got


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


# Exchange, routing key and id of a message.
_Name = tuple[str, str, str | None]


class _Session:
    """One connection and its two publishing channels, for as long as it lasts."""

    def __init__(self, connection: abc.AbstractConnection) -> None:
        self._connection = connection
        self._exchanges: dict[tuple[str, bool], abc.AbstractExchange] = {}
        self._publisher: abc.AbstractChannel
        self._replies: abc.AbstractChannel
        self._copies: set[asyncio.Task[None]] = set()
        self._unconfirmed: dict[_Name, tuple[Message, asyncio.Task[None]]] = {}
        self._deadlines: set[asyncio.Timeout] = set()
        self.lost = asyncio.Event()
        self.blocked: str | None = None

    @classmethod
    async def open(cls, url: str, name: str) -> Self:
        connection = await aio_pika.connect(
            url,
            timeout=CONNECT_TIMEOUT_S,
            heartbeat=HEARTBEAT_S,
            client_properties={"connection_name": name},
        )
        session = cls(connection)
        connection.close_callbacks.add(session._on_close)
        alarms.follow(connection, session._on_alarm)
        session._publisher = await connection.channel(publisher_confirms=True, on_return_raises=True)
        # A reply queue that is gone must not disturb the flow: nothing is returned on this channel.
        session._replies = await connection.channel(publisher_confirms=True)
        for channel in (session._publisher, session._replies):
            channel.close_callbacks.add(session._on_close)
        return session

    def _on_close(self, *_: object) -> None:
        self.lost.set()

    def _on_alarm(self, reason: str | None) -> None:
        log.warning("RabbitMQ takes messages again" if reason is None else "RabbitMQ takes nothing", reason=reason)
        self.blocked = reason
        metrics.BLOCKED.set(reason is not None)
        if reason is not None:
            soon = asyncio.get_running_loop().time() + BLOCKED_GRACE_S
            for deadline in self._deadlines:
                when = deadline.when()
                deadline.reschedule(soon if when is None else min(soon, when))

    @asynccontextmanager
    async def deadline(self, seconds: float) -> AsyncIterator[None]:
        """As asyncio.timeout, but soon over once the broker has blocked the connection."""
        async with asyncio.timeout(seconds) as timeout:
            self._deadlines.add(timeout)
            try:
                yield
            finally:
                self._deadlines.discard(timeout)

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[abc.AbstractChannel]:
        """A channel of one's own; closing it hands back what is unacknowledged on it."""
        channel = await self._connection.channel(publisher_confirms=False)
        try:
            yield channel
        finally:
            with suppress(*LOST, TimeoutError):
                async with asyncio.timeout(CONNECT_TIMEOUT_S):  # a blocked connection answers nothing
                    await channel.close()

    async def publish(self, message: Message) -> None:
        exchange = await self._exchange(message)
        await exchange.publish(_to_wire(message), message.routing_key, mandatory=message.mandatory)

    def confirming(self, message: Message) -> asyncio.Task[None]:
        """The publish of a message, which goes on when nobody waits for it any more.

        For an equal message whose confirm is due it is the one under way: a broker that is slow to confirm would have
        all the more to do with every copy, and so would all who consume them.
        """
        name = (message.exchange, message.routing_key, message.message_id)
        if name in self._unconfirmed and self._unconfirmed[name][0] == message:
            return self._unconfirmed[name][1]
        task = asyncio.create_task(self.publish(message))
        self._unconfirmed[name] = (message, task)
        task.add_done_callback(partial(self._confirmed, name))
        return task

    def _confirmed(self, name: "_Name", task: asyncio.Task[None]) -> None:
        if name in self._unconfirmed and self._unconfirmed[name][1] is task:
            del self._unconfirmed[name]
        if not task.cancelled():
            task.exception()  # looked at also where nobody waits for it any more

    def publish_copy(self, message: Message, *, within_s: float) -> None:
        """Publish and don't look back: a reply queue that is gone, full or slow is its owner's business."""
        if len(self._copies) >= COPIES_UNDER_WAY:
            log.warning("a copy is dropped: too many are not confirmed", queue=message.routing_key)
            return
        task = asyncio.create_task(self._publish_quietly(message, within_s))
        self._copies.add(task)
        task.add_done_callback(self._copies.discard)

    async def _publish_quietly(self, message: Message, within_s: float) -> None:
        with suppress(*LOST, TimeoutError):
            async with asyncio.timeout(within_s):
                await self.publish(message)

    async def _exchange(self, message: Message) -> abc.AbstractExchange:
        key = (message.exchange, message.mandatory)
        if key not in self._exchanges:
            channel = self._publisher if message.mandatory else self._replies
            default = channel.default_exchange
            self._exchanges[key] = (
                await channel.get_exchange(message.exchange, ensure=False) if message.exchange else default
            )
        return self._exchanges[key]

    async def close(self) -> None:
        if self._copies and not self.lost.is_set():
            await asyncio.wait(self._copies, timeout=COPIES_WAIT_S)
        for task in (*self._copies, *(task for _, task in self._unconfirmed.values())):
            task.cancel()
        with suppress(*LOST, TimeoutError):
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._connection.close()


class RabbitSubscription:
    """Deliveries of one queue, on one channel."""

    def __init__(self, channel: abc.AbstractChannel, queue: abc.AbstractQueue, lost: asyncio.Event) -> None:
        self._channel = channel
        self._queue = queue
        self._connection_lost = lost
        self._tag: str | None = None
        self._waiting: deque[Delivery] = deque()
        self._unacked: dict[int, None] = {}
        self._changed = asyncio.Event()
        self._closed = False
        self._gone = False

    async def start(self) -> None:
        """Begin to consume."""
        underlay = await self._channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(self._on_lost)
        self._channel.close_callbacks.add(self._on_lost)
        self._underlay = underlay
        self._tag = await self._queue.consume(self._on_message)

    @property
    def lost(self) -> bool:
        """Whether its connection is gone."""
        return self._gone or self._connection_lost.is_set()

    def _on_lost(self, *_: object) -> None:
        self._gone = True
        self._changed.set()

    async def _on_message(self, message: abc.AbstractIncomingMessage) -> None:
        delivery = _from_wire(message)
        self._waiting.append(delivery)
        self._unacked[delivery.tag] = None
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
            raise BrokerUnavailable(f"the channel that consumes {self._queue.name} is gone")
        return [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge; in one frame where these are all that is outstanding up to the newest of them."""
        tags = sorted(delivery.tag for delivery in deliveries)
        if not tags or self._gone:
            return
        older = sum(1 for tag in self._unacked if tag <= tags[-1])
        with suppress(*LOST):
            if older == len(tags) and len(tags) > 1:
                await self._underlay.basic_ack(tags[-1], multiple=True)
            else:
                for tag in tags:
                    await self._underlay.basic_ack(tag)
        self._forget(tags)

    async def hand_back(self, deliveries: Sequence[Delivery], *, failed: bool = True) -> None:
        """Return to the queue: by reject, which counts everywhere, or by nack, which RabbitMQ 4.3 does not count."""
        with suppress(*LOST):
            for delivery in () if self._gone else deliveries:
                if failed:
                    await self._underlay.basic_reject(delivery.tag, requeue=True)
                else:
                    await self._underlay.basic_nack(delivery.tag, requeue=True)
        self._forget(delivery.tag for delivery in deliveries)

    def _forget(self, tags: Iterable[int]) -> None:
        for tag in tags:
            self._unacked.pop(tag, None)

    async def close(self) -> None:
        """Cancel the consumer and hand back what nobody took."""
        self._closed = True
        with suppress(*LOST):
            if self._tag is not None and not self._gone:
                await self._queue.cancel(self._tag)
        await self.hand_back(list(self._waiting), failed=False)
        self._waiting.clear()
        self._changed.set()


def _publish_error(message: Message, error: BaseException) -> Exception:
    what = f"{message.routing_key!r} on {message.exchange!r}"
    match error:
        case PublishError():
            return Unroutable(f"no queue takes {what}")
        case DeliveryError():
            return PublishRefused(f"a queue that takes {what} is full")
        case _ if isinstance(error, (*LOST, asyncio.CancelledError)):  # aiormq cancels what a dead connection owes
            return BrokerUnavailable(f"publishing {what}: {error!r}")
        case _:
            return Unpublishable(f"publishing {what}: {error!r}")


def _to_wire(message: Message) -> aio_pika.Message:
    return aio_pika.Message(
        message.body,
        headers=dict(message.headers),  # type: ignore[arg-type]  # ours are strings and numbers only
        content_type=message.content_type,
        message_id=message.message_id,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        app_id=message.app_id,
        timestamp=message.timestamp,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )


def _from_wire(message: abc.AbstractIncomingMessage) -> Delivery:
    headers: Mapping[str, object] = message.headers
    count = headers.get("x-delivery-count")
    return Delivery(
        Message(
            exchange=message.exchange or "",
            routing_key=message.routing_key or "",
            body=message.body,
            headers=headers,
            content_type=message.content_type,
            message_id=message.message_id,
            correlation_id=message.correlation_id,
            reply_to=message.reply_to,
            app_id=message.app_id,
            timestamp=_timestamp(message),
        ),
        tag=message.delivery_tag or 0,
        attempts=count if isinstance(count, int) else 0,
    )


def _timestamp(message: abc.AbstractIncomingMessage) -> datetime | None:
    stamp = message.timestamp
    return stamp.astimezone(UTC) if isinstance(stamp, datetime) else None


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 5672}{parts.path}"

"""The runner: takes deliveries, calls a handler, publishes what it returns, and only then acknowledges.

This is the only place that acknowledges. A handler takes events and returns events; it never sees the broker. What
becomes of a delivery is one of a closed set of outcomes:

- :class:`Done`: these events follow from it. They are published, confirmed, then the delivery is acknowledged.
- :class:`Again`: something we depend on is away. The delivery is kept, and the handler called again after a pause.
- :class:`Parked`: not now, and not to be held meanwhile. A copy goes to the queue's parking queue, then it is
  acknowledged; after a delay the broker brings the copy back. A handler asks for it with :class:`shared.errors.Park`.
- :class:`Aside`: not yet; others wait behind its like. A copy goes to a side queue, then it is acknowledged.
- :class:`Dead`: it will never work. A copy goes to the dead letters with the reason, then it is acknowledged.

Of a publish without a confirm nobody can tell whether it arrived, so a copy may come twice, as any message may.

:class:`Consumer` calls a handler for each event, many at a time, and of a fair queue in turns (shared/fairness.py);
:class:`BatchConsumer` hands over all that has arrived, once per tick.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Generic, TypeVar, assert_never

import structlog

from shared import envelope
from shared.broker import Broker, Delivery, Message, Subscription
from shared.clock import SYSTEM_CLOCK, Clock
from shared.errors import BrokerError, BrokerUnavailable, ForebayError, Park, UndecodableMessage, Unpublishable
from shared.events import Event
from shared.fairness import Fairness
from shared.publishing import publish
from shared.telemetry import metrics, tracing
from shared.topology import DEAD, Queue

log = structlog.stdlib.get_logger(__name__)

PAUSE_FIRST_S: Final = 0.1
PAUSE_MAX_S: Final = 5.0
# Tries of a handler that fails in a way it does not know itself: a bug, or something passing.
UNEXPECTED_TRIES: Final = 3
REASON_HEADER: Final = "forebay-reason"
CODE_HEADER: Final = "forebay-code"
QUEUE_HEADER: Final = "forebay-queue"
PARKED_HEADER: Final = "forebay-parked"
KEY_HEADER: Final = "forebay-key"
# RabbitMQ routes by these: a list of keys would spread the copy, anything else makes it close the channel.
ROUTING_HEADERS: Final = frozenset({"CC", "BCC"})

T = TypeVar("T")
Decode = Callable[[Message], T]
Handler = Callable[[T], Awaitable[Sequence[Event]]]
Subscribed = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Done:
    """Handled; these events follow."""

    events: Sequence[Event] = ()


@dataclass(frozen=True, slots=True)
class Again:
    """Not now; something it needs is away."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Parked:
    """Not now; again after a delay of its queue, and until then it is nobody's load."""

    after_s: float = 0.0
    instead: Event | None = None


@dataclass(frozen=True, slots=True)
class Aside:
    """In its turn, from a side queue."""

    place: Queue


@dataclass(frozen=True, slots=True)
class Dead:
    """Never; to the dead letters."""

    code: str
    reason: str


Outcome = Done | Again | Parked | Aside | Dead
BatchHandler = Callable[[Sequence[tuple[Queue, Event]]], Awaitable[Sequence[Outcome]]]


def pause_s(attempt: int) -> float:
    """Seconds before the next try: exponential from 0.1 s, capped at 5 s, full jitter."""
    return random.uniform(0, min(PAUSE_MAX_S, PAUSE_FIRST_S * 2 ** min(attempt, 10)))  # jitter


class _Settler:
    """Turns outcomes into publishes and acknowledgements."""

    def __init__(self, broker: Broker, *, source: str, clock: Clock) -> None:
        self._broker = broker
        self._clock = clock
        self._source = source

    async def settle(
        self, subscription: Subscription, queue: Queue, delivery: Delivery, outcome: Outcome, stopping: asyncio.Event
    ) -> None:
        """Publish what follows, wait for the confirms, acknowledge.

        What was achieved is not thrown away because the broker is slow or a queue is full: publishing is tried again
        until the connection is lost or the service stops, and then the delivery goes back.
        """
        if isinstance(outcome, Parked) and not queue.delays:
            outcome = Again(Park(f"{queue.name} can't be parked"))  # "later" was asked for: keep it, don't bury it
        tries, now = 0, self._clock.now()  # one time for all tries: they publish the same messages, not further ones
        while True:
            try:
                await self._carry_out(subscription, queue, delivery, outcome, now)
                break
            except BrokerError as error:
                if isinstance(error, Unpublishable) and not isinstance(outcome, Dead):
                    outcome = Dead(error.code, str(error))
                    continue
                tries += 1
                log.warning("could not publish", queue=queue.name, tries=tries, code=error.code, error=str(error))
                if error.retryable and not stopping.is_set() and not subscription.lost:
                    await self._clock.sleep(pause_s(tries))
                    continue
                if not error.retryable:  # a binding is missing: not in a hot loop
                    await self._clock.sleep(PAUSE_MAX_S)
                await subscription.hand_back([delivery], failed=not error.retryable)
                return
        log.debug("settled", queue=queue.name, outcome=type(outcome).__name__.lower())
        metrics.CONSUMED.labels(queue.name, type(outcome).__name__.lower()).inc()

    async def _carry_out(
        self, subscription: Subscription, queue: Queue, delivery: Delivery, outcome: Outcome, now: datetime
    ) -> None:
        match outcome:
            case Done(events):
                await publish(self._broker, events, source=self._source, now=now)
                await subscription.ack([delivery])
            case Dead(code, reason):
                log.error("gave up", queue=queue.name, code=code, reason=reason, attempts=delivery.attempts)
                if not queue.exclusive:  # a copy of our own needs no burial
                    await self._broker.publish([obituary(queue, delivery, outcome)])
                await subscription.ack([delivery])
            case Parked(after_s, instead):
                message = delivery.message
                if instead is not None:
                    message = _rewritten(message, instead, source=self._source, now=now)
                await self._broker.publish([parked(queue, message, after_s)])
                await subscription.ack([delivery])
            case Aside(place):
                await self._broker.publish([moved(delivery.message, place)])
                await subscription.ack([delivery])
            case Again():
                await subscription.hand_back([delivery], failed=False)
            case _:
                assert_never(outcome)


def obituary(queue: Queue, delivery: Delivery, dead: Dead) -> Message:
    """The dead letter of a delivery: the message as it came, under the name of its queue, with the reason."""
    reason = {CODE_HEADER: dead.code, REASON_HEADER: dead.reason[:2000], QUEUE_HEADER: queue.name}
    return replace(
        delivery.message,
        exchange=DEAD.name,
        routing_key=queue.name,
        headers=_plain(delivery.message.headers) | reason,
        mandatory=True,
    )


def _rewritten(message: Message, event: Event, *, source: str, now: datetime) -> Message:
    """A message with another event of its type as its body."""
    (encoded, *_) = envelope.encode_all([event], source=source, now=now)
    kept = {name: value for name, value in message.headers.items() if name not in encoded.headers}
    return replace(message, body=encoded.body, headers={**encoded.headers, **kept})


def parked(queue: Queue, message: Message, after_s: float = 0.0) -> Message:
    """The copy of a message that waits: as it came, and how often that was.

    It comes back under the name of its queue, with the key it was published with in a header, and its attempts begin
    anew.
    """
    place = queue.parked(after_s)
    assert place is not None
    copy = moved(message, place)
    return replace(copy, headers={**copy.headers, PARKED_HEADER: times_parked(message) + 1})


def moved(message: Message, place: Queue) -> Message:
    """The copy of a message for another queue, with the key it was published with in a header."""
    headers = _plain(message.headers) | {KEY_HEADER: published_with(message)}
    return replace(message, exchange="", routing_key=place.name, headers=headers, mandatory=True)


def times_parked(message: Message) -> int:
    """How often a message was parked before; a handler that wants to know can have it by its ``decode``."""
    times = message.headers.get(PARKED_HEADER)
    return times if isinstance(times, int) else 0


def published_with(message: Message) -> str:
    """The routing key a message was published with, also where it was parked or set aside since."""
    key = message.headers.get(KEY_HEADER)
    return key if not message.exchange and isinstance(key, str) else message.routing_key


def _plain(headers: Mapping[str, object]) -> dict[str, object]:
    """Headers as a client may have sent them, without what can be read but not written again.

    The broker's own (x-death, x-delivery-count) tell of the message that was taken; a copy is a new one, or RabbitMQ
    might see it go in a circle and drop it.
    """
    return {
        name: value if isinstance(value, str | bool | int) else repr(value)
        for name, value in headers.items()
        if not name.startswith("x-") and name not in ROUTING_HEADERS
    }


class Consumer(Generic[T]):
    """Calls a handler for each delivery of a queue, many at a time, until told to stop."""

    def __init__(
        self,
        broker: Broker,
        queue: Queue,
        handler: Handler[T],
        *,
        source: str,
        decode: Decode[T],
        concurrency: int,
        subscribed: Subscribed | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """``subscribed`` is called each time the queue is there, before any of its deliveries is handled: what was
        published while an exclusive queue was not there is lost.
        """
        self._broker = broker
        self._queue = queue
        self._handler = handler
        self._subscribed = subscribed
        self._decode = decode
        self._concurrency = concurrency
        self._clock = clock
        self._settler = _Settler(broker, source=source, clock=clock)
        self._stopping = asyncio.Event()
        self._subscriptions: Sequence[Subscription] = ()
        self._turns: Fairness | None = None

    def waiting(self) -> int:
        """Deliveries that this consumer holds and has not begun with; of a queue that is not fair it holds none."""
        return self._turns.waiting if self._turns else 0

    async def run(self) -> None:
        """Consume until :meth:`stop`; a lost connection is waited for. Returns when all that was taken is settled."""
        attempt = 0
        while not self._stopping.is_set():
            try:
                async with AsyncExitStack() as stack:
                    fairness = self._turns = self._fairness() if self._queue.fair else None
                    prefetch = fairness.prefetch if fairness else self._concurrency  # of a side queue as well
                    subscription = await stack.enter_async_context(
                        self._broker.subscribe(self._queue, prefetch=prefetch)
                    )
                    sides = [
                        await stack.enter_async_context(self._broker.subscribe(side, prefetch=prefetch))
                        for side in self._queue.sides
                    ]
                    attempt = 0
                    self._subscriptions = (subscription, *sides)
                    if self._subscribed is not None:
                        self._subscribed()
                    if self._stopping.is_set():  # told to stop while it was subscribing
                        await self._close()
                    if fairness is None:
                        await self._handle_all(subscription)
                    else:
                        for source, left in (await fairness.run(subscription, sides)).items():
                            await source.hand_back(left, failed=False)
            except* BrokerUnavailable as lost:
                # Handlers under way were cancelled: the broker hands their deliveries out again.
                self._turns = None
                log.warning("will subscribe again", queue=self._queue.name, error=str(lost.exceptions[0]))
                await self._clock.sleep(pause_s(attempt))
                attempt += 1

    async def stop(self) -> None:
        """Take no more; :meth:`run` returns when what was taken is settled."""
        self._stopping.set()
        await self._close()

    async def _close(self) -> None:
        for subscription in self._subscriptions:
            await subscription.close()

    def _fairness(self) -> Fairness:
        return Fairness(
            concurrency=self._concurrency, process=self._process, set_aside=self._set_aside, stopping=self._stopping
        )

    async def _set_aside(self, subscription: Subscription, delivery: Delivery, priority: str, tenant: str) -> None:
        outcome = Aside(self._queue.side(priority, tenant))
        await self._settler.settle(subscription, self._queue, delivery, outcome, self._stopping)

    async def _handle_all(self, subscription: Subscription) -> None:
        async with asyncio.TaskGroup() as tasks:
            while deliveries := await subscription.take(self._concurrency):
                for delivery in deliveries:
                    tasks.create_task(self._process(subscription, delivery))

    async def _process(self, subscription: Subscription, delivery: Delivery) -> None:
        began = time.perf_counter()
        bind_context(delivery.message)
        with metrics.UNSETTLED.labels(self._queue.name).track_inprogress():
            outcome = await self._decide(delivery)
            await self._settler.settle(subscription, self._queue, delivery, outcome, self._stopping)
        metrics.PROCESSING.labels(self._queue.name).observe(time.perf_counter() - began)

    async def _decide(self, delivery: Delivery) -> Outcome:
        """Call the handler until it is done or dead, or until the service stops."""
        tries = 0
        while True:
            tries += 1
            outcome = await self._attempt(delivery.message, tries)
            if not isinstance(outcome, Again) or self._stopping.is_set():
                return outcome
            log.warning("will try again", queue=self._queue.name, tries=tries, error=repr(outcome.error))
            await self._clock.sleep(pause_s(tries))

    async def _attempt(self, message: Message, tries: int) -> Outcome:
        try:
            return Done(await self._handler(self._decode(message)))
        except Park as error:
            return Parked(error.after_s, error.instead) if self._queue.delays else Again(error)
        except ForebayError as error:
            return Again(error) if error.retryable else Dead(error.code, str(error))
        except Exception as error:
            if tries < UNEXPECTED_TRIES:
                return Again(error)
            log.exception("handler failed", queue=self._queue.name, tries=tries)
            return Dead(ForebayError.code, repr(error))


class BatchConsumer:
    """Hands over what has arrived on some queues, once per tick, until told to stop.

    What arrives after a rest is handed over at the next tick, and then there is a rest: until it is over, only as much
    as a batch can hold is worth a tick. So there are about as many batches while little arrives as while much does.
    """

    def __init__(
        self,
        broker: Broker,
        limits: Mapping[Queue, int],
        handler: BatchHandler,
        *,
        source: str,
        tick_s: float,
        rest_s: float = 0.0,
        tick_bytes: int,
        prefetch: int,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Take at most ``limits[queue]`` events of each queue per tick of ``tick_s`` seconds.

        Of a queue whose messages are large the tick takes no more once it has ``tick_bytes`` of them. A batch that left
        nothing behind is followed by a rest of ``rest_s``.
        """
        self._broker = broker
        self._limits = limits
        self._handler = handler
        self._tick_s = tick_s
        self._rest_s = rest_s
        self._tick_bytes = tick_bytes
        self._prefetch = prefetch
        self._clock = clock
        self._settler = _Settler(broker, source=source, clock=clock)
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Consume until :meth:`stop`; a lost connection is waited for."""
        attempt = 0
        while not self._stopping.is_set():
            try:
                async with AsyncExitStack() as stack:
                    sources = {
                        queue: await stack.enter_async_context(
                            self._broker.subscribe(queue, prefetch=max(self._prefetch, limit))
                        )
                        for queue, limit in self._limits.items()
                    }
                    attempt = 0
                    await self._tick_until_stopped(sources)
            except BrokerUnavailable as lost:
                log.warning("will subscribe again", queues=[queue.name for queue in self._limits], error=str(lost))
                await self._clock.sleep(pause_s(attempt))
                attempt += 1

    async def stop(self) -> None:
        """Take no more; :meth:`run` returns after the tick under way, or one more where it rests."""
        self._stopping.set()

    async def _tick_until_stopped(self, sources: Mapping[Queue, Subscription]) -> None:
        next_tick = rested = self._clock.monotonic()
        while not self._stopping.is_set():
            began = self._clock.monotonic()
            if began >= rested or self._enough(sources):
                rested = began + (self._rest_s if await self._tick(sources) else 0)
            next_tick = max(next_tick + self._tick_s, self._clock.monotonic())
            await self._clock.sleep(next_tick - self._clock.monotonic())
        if self._clock.monotonic() < rested:  # what the rest kept waiting goes out with this process
            await self._tick(sources)

    def _enough(self, sources: Mapping[Queue, Subscription]) -> bool:
        """Whether there is as much of one queue as a batch may have."""
        return any(subscription.here >= self._limits[queue] for queue, subscription in sources.items())

    async def _tick(self, sources: Mapping[Queue, Subscription]) -> bool:
        """Handle what is there; whether there was something, and no bound has left more of it behind."""
        arrived, all_of_it = [], True
        for queue, subscription in sources.items():
            taken, bounded = self._take(subscription, self._limits[queue])
            arrived += [Arrived(queue, subscription, delivery) for delivery in taken]
            all_of_it &= not bounded
        if arrived:
            await self._handle(arrived)
        return bool(arrived) and all_of_it

    def _take(self, subscription: Subscription, limit: int) -> tuple[Sequence[Delivery], bool]:
        """Deliveries that are here, and whether it was a bound that ended it."""
        taken: list[Delivery] = []
        size = 0
        while len(taken) < limit and size < self._tick_bytes:
            one = subscription.take_nowait(1)
            if not one:
                return taken, False
            taken += one
            size += len(one[0].message.body)
        return taken, True

    async def _handle(self, arrived: Sequence["Arrived"]) -> None:
        began = time.perf_counter()
        decoded, undecodable = _decoded(arrived)
        outcomes = [*undecodable, *await self._decide(decoded)]
        done: dict[Queue, list[Arrived]] = {}
        others = []
        for item, outcome in outcomes:
            if isinstance(outcome, Done) and not outcome.events:
                done.setdefault(item.queue, []).append(item)
            else:
                others.append(self._settle(item, outcome))
        for queue, items in done.items():
            await items[0].subscription.ack([item.delivery for item in items])
            metrics.CONSUMED.labels(queue.name, "done").inc(len(items))
            metrics.PROCESSING.labels(queue.name).observe(time.perf_counter() - began)
        await asyncio.gather(*others)

    async def _settle(self, item: "Arrived", outcome: Outcome) -> None:
        await self._settler.settle(item.subscription, item.queue, item.delivery, outcome, self._stopping)

    async def _decide(self, batch: Sequence[tuple["Arrived", Event]]) -> Sequence[tuple["Arrived", Outcome]]:
        """Call the handler until it has an outcome for each, or until the service stops."""
        tries = 0
        while batch:
            tries += 1
            try:
                outcomes = await self._handler([(item.queue, event) for item, event in batch])
                return [(item, outcome) for (item, _), outcome in zip(batch, outcomes, strict=True)]
            except Exception as error:
                if isinstance(error, ForebayError) and error.retryable:
                    log.warning("the batch waits", size=len(batch), tries=tries, error=str(error))
                else:
                    log.exception("the batch failed and will be tried again", size=len(batch), tries=tries)
                if self._stopping.is_set():
                    return [(item, Again(error)) for item, _ in batch]
            await self._clock.sleep(pause_s(tries))
        return []


@dataclass(frozen=True, slots=True)
class Arrived:
    """A delivery in a batch, and where it came from."""

    queue: Queue
    subscription: Subscription
    delivery: Delivery


def _decoded(
    arrived: Sequence[Arrived],
) -> tuple[list[tuple[Arrived, Event]], list[tuple[Arrived, Outcome]]]:
    """The events of a batch, and what becomes of the deliveries that are none."""
    decoded: list[tuple[Arrived, Event]] = []
    undecodable: list[tuple[Arrived, Outcome]] = []
    for item in arrived:
        try:
            decoded.append((item, envelope.decode(item.delivery.message)))
        except UndecodableMessage as error:
            undecodable.append((item, Dead(error.code, str(error))))
    return decoded, undecodable


def bind_context(message: Message) -> None:
    """Bind the request, its tenant and its trace to the logs of the current task."""
    structlog.contextvars.bind_contextvars(
        request_id=envelope.attribute(message, "subject"),
        tenant=envelope.attribute(message, "tenant"),
        trace_id=tracing.resume(message.headers.get(tracing.HEADER)),
    )

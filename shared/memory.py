"""A broker in memory: RabbitMQ's semantics as far as the flow relies on them, for tests.

It routes topics, returns what nobody takes, counts redeliveries, dead-letters at the limit, brings back what was parked
and bounds what a consumer holds. The contract suite runs on it and on the real broker.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count, islice

from shared.broker import Delivery, Depth, Message
from shared.clock import SYSTEM_CLOCK, Clock
from shared.errors import BrokerUnavailable, TopologyConflict, Unroutable
from shared.topology import DEAD, Queue, Return, Topology


def matches(pattern: str, key: str) -> bool:
    """Whether a topic pattern takes a routing key: ``*`` is exactly one word, ``#`` zero or more."""
    return _match(pattern.split("."), key.split("."))


def _match(pattern: Sequence[str], words: Sequence[str]) -> bool:
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(_match(pattern[1:], words[taken:]) for taken in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and _match(pattern[1:], words[1:])


@dataclass(eq=False)
class _Stored:
    message: Message
    attempts: int = 0


@dataclass(eq=False)
class _Line:
    """One queue's messages."""

    queue: Queue
    ready: deque[_Stored] = field(default_factory=deque)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    consumers: int = 0

    def push(self, stored: _Stored, *, front: bool = False) -> None:
        (self.ready.appendleft if front else self.ready.append)(stored)
        self.arrived.set()


class MemoryBroker:
    """All exchanges and queues of one test.

    Attributes:
        clock: tells when what is parked from now on comes back; a test may put its own.
    """

    def __init__(self, *, delivery_limit: int = 5, clock: Clock = SYSTEM_CLOCK) -> None:
        self.clock = clock
        self._returning: set[asyncio.Task[None]] = set()
        self._delivery_limit = delivery_limit
        self._lines: dict[str, _Line] = {}
        self._own: list[_Line] = []
        self._tags = count(1)
        self.connected = True
        self.published: list[Message] = []

    async def declare(self, topology: Topology) -> None:
        """Create what is missing; raises TopologyConflict where a queue exists and is of another kind."""
        for queue in topology.queues:
            line = self._lines.setdefault(queue.name, _Line(queue))
            if (line.queue.dead_letters, line.queue.returns) != (queue.dead_letters, queue.returns):
                raise TopologyConflict(f"queue {queue.name!r} exists with other arguments")

    async def publish(self, messages: Sequence[Message]) -> None:
        """Route all; raises Unroutable and BrokerUnavailable."""
        for message in messages:
            await asyncio.sleep(0)
            self._check()
            lines = self._bound(message)
            if not lines and message.mandatory:
                raise Unroutable(f"no queue takes {message.routing_key!r} on {message.exchange!r}")
            self.published.append(message)
            for line in lines:
                self._store(line, message)

    def _store(self, line: _Line, message: Message) -> None:
        stored = _Stored(message)
        line.push(stored)
        if line.queue.returns is not None:
            task = asyncio.create_task(self._bring_back(line, stored, line.queue.returns))
            self._returning.add(task)
            task.add_done_callback(self._returning.discard)

    async def _bring_back(self, line: _Line, stored: _Stored, back: Return) -> None:
        await self.clock.sleep(back.after_s)
        if stored in line.ready and back.queue in self._lines:
            line.ready.remove(stored)
            death = {"x-death": [{"queue": line.queue.name, "reason": "expired", "count": 1}]}
            message = replace(stored.message, exchange="", routing_key=back.queue)
            self._store(self._lines[back.queue], replace(message, headers={**message.headers, **death}))

    def _bound(self, message: Message) -> list[_Line]:
        if not message.exchange:
            return [self._lines[message.routing_key]] if message.routing_key in self._lines else []
        return [
            line
            for line in (*self._lines.values(), *self._own)
            if any(
                binding.exchange.name == message.exchange and matches(binding.pattern, message.routing_key)
                for binding in line.queue.bindings
            )
        ]

    @asynccontextmanager
    async def subscribe(self, queue: Queue, *, prefetch: int) -> AsyncIterator["MemorySubscription"]:
        """Consume a queue that was declared, or a private one."""
        self._check()
        line = _Line(queue) if queue.exclusive else self._lines[queue.name]
        if queue.exclusive:
            self._own.append(line)
        subscription = MemorySubscription(self, line, prefetch)
        line.consumers += 1
        try:
            yield subscription
        finally:
            line.consumers -= 1
            subscription.lose()
            if queue.exclusive:
                self._own.remove(line)

    @property
    def trouble(self) -> str | None:
        """Why a publish has no chance right now."""
        return None if self.connected else "not connected"

    async def look(self, queues: Sequence[Queue]) -> Sequence[Depth]:
        """How deep some queues are; raises BrokerUnavailable."""
        self._check()
        lines = [self._lines[queue.name] for queue in queues]
        return [Depth(len(line.ready), line.consumers) for line in lines]

    async def waiting(self, queue: Queue) -> int:
        """How many messages of a queue are ready."""
        self._check()
        return self.depth(queue.name)

    async def browse(self, queue: Queue, limit: int) -> Sequence[Message]:
        """Up to so many messages of a queue, oldest first; they stay there."""
        self._check()
        return [stored.message for stored in islice(self._lines[queue.name].ready, limit)]

    async def remove(self, queue: Queue, limit: int, unwanted: Callable[[Message], bool]) -> int:
        """Look at up to so many messages of a queue, and delete those that are unwanted; returns how many."""
        self._check()
        ready = self._lines[queue.name].ready
        found = [stored for stored in islice(ready, limit) if unwanted(stored.message)]
        for stored in found:
            ready.remove(stored)
        return len(found)

    async def purge(self, queue: Queue) -> int:
        """Delete what is ready in a queue; returns how many that were."""
        count = await self.waiting(queue)
        self._lines[queue.name].ready.clear()
        return count

    def _check(self) -> None:
        if not self.connected:
            raise BrokerUnavailable("the broker is not connected")

    def depth(self, queue: str) -> int:
        """Messages of a queue that are ready."""
        return len(self._lines[queue].ready)

    def peek(self, queue: str) -> list[Message]:
        """Messages of a queue that are ready, oldest first, left where they are."""
        return [stored.message for stored in self._lines[queue].ready]

    def dead_letter(self, line: _Line, stored: _Stored) -> None:
        """Move a message to the dead letters of its queue."""
        key = line.queue.side_of or line.queue.name
        message = replace(stored.message, exchange=DEAD.name, routing_key=key)
        for target in self._bound(message):
            target.push(_Stored(message))

    def next_tag(self) -> int:
        """A delivery tag."""
        return next(self._tags)

    @property
    def delivery_limit(self) -> int:
        """Redeliveries before a message is dead-lettered."""
        return self._delivery_limit


class MemorySubscription:
    """Deliveries of one queue."""

    def __init__(self, broker: MemoryBroker, line: _Line, prefetch: int) -> None:
        self._broker = broker
        self._line = line
        self._prefetch = prefetch
        self._unacked: dict[int, _Stored] = {}
        self._settled = asyncio.Event()
        self._closed = False

    @property
    def lost(self) -> bool:
        """Whether the broker was disconnected by a test."""
        return not self._broker.connected

    @property
    def here(self) -> int:
        """Deliveries that nobody took yet, as far as the prefetch goes."""
        return 0 if self._closed else min(len(self._line.ready), self._prefetch - len(self._unacked))

    async def take(self, limit: int) -> Sequence[Delivery]:
        """Wait for at least one delivery; empty once closed."""
        while True:
            taken = self.take_nowait(limit)
            if taken or self._closed:
                return taken
            full = len(self._unacked) >= self._prefetch
            signal = self._settled if full else self._line.arrived
            signal.clear()
            if not full and self._line.ready:
                continue
            await signal.wait()

    def take_nowait(self, limit: int) -> Sequence[Delivery]:
        """What is here already."""
        taken: list[Delivery] = []
        while not self._closed and self._line.ready and len(taken) < limit and len(self._unacked) < self._prefetch:
            stored = self._line.ready.popleft()
            tag = self._broker.next_tag()
            self._unacked[tag] = stored
            taken.append(Delivery(stored.message, tag, stored.attempts))
        return taken

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """These are done."""
        for delivery in deliveries:
            self._unacked.pop(delivery.tag, None)
        self._settled.set()

    async def hand_back(self, deliveries: Sequence[Delivery], *, failed: bool = True) -> None:
        """Back to the front of the queue, or to the dead letters at the limit."""
        for delivery in reversed(deliveries):
            stored = self._unacked.pop(delivery.tag, None)
            if stored is None:
                continue
            stored.attempts += failed
            if stored.attempts > self._broker.delivery_limit and not self._line.queue.dead_letters:
                self._broker.dead_letter(self._line, stored)
            else:
                self._line.push(stored, front=True)
        self._settled.set()

    async def close(self) -> None:
        """Ask for no more."""
        self._closed = True
        self._settled.set()
        self._line.arrived.set()

    def lose(self) -> None:
        """What a consumer that vanished held comes back, in order."""
        self._closed = True
        for stored in reversed(self._unacked.values()):
            stored.attempts += 1
            self._line.push(stored, front=True)
        self._unacked.clear()

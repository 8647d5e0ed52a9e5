"""How a consumer of a fair queue takes from it and its side queues, and does what is whose turn.

It holds more than it works on, so as to see who waits. While that is enough to see the end of the queue, nothing is
moved. When all it may hold is held, those who have many there are set aside: their deliveries go to the side queue of
their priority and tenant, and what stands behind them comes into view. The side queues are taken from all the time.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shared import envelope
from shared.broker import Delivery, Message, Subscription
from shared.events import DEFAULT_TENANT
from shared.topology import SIDES
from shared.turns import BULK, INTERACTIVE, Turns

LEAST_WINDOW: Final = 16
MOST_WINDOW: Final = 100
# Deliveries in the window that one tenant may have before it is set aside, as a share of it.
MANY: Final = 1 / 8

Process = Callable[[Subscription, Delivery], Awaitable[None]]
SetAside = Callable[[Subscription, Delivery, str, str], Awaitable[None]]


def window_of(concurrency: int) -> int:
    """Deliveries that are held beside those that are worked on; few, for what one holds the others can't have."""
    return min(max(LEAST_WINDOW, 2 * concurrency), MOST_WINDOW)


@dataclass(frozen=True, slots=True)
class _Held:
    subscription: Subscription
    delivery: Delivery
    fresh: bool


class Fairness:
    """The deliveries of one fair queue at one consumer, for as long as a connection lasts."""

    def __init__(self, *, concurrency: int, process: Process, set_aside: SetAside, stopping: asyncio.Event) -> None:
        """``process`` settles a delivery, and ``set_aside`` moves it to the side queue of a priority and tenant."""
        self._concurrency = concurrency
        self._window = window_of(concurrency)
        self._process = process
        self._set_aside = set_aside
        self._stopping = stopping
        self._turns: Turns[_Held] = Turns()
        self._running = 0
        self._fresh = 0
        self._tasks = asyncio.TaskGroup()

    @property
    def prefetch(self) -> int:
        """Deliveries of the queue that this consumer may hold."""
        return self._concurrency + self._window

    @property
    def waiting(self) -> int:
        """Deliveries that are held and were not begun with."""
        return len(self._turns)

    async def run(
        self, queue: Subscription, sides: Sequence[Subscription]
    ) -> Mapping[Subscription, Sequence[Delivery]]:
        """Work until the subscriptions are closed and all that was begun is settled; returns what was not begun.

        Raises:
            BrokerUnavailable: the connection is gone; within a group.
        """
        async with self._tasks:
            readers = [self._tasks.create_task(self._read(queue, fresh=True))]
            readers += [self._tasks.create_task(self._read(side, fresh=False)) for side in sides]
            await asyncio.wait(readers)
        left = defaultdict(list)
        for held in self._turns.drain():
            left[held.subscription].append(held.delivery)
        return left

    async def _read(self, subscription: Subscription, *, fresh: bool) -> None:
        while deliveries := await subscription.take(self._window):
            for delivery in deliveries:
                # What comes again is older than what is there, and how often it came must not be forgotten.
                priority, tenant = whose(delivery.message)
                aside = not fresh or delivery.attempts > 0
                self._turns.add(_Held(subscription, delivery, fresh), priority, tenant, aside=aside)
                self._fresh += fresh
            self._go_on()

    def _go_on(self) -> None:
        if self._stopping.is_set():
            return
        while self._running < self._concurrency and (held := self._turns.next()) is not None:
            self._running += 1
            self._tasks.create_task(self._work(held))
        if self._fresh >= self.prefetch:
            for held, priority, tenant in self._turns.excess(int(self._window * MANY)):
                self._tasks.create_task(self._move(held, priority, tenant))

    async def _work(self, held: _Held) -> None:
        await self._process(held.subscription, held.delivery)
        self._running -= 1
        self._fresh -= held.fresh
        self._go_on()

    async def _move(self, held: _Held, priority: str, tenant: str) -> None:
        await self._set_aside(held.subscription, held.delivery, priority, tenant)
        self._fresh -= 1


def whose(message: Message) -> tuple[str, str]:
    """The priority and the tenant of a request, by the attributes of its message; others may leave these out."""
    priority = envelope.attribute(message, envelope.PRIORITY)
    if priority is None or priority not in SIDES:
        priority = BULK if message.routing_key.endswith(f".{BULK}") else INTERACTIVE
    return priority, envelope.attribute(message, "tenant") or DEFAULT_TENANT

"""The runner of batches: once per tick, everything that has arrived, each with an outcome of its own."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from shared.consumer import CODE_HEADER, REASON_HEADER, Again, BatchConsumer, Dead, Done, Outcome, Parked
from shared.database import DatabaseUnavailable
from shared.errors import BrokerUnavailable
from shared.events import Event
from shared.topology import ACCEPTED, PARKED_S, RECORDS, Queue
from tests.support import make
from tests.support.broker import WatchedBroker
from tests.support.clock import ManualClock, settled

TICK_S = 0.5
Batch = Sequence[tuple[Queue, Event]]


class Handler:
    """Keeps the batches; does what a test scripted, then is done with everything."""

    def __init__(self, *script: Exception | Callable[[Batch], Sequence[Outcome]]) -> None:
        self.script = list(script)
        self.batches: list[Batch] = []

    async def __call__(self, batch: Batch) -> Sequence[Outcome]:
        self.batches.append(batch)
        step = self.script.pop(0) if self.script else lambda given: [Done()] * len(given)
        if isinstance(step, Exception):
            raise step
        return step(batch)

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.batches]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def broker() -> WatchedBroker:
    return await WatchedBroker.ready()


def consumer(
    broker: WatchedBroker,
    handler: Handler,
    clock: ManualClock,
    limits: Mapping[Queue, int] | None = None,
    tick_bytes: int = 1_000_000,
    rest_s: float = 0.0,
) -> BatchConsumer:
    return BatchConsumer(
        broker,
        limits or {RECORDS: 100},
        handler,
        source="test",
        tick_s=TICK_S,
        rest_s=rest_s,
        tick_bytes=tick_bytes,
        prefetch=50,
        clock=clock,
    )


@asynccontextmanager
async def running(subject: BatchConsumer) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(subject.run())
    try:
        yield task
    finally:
        await subject.stop()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def arrive(broker: WatchedBroker, *events: Event) -> list[str | None]:
    """Put events into their queues and return the ids of their messages."""
    messages = [make.message(event) for event in events]
    await broker.publish(messages)
    broker.published.clear()
    broker.log.clear()
    return [message.message_id for message in messages]


def events(number: int) -> list[Event]:
    return [make.completed(source="cache") for _ in range(number)]


async def test_all_that_arrived_within_a_tick_makes_one_batch(broker: WatchedBroker, clock: ManualClock) -> None:
    handler = Handler()
    async with running(consumer(broker, handler, clock)):
        await settled()
        ids = await arrive(broker, *events(7))
        await clock.advance(TICK_S)
        assert handler.sizes == [7]
    assert broker.acknowledged() == ids


async def test_the_handler_is_called_once_per_tick_however_much_arrives(
    broker: WatchedBroker, clock: ManualClock
) -> None:
    handler = Handler()
    await arrive(broker, *events(95))
    async with running(consumer(broker, handler, clock, {RECORDS: 10})):
        for ticks in range(1, 6):
            await settled()
            assert handler.sizes == [10] * ticks
            await clock.advance(TICK_S)


async def test_each_queue_has_its_own_limit_within_a_tick(broker: WatchedBroker, clock: ManualClock) -> None:
    handler = Handler()
    await arrive(broker, *(make.accepted() for _ in range(9)))
    async with running(consumer(broker, handler, clock, {RECORDS: 4, ACCEPTED: 2})):
        await settled()
        queues = [queue.name for queue, _ in handler.batches[0]]
        assert queues == [RECORDS.name] * 4 + [ACCEPTED.name] * 2


async def test_large_messages_make_small_batches(broker: WatchedBroker, clock: ManualClock) -> None:
    handler = Handler()
    sizes = (1_000, 30_000, 30_000, 30_000, 200_000, 1_000, 1_000)
    ids = await arrive(broker, *(make.completed(source="cache", output_text="x" * size) for size in sizes))
    async with running(consumer(broker, handler, clock, tick_bytes=60_000)):
        await settled()
        for _ in range(3):
            await clock.advance(TICK_S)
        assert handler.sizes == [3, 2, 2]
    assert broker.acknowledged() == ids


REST_S = 4 * TICK_S


async def test_what_comes_after_a_rest_is_handled_at_the_next_tick(broker: WatchedBroker, clock: ManualClock) -> None:
    handler = Handler()
    async with running(consumer(broker, handler, clock, rest_s=REST_S)):
        await clock.advance(10 * REST_S)
        await arrive(broker, *events(1))
        await clock.advance(TICK_S)
        assert handler.sizes == [1]


async def test_what_comes_during_a_rest_waits_for_its_end(broker: WatchedBroker, clock: ManualClock) -> None:
    handler = Handler()
    await arrive(broker, *events(1))
    async with running(consumer(broker, handler, clock, rest_s=REST_S)):
        await settled()
        for _ in range(3):
            await arrive(broker, *events(2))
            await clock.advance(TICK_S)
        assert handler.sizes == [1]
        await clock.advance(TICK_S)
        assert handler.sizes == [1, 6]


async def test_a_full_batch_waits_for_no_rest(broker: WatchedBroker, clock: ManualClock) -> None:
    handler = Handler()
    await arrive(broker, *events(1))
    async with running(consumer(broker, handler, clock, {RECORDS: 10}, rest_s=REST_S)):
        await settled()
        await arrive(broker, *events(25))
        for _ in range(3):
            await clock.advance(TICK_S)
        assert handler.sizes == [1, 10, 10, 5]  # the third is what two full ones have left


async def test_of_large_messages_nothing_is_left_for_after_a_rest(broker: WatchedBroker, clock: ManualClock) -> None:
    handler = Handler()
    await arrive(broker, *(make.completed(source="cache", output_text="x" * 30_000) for _ in range(6)))
    async with running(consumer(broker, handler, clock, tick_bytes=60_000, rest_s=REST_S)):
        await settled()
        for _ in range(2):
            await clock.advance(TICK_S)
        assert handler.sizes == [2, 2, 2]


async def test_what_a_rest_keeps_waiting_is_handled_before_the_end(broker: WatchedBroker, clock: ManualClock) -> None:
    handler = Handler()
    await arrive(broker, *events(1))
    subject = consumer(broker, handler, clock, rest_s=REST_S)
    async with running(subject) as task:
        await settled()
        ids = await arrive(broker, *events(3))
        await subject.stop()
        await clock.advance(TICK_S)
        await task
    assert handler.sizes == [1, 3]
    assert broker.acknowledged() == ids


async def test_an_empty_tick_calls_nobody(broker: WatchedBroker, clock: ManualClock) -> None:
    handler = Handler()
    async with running(consumer(broker, handler, clock)):
        await clock.advance(10 * TICK_S)
    assert handler.batches == []


async def test_after_a_slow_tick_there_is_no_rush_to_catch_up(broker: WatchedBroker, clock: ManualClock) -> None:
    def slow(batch: Batch) -> Sequence[Outcome]:
        clock.skip(10 * TICK_S)
        return [Done()] * len(batch)

    handler = Handler(slow)
    await arrive(broker, *events(60))
    async with running(consumer(broker, handler, clock, {RECORDS: 10})):
        await settled()
        before = len(handler.batches)
        await clock.advance(2 * TICK_S)
        assert len(handler.batches) - before <= 2


async def test_one_that_is_parked_goes_alone_and_comes_back_in_a_later_batch(
    broker: WatchedBroker, clock: ManualClock
) -> None:
    handler = Handler(lambda _: [Done(), Parked(), Done()])
    broker.clock = clock
    await arrive(broker, *(make.accepted() for _ in range(3)))
    async with running(consumer(broker, handler, clock, {ACCEPTED: 10})):
        await settled()
        assert (len(broker.acknowledged()), broker.depth("cache.accepted.parked.2s")) == (3, 1)
        await clock.advance(PARKED_S + TICK_S)
    assert handler.sizes == [3, 1]
    assert handler.batches[1] == [handler.batches[0][1]]


async def test_one_of_a_queue_that_cannot_be_parked_is_handed_back_uncounted(
    broker: WatchedBroker, clock: ManualClock
) -> None:
    handler = Handler(*[lambda _: [Parked()]] * 10)
    ids = await arrive(broker, *events(1))
    async with running(consumer(broker, handler, clock)):
        await settled()
        assert broker.log == [("hand back", ids[0])]
        assert handler.sizes == [1]
        await clock.advance(10 * TICK_S)
    assert handler.sizes == [1] * 11
    assert broker.depth("persistence.records.dead") == 0


async def test_one_that_is_refused_is_buried_and_its_neighbours_are_acknowledged(
    broker: WatchedBroker, clock: ManualClock
) -> None:
    handler = Handler(lambda _: [Done(), Dead("unstorable", "a NUL"), Done()])
    ids = await arrive(broker, *events(3))
    async with running(consumer(broker, handler, clock)):
        await settled()
    assert sorted(broker.acknowledged(), key=str) == sorted(ids, key=str)
    (dead,) = broker.peek("persistence.records.dead")
    assert (dead.message_id, dead.headers[CODE_HEADER]) == (ids[1], "unstorable")
    assert dead.headers[REASON_HEADER] == "a NUL"


async def test_a_message_that_is_no_event_never_reaches_the_batch(broker: WatchedBroker, clock: ManualClock) -> None:
    handler = Handler()
    await broker.publish([make.message(make.failed(), body=b"nonsense")])
    await arrive(broker, *events(2))
    async with running(consumer(broker, handler, clock)):
        await settled()
    assert handler.sizes == [2]
    (dead,) = broker.peek("persistence.records.dead")
    assert dead.headers[CODE_HEADER] == "undecodable_message"


async def test_only_nonsense_calls_nobody(broker: WatchedBroker, clock: ManualClock) -> None:
    handler = Handler()
    await broker.publish([make.message(make.failed(), body=b"nonsense")])
    async with running(consumer(broker, handler, clock)):
        await clock.advance(TICK_S)
    assert handler.batches == []
    assert broker.depth("persistence.records.dead") == 1


@pytest.mark.parametrize("error", [DatabaseUnavailable("away"), ZeroDivisionError("a bug")])
async def test_a_batch_that_fails_waits_and_comes_again_as_it_was(
    broker: WatchedBroker, clock: ManualClock, error: Exception
) -> None:
    handler = Handler(*[error] * 5)
    ids = await arrive(broker, *events(3))
    async with running(consumer(broker, handler, clock)):
        await settled()
        assert handler.sizes == [3]
        assert broker.log == []
        await arrive(broker, *events(2))
        while len(handler.batches) < 6:
            await clock.advance(TICK_S)
        assert handler.sizes[:6] == [3] * 6
        assert handler.batches[5] == handler.batches[0]
        assert broker.acknowledged()[:3] == ids


async def test_what_follows_from_an_event_is_published_before_it_is_acknowledged(
    broker: WatchedBroker, clock: ManualClock
) -> None:
    handler = Handler(lambda _: [Done((make.failed(),))])
    (message_id,) = await arrive(broker, *events(1))
    async with running(consumer(broker, handler, clock)):
        await settled()
    assert broker.log[:2] == [("publish", "response.failed.rate_limited"), ("ack", message_id)]


async def test_one_that_must_wait_is_handed_back_alone(broker: WatchedBroker, clock: ManualClock) -> None:
    handler = Handler(lambda _: [Done(), Again(DatabaseUnavailable("away"))])
    ids = await arrive(broker, *events(2))
    async with running(consumer(broker, handler, clock)):
        await settled()
        assert broker.log == [("ack", ids[0]), ("hand back", ids[1])]
        await clock.advance(TICK_S)
    assert handler.sizes == [2, 1]


async def test_stopping_ends_after_the_tick_under_way(broker: WatchedBroker, clock: ManualClock) -> None:
    handler = Handler()
    ids = await arrive(broker, *events(15))
    subject = consumer(broker, handler, clock, {RECORDS: 10})
    async with running(subject) as task:
        await settled()
        await subject.stop()
        await clock.advance(TICK_S)
        await task
    assert handler.sizes == [10]
    assert broker.acknowledged() == ids[:10]
    assert [message.message_id for message in broker.peek(RECORDS.name)] == ids[10:]


async def test_stopping_while_the_database_is_away_gives_everything_back(
    broker: WatchedBroker, clock: ManualClock
) -> None:
    handler = Handler(*[DatabaseUnavailable("away")] * 100)
    ids = await arrive(broker, *events(3))
    subject = consumer(broker, handler, clock)
    async with running(subject) as task:
        await settled()
        await subject.stop()
        await clock.advance(10)
        await task
    assert broker.acknowledged() == []
    assert sorted((message.message_id for message in broker.peek(RECORDS.name)), key=str) == sorted(ids, key=str)


async def test_after_a_lost_connection_it_goes_on_with_what_was_not_acknowledged(
    broker: WatchedBroker, clock: ManualClock
) -> None:
    handler = Handler()
    async with running(consumer(broker, handler, clock)):
        await settled()
        await broker.lose_connection()
        await clock.advance(TICK_S)
        ids = await arrive(broker, *events(2))
        await clock.advance(20)
    assert handler.sizes == [2]
    assert broker.acknowledged() == ids


async def test_a_broker_that_is_away_is_waited_for(broker: WatchedBroker, clock: ManualClock) -> None:
    handler = Handler()
    await arrive(broker, *events(2))
    broker.connected = False
    async with running(consumer(broker, handler, clock)) as task:
        await clock.advance(20)
        assert not task.done()
        broker.connected = True
        await clock.advance(20)
    assert handler.sizes == [2]


async def test_a_dead_letter_that_cannot_be_published_keeps_its_message(
    broker: WatchedBroker, clock: ManualClock
) -> None:
    handler = Handler(lambda _: [Dead("unstorable", "x")])
    (message_id,) = await arrive(broker, *events(1))
    broker.failures = [BrokerUnavailable("no confirm")]
    async with running(consumer(broker, handler, clock)):
        await settled()
        assert broker.log == []
        await clock.advance(20)
        assert [what for act, what in broker.log if act == "ack"] == [message_id]

"""The runner: what becomes of a delivery, in which order, whatever fails."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from shared import envelope
from shared.broker import Message
from shared.clock import Clock
from shared.consumer import (
    CODE_HEADER,
    PARKED_HEADER,
    PAUSE_MAX_S,
    QUEUE_HEADER,
    REASON_HEADER,
    UNEXPECTED_TRIES,
    Consumer,
    pause_s,
    times_parked,
)
from shared.errors import BrokerUnavailable, ForebayError, Park, PublishRefused, Unpublishable, Unroutable
from shared.events import Event, ResponseCompleted
from shared.topology import ACCEPTED, MISSED, PARKED_S, TERMINAL_EVENTS, Queue
from tests.support import make
from tests.support.broker import WatchedBroker
from tests.support.clock import HurriedClock, ManualClock, settled

A_WHILE_S = 1000.0


class Away(ForebayError):
    """Something passing."""

    code = "away"
    retryable = True


class Never(ForebayError):
    """Something final."""

    code = "never"


class Handler:
    """Does what a test scripted, in order; at the end of the script, answers each request with its miss."""

    def __init__(self, *script: Exception | Sequence[Event]) -> None:
        self.script = list(script)
        self.seen: list[Event] = []

    async def __call__(self, event: Event) -> Sequence[Event]:
        self.seen.append(event)
        if not self.script:
            return (make.missed(getattr(event, "request", None)),)
        step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        return step


def consumer(
    broker: WatchedBroker,
    handler: Callable[[Any], Awaitable[Sequence[Event]]],
    *,
    queue: Queue = ACCEPTED,
    clock: Clock,
    concurrency: int = 10,
    subscribed: Callable[[], None] | None = None,
) -> Consumer[Event]:
    return Consumer(
        broker,
        queue,
        handler,
        source="test",
        decode=envelope.decode,
        concurrency=concurrency,
        subscribed=subscribed,
        clock=clock,
    )


@asynccontextmanager
async def running(subject: Consumer[Event]) -> AsyncIterator["asyncio.Task[None]"]:
    """The consumer at work while the block runs; it is stopped, or killed if it does not stop."""
    task = asyncio.create_task(subject.run())
    try:
        yield task
    finally:
        await subject.stop()
        await settled()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def broker(clock: ManualClock) -> WatchedBroker:
    broker = await WatchedBroker.ready()
    broker.clock = clock
    return broker


async def arrive(broker: WatchedBroker, *events: Event) -> list[Message]:
    """Put events into their queues; what is published after this is the consumer's doing."""
    messages = [make.message(event) for event in events]
    await broker.publish(messages)
    broker.published.clear()
    broker.log.clear()
    return messages


async def test_what_follows_is_published_before_the_delivery_is_acknowledged(
    broker: WatchedBroker, clock: ManualClock
) -> None:
    (message,) = await arrive(broker, make.accepted())
    async with running(consumer(broker, Handler(), clock=clock)):
        await settled()
    assert broker.log == [("publish", "request.missed"), ("ack", message.message_id)]


async def test_a_handler_that_returns_nothing_is_done(broker: WatchedBroker, clock: ManualClock) -> None:
    (message,) = await arrive(broker, make.accepted())
    async with running(consumer(broker, Handler(()), clock=clock)):
        await settled()
    assert broker.log == [("ack", message.message_id)]


@pytest.mark.parametrize("error", [BrokerUnavailable("no confirm"), PublishRefused("full")])
async def test_nothing_is_acknowledged_while_publishing_fails_and_the_work_is_not_done_twice(
    broker: WatchedBroker, clock: ManualClock, error: Exception
) -> None:
    (message,) = await arrive(broker, make.accepted())
    broker.failures = [error] * 20
    handler = Handler()
    async with running(consumer(broker, handler, clock=clock)):
        await settled()
        assert broker.log == []
        await clock.advance(A_WHILE_S)
    assert broker.log == [("publish", "request.missed"), ("ack", message.message_id)]
    assert len(handler.seen) == 1
    assert broker.tried[-21:] == [broker.tried[-1]] * 21, "a confirm may still come for the first of them"


async def test_stopping_while_publishing_fails_hands_the_message_back_uncounted(
    broker: WatchedBroker, clock: ManualClock
) -> None:
    (message,) = await arrive(broker, make.accepted())
    broker.failures = [BrokerUnavailable("no confirm")] * 100
    subject = consumer(broker, Handler(), clock=clock)
    async with running(subject) as task:
        await settled()
        await subject.stop()
        await clock.advance(PAUSE_MAX_S)
        await task
    assert broker.log == [("hand back", message.message_id)]
    async with broker.subscribe(ACCEPTED, prefetch=1) as again:
        (delivery,) = await again.take(1)
        assert delivery.attempts == 0


async def test_a_connection_lost_while_publishing_fails_brings_the_message_again(
    broker: WatchedBroker, clock: ManualClock
) -> None:
    (message,) = await arrive(broker, make.accepted())
    broker.failures = [BrokerUnavailable("no confirm")]
    handler = Handler()
    async with running(consumer(broker, handler, clock=clock)):
        await settled()
        await broker.lose_connection()
        await clock.advance(A_WHILE_S)
    assert len(handler.seen) == 2
    assert broker.acknowledged() == [message.message_id]


async def test_an_event_that_no_queue_takes_is_not_tried_in_a_hot_loop(
    broker: WatchedBroker, clock: ManualClock
) -> None:
    await arrive(broker, make.accepted())
    broker.failures = [Unroutable("nobody")] * 100
    handler = Handler()
    async with running(consumer(broker, handler, clock=clock)):
        await settled()
        assert len(handler.seen) == 1
        await clock.advance(PAUSE_MAX_S)
        assert len(handler.seen) == 2
        assert broker.acknowledged() == []
        await clock.advance(A_WHILE_S)
    assert broker.depth("cache.accepted.dead") == 1


async def test_a_handler_that_lacks_something_is_asked_again_and_keeps_its_delivery(
    broker: WatchedBroker, clock: ManualClock
) -> None:
    (message,) = await arrive(broker, make.accepted())
    handler = Handler(*[Away("not now")] * 8)
    async with running(consumer(broker, handler, clock=clock)):
        await settled()
        assert len(handler.seen) == 1
        assert broker.log == []
        await clock.advance(A_WHILE_S)
    assert len(handler.seen) == 9
    assert broker.log == [("publish", "request.missed"), ("ack", message.message_id)]


async def test_one_that_waits_does_not_hold_up_the_others(broker: WatchedBroker, clock: ManualClock) -> None:
    messages = await arrive(broker, make.accepted(), make.accepted())
    async with running(consumer(broker, Handler(Away("not now")), clock=clock)):
        await settled()
        assert broker.acknowledged() == [messages[1].message_id]


async def test_what_will_never_work_goes_to_the_dead_letters_with_its_reason(
    broker: WatchedBroker, clock: ManualClock
) -> None:
    (message,) = await arrive(broker, make.accepted())
    handler = Handler(Never("the answer is no"))
    async with running(consumer(broker, handler, clock=clock)):
        await settled()
    (dead,) = broker.peek("cache.accepted.dead")
    assert len(handler.seen) == 1
    assert dead.body == message.body
    assert dead.headers[CODE_HEADER] == "never"
    assert dead.headers[REASON_HEADER] == "the answer is no"
    assert dead.headers[QUEUE_HEADER] == "cache.accepted"
    assert envelope.decode(dead) == envelope.decode(message)
    assert broker.log == [("publish", "cache.accepted"), ("ack", message.message_id)]


async def test_a_dead_letter_is_not_acknowledged_before_it_is_kept(broker: WatchedBroker, clock: ManualClock) -> None:
    await arrive(broker, make.accepted())
    broker.failures = [BrokerUnavailable("no confirm")]
    async with running(consumer(broker, Handler(Never("no")), clock=clock)):
        await settled()
        assert broker.acknowledged() == []
        await clock.advance(A_WHILE_S)
    assert [act for act, _ in broker.log] == ["publish", "ack"]
    assert broker.depth("cache.accepted.dead") == 1


async def test_headers_that_cannot_be_written_again_do_not_keep_a_message_from_its_grave(
    broker: WatchedBroker, clock: ManualClock
) -> None:
    message = make.message(make.accepted())
    headers = {**message.headers, "x-death": [{"count": 1}], "price": Decimal("1.5"), "flag": True, "n": 3}
    await broker.publish([make.message(make.accepted(), headers=headers)])
    async with running(consumer(broker, Handler(Never("no")), clock=clock)):
        await settled()
    (dead,) = broker.peek("cache.accepted.dead")
    assert {name: dead.headers[name] for name in ("price", "flag", "n")} == {
        "price": "Decimal('1.5')",
        "flag": True,
        "n": 3,
    }
    assert "x-death" not in dead.headers
    assert envelope.attribute(dead, "subject") == envelope.attribute(message, "subject")


async def test_a_very_long_reason_is_cut(broker: WatchedBroker, clock: ManualClock) -> None:
    await arrive(broker, make.accepted())
    async with running(consumer(broker, Handler(Never("x" * 100_000)), clock=clock)):
        await settled()
    (dead,) = broker.peek("cache.accepted.dead")
    assert len(str(dead.headers[REASON_HEADER])) <= 2000


async def test_a_parked_delivery_is_acknowledged_once_its_copy_is_kept_and_comes_back(
    broker: WatchedBroker, clock: ManualClock
) -> None:
    (message,) = await arrive(broker, make.accepted())
    handler = Handler(Park("the line is long"))
    async with running(consumer(broker, handler, clock=clock)):
        await settled()
        assert broker.log == [("publish", "cache.accepted.parked.2s"), ("ack", message.message_id)]
        await clock.advance(PARKED_S * 0.99)
        assert len(handler.seen) == 1
        await clock.advance(PARKED_S * 0.01)
    assert handler.seen == [envelope.decode(message)] * 2
    assert broker.log[2:] == [("publish", "request.missed"), ("ack", message.message_id)]
    assert broker.depth("cache.accepted.parked.2s") == broker.depth("cache.accepted") == 0


async def test_a_parked_delivery_makes_room_for_the_next(broker: WatchedBroker, clock: ManualClock) -> None:
    messages = await arrive(broker, *(make.accepted() for _ in range(3)))
    handler = Handler(Park("later"), Park("later"))
    async with running(consumer(broker, handler, clock=clock, concurrency=1)):
        await settled()
        assert broker.keys() == ["cache.accepted.parked.2s"] * 2 + ["request.missed"]
        assert broker.acknowledged() == [message.message_id for message in messages]


async def test_a_handler_can_know_how_often_its_message_was_parked(broker: WatchedBroker, clock: ManualClock) -> None:
    await arrive(broker, make.accepted())
    seen: list[int] = []

    async def handler(times: int) -> Sequence[Event]:
        seen.append(times)
        if times < 3:
            raise Park("later")
        return ()

    subject = Consumer(broker, ACCEPTED, handler, source="test", decode=times_parked, concurrency=1, clock=clock)
    async with running(subject):  # type: ignore[arg-type]  # it runs numbers instead of events
        await clock.advance(A_WHILE_S)
    assert seen == [0, 1, 2, 3]


@pytest.mark.parametrize("count", ["many", None, 1.5, [1]])
async def test_a_count_that_is_no_number_is_none(broker: WatchedBroker, count: object) -> None:
    assert times_parked(make.message(make.accepted(), headers={PARKED_HEADER: count})) == 0


@pytest.mark.parametrize("error", [BrokerUnavailable("no confirm"), PublishRefused("full")])
async def test_a_delivery_is_held_while_it_cannot_be_parked_and_parking_is_tried_again(
    broker: WatchedBroker, clock: ManualClock, error: Exception
) -> None:
    (message,) = await arrive(broker, make.accepted())
    broker.failures = [error] * 3
    handler = Handler(Park("later"))
    async with running(consumer(broker, handler, clock=clock)):
        await settled()
        assert broker.log == []
        while broker.failures:
            await clock.advance(PAUSE_MAX_S)
        assert broker.log[:2] == [("publish", "cache.accepted.parked.2s"), ("ack", message.message_id)]
        await clock.advance(PAUSE_MAX_S + PARKED_S)
    assert len(handler.seen) == 2
    assert broker.keys() == ["cache.accepted.parked.2s", "request.missed"]


async def test_stopping_while_it_cannot_be_parked_hands_it_back_uncounted(
    broker: WatchedBroker, clock: ManualClock
) -> None:
    (message,) = await arrive(broker, make.accepted())
    broker.failures = [PublishRefused("full")] * 100
    subject = consumer(broker, Handler(Park("later")), clock=clock)
    async with running(subject) as task:
        await settled()
        await subject.stop()
        await clock.advance(PAUSE_MAX_S)
        await task
    assert broker.log == [("hand back", message.message_id)]


async def test_what_cannot_be_written_again_is_buried_instead_of_parked(
    broker: WatchedBroker, clock: ManualClock
) -> None:
    await arrive(broker, make.accepted())
    broker.failures = [Unpublishable("a count beyond all counting")]
    async with running(consumer(broker, Handler(Park("later")), clock=clock)):
        await settled()
    (dead,) = broker.peek("cache.accepted.dead")
    assert dead.headers[CODE_HEADER] == "unpublishable"


async def test_on_a_queue_that_cannot_be_parked_the_delivery_is_held_and_the_handler_asked_again(
    broker: WatchedBroker, clock: ManualClock
) -> None:
    (message,) = await arrive(broker, make.missed())
    handler = Handler(Park("later"), Park("later"), ())
    async with running(consumer(broker, handler, queue=MISSED, clock=clock)):
        await settled()
        assert len(handler.seen) == 1
        await clock.advance(A_WHILE_S)
    assert len(handler.seen) == 3
    assert broker.log == [("ack", message.message_id)]


async def test_parking_is_an_outcome_of_its_own_in_the_metrics(broker: WatchedBroker, clock: ManualClock) -> None:
    def parked() -> float:
        labels = {"queue": "cache.accepted", "outcome": "parked"}
        return REGISTRY.get_sample_value("forebay_messages_consumed_total", labels) or 0

    before = parked()
    await arrive(broker, make.accepted())
    async with running(consumer(broker, Handler(Park("later")), clock=clock)):
        await settled()
    assert parked() == before + 1


async def test_an_unknown_failure_is_tried_three_times_and_then_buried(
    broker: WatchedBroker, clock: ManualClock
) -> None:
    await arrive(broker, make.accepted())
    handler = Handler(*[ZeroDivisionError("oops")] * 10)
    async with running(consumer(broker, handler, clock=clock)):
        await clock.advance(A_WHILE_S)
    (dead,) = broker.peek("cache.accepted.dead")
    assert len(handler.seen) == UNEXPECTED_TRIES == 3
    assert dead.headers[CODE_HEADER] == "internal_error"
    assert "oops" in str(dead.headers[REASON_HEADER])


async def test_an_unknown_failure_that_passes_harms_nothing(broker: WatchedBroker, clock: ManualClock) -> None:
    await arrive(broker, make.accepted())
    async with running(consumer(broker, Handler(ZeroDivisionError("oops")), clock=clock)):
        await clock.advance(A_WHILE_S)
    assert broker.keys() == ["request.missed"]


async def test_a_message_that_is_no_event_is_buried_and_its_neighbours_are_handled(
    broker: WatchedBroker, clock: ManualClock
) -> None:
    await broker.publish([make.message(make.accepted(), body=b"\xff\x00 nonsense")])
    messages = await arrive(broker, make.accepted())
    handler = Handler()
    async with running(consumer(broker, handler, clock=clock)):
        await settled()
    (dead,) = broker.peek("cache.accepted.dead")
    assert dead.headers[CODE_HEADER] == "undecodable_message"
    assert dead.body == b"\xff\x00 nonsense"
    assert len(handler.seen) == 1
    assert messages[0].message_id in broker.acknowledged()


async def test_stopping_finishes_what_was_taken_and_leaves_the_rest(broker: WatchedBroker, clock: ManualClock) -> None:
    messages = await arrive(broker, *(make.accepted() for _ in range(5)))
    gate = asyncio.Event()

    async def handler(event: Any) -> Sequence[Event]:
        await gate.wait()
        return (make.missed(event.request),)

    subject = consumer(broker, handler, clock=clock, concurrency=2)
    async with running(subject) as task:
        await settled()
        await subject.stop()
        await settled()
        assert not task.done()
        gate.set()
        await task
    assert sorted(broker.acknowledged(), key=str) == sorted((m.message_id for m in messages[:2]), key=str)
    assert [m.message_id for m in broker.peek("cache.accepted")] == [m.message_id for m in messages[2:]]


async def test_stopping_hands_back_what_waits_for_something_that_is_away(
    broker: WatchedBroker, clock: ManualClock
) -> None:
    (message,) = await arrive(broker, make.accepted())
    subject = consumer(broker, Handler(*[Away("not now")] * 100), clock=clock)
    async with running(subject) as task:
        await settled()
        await subject.stop()
        await clock.advance(PAUSE_MAX_S)
        await task
    assert broker.log == [("hand back", message.message_id)]
    assert broker.depth("cache.accepted") == 1


async def test_stopping_before_it_begins_ends_it(broker: WatchedBroker, clock: ManualClock) -> None:
    await arrive(broker, make.accepted())
    subject = consumer(broker, Handler(), clock=clock)
    await subject.stop()
    await subject.run()
    assert broker.depth("cache.accepted") == 1


async def test_after_a_lost_connection_what_was_not_acknowledged_comes_again(
    broker: WatchedBroker, clock: ManualClock
) -> None:
    (message,) = await arrive(broker, make.accepted())
    begun: list[str] = []

    async def handler(event: Any) -> Sequence[Event]:
        begun.append(event.request.prompt)
        if len(begun) == 1:
            await asyncio.Event().wait()
        return (make.missed(event.request),)

    async with running(consumer(broker, handler, clock=clock)):
        await settled()
        await broker.lose_connection()
        await clock.advance(A_WHILE_S)
    assert len(begun) == 2
    assert broker.log == [("publish", "request.missed"), ("ack", message.message_id)]


async def test_it_is_said_each_time_that_deliveries_begin_anew(broker: WatchedBroker, clock: ManualClock) -> None:
    told: list[str] = []

    async def handler(event: Any) -> Sequence[Event]:
        told.append(event.request.prompt)
        return ()

    await arrive(broker, make.accepted(make.request("first")))
    subject = consumer(broker, handler, clock=clock, subscribed=lambda: told.append("subscribed"))
    async with running(subject):
        await settled()
        await broker.lose_connection()
        await clock.advance(A_WHILE_S)
        await broker.publish([make.message(make.accepted(make.request("second")))])
        await settled()
    assert told == ["subscribed", "first", "subscribed", "second"]


async def test_a_broker_that_is_away_at_first_is_waited_for(broker: WatchedBroker, clock: ManualClock) -> None:
    await arrive(broker, make.accepted())
    broker.connected = False
    async with running(consumer(broker, Handler(), clock=clock)) as task:
        await clock.advance(A_WHILE_S)
        assert not task.done()
        broker.connected = True
        await clock.advance(A_WHILE_S)
    assert broker.keys() == ["request.missed"]
    assert max(clock.slept) <= PAUSE_MAX_S


async def test_no_more_are_under_way_than_allowed(broker: WatchedBroker, clock: ManualClock) -> None:
    await arrive(broker, *(make.accepted() for _ in range(9)))
    handler = Handler(*[Away("not now")] * 100)
    async with running(consumer(broker, handler, clock=clock, concurrency=4)):
        await settled()
        assert len(handler.seen) == 4


async def test_what_a_handler_publishes_carries_on_the_trace(broker: WatchedBroker, clock: ManualClock) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    message = make.message(make.accepted())
    traced = make.message(
        make.accepted(), headers={**message.headers, "traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    )
    await broker.publish([traced])
    broker.published.clear()
    async with running(consumer(broker, Handler(), clock=clock)):
        await settled()
    assert trace in str(broker.published[0].headers["traceparent"])


@given(st.integers(0, 10_000))
def test_a_pause_is_short_at_first_and_never_long(attempt: int) -> None:
    assert 0 <= pause_s(attempt) <= min(PAUSE_MAX_S, 0.1 * 2 ** min(attempt, 10))


async def test_a_poison_message_in_a_private_queue_is_given_up(broker: WatchedBroker) -> None:
    clock = HurriedClock()
    async with running(consumer(broker, Handler(), queue=TERMINAL_EVENTS, clock=clock)):
        await settled()
        await broker.publish([make.message(make.completed(), body=b"nonsense")])
        broker.log.clear()
        await settled()
    assert [act for act, _ in broker.log if act == "hand back"] == []
    assert len(broker.acknowledged()) == 1


async def test_an_event_that_cannot_be_encoded_harms_only_its_own_message(
    broker: WatchedBroker, clock: ManualClock
) -> None:
    await arrive(broker, make.accepted(), make.accepted())
    broken = ResponseCompleted.model_construct(**dict(make.completed()) | {"output_text": "\ud800"})
    async with running(consumer(broker, Handler((broken,)), clock=clock, concurrency=1)) as task:
        await clock.advance(A_WHILE_S)
        assert not task.done()
    assert broker.depth("cache.accepted.dead") == 1
    assert broker.keys().count("request.missed") == 1

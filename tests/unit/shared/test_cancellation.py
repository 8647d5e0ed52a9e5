"""What is needed no more is spared."""

from collections.abc import Sequence

import pytest

from shared.cancellation import Cancellations
from shared.events import Event, RequestAccepted, RequestCancelled, RequestEvent, RequestRouted, ResponseFailed
from tests.support import make
from tests.support.clock import START, ManualClock
from tests.support.sample import sample


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def cancelled(clock: ManualClock) -> Cancellations:
    return Cancellations(clock, keep_s=60, most=3)


async def cancel(cancelled: Cancellations, event: RequestEvent) -> None:
    assert await cancelled.heard(sample(RequestCancelled, request_id=event.request.id)) == ()


async def test_a_request_that_is_needed_is_handled(cancelled: Cancellations) -> None:
    async def handler(event: RequestAccepted) -> Sequence[Event]:
        return (make.missed(event.request),)

    event = make.accepted()
    await cancelled.heard(make.completed(event.request))
    assert await cancelled.before(handler)(event) == (make.missed(event.request),)


@pytest.mark.parametrize(
    "event",
    [make.accepted(), make.missed(), make.routed(make.request(replay=2))],
    ids=lambda event: type(event).__name__,
)
async def test_one_that_is_not_ends_before_anything_is_done_about_it(
    cancelled: Cancellations, event: RequestEvent
) -> None:
    async def handler(event: RequestEvent) -> Sequence[Event]:
        raise AssertionError(f"{event} was handled")

    await cancel(cancelled, event)
    assert cancelled(event.request.id)
    (ended,) = await cancelled.before(handler)(event)
    assert isinstance(ended, ResponseFailed)
    assert ended.routing_key == "response.failed.cancelled"
    assert (ended.request_id, ended.tenant, ended.replay) == (event.request.id, "acme", event.request.replay)
    assert (ended.attempts, ended.failed_at, ended.prompt_at_fault) == (0, START, False)
    assert ended.exact == (None if isinstance(event, RequestAccepted) else make.key().exact)
    assert ended.tier == ("light" if isinstance(event, RequestRouted) else None)


async def test_calls_that_were_made_are_told(cancelled: Cancellations) -> None:
    assert cancelled.end(make.routed(), attempts=2).attempts == 2


async def test_it_is_remembered_for_a_while(cancelled: Cancellations, clock: ManualClock) -> None:
    first, second = make.accepted(), make.accepted()
    await cancel(cancelled, first)
    clock.skip(59)
    await cancel(cancelled, second)
    assert cancelled(first.request.id)
    clock.skip(1)
    assert not cancelled(first.request.id)
    assert cancelled(second.request.id)
    await cancel(cancelled, second)
    assert list(cancelled._until) == [second.request.id]


async def test_memory_is_bounded_and_the_oldest_go(cancelled: Cancellations) -> None:
    events = [make.accepted() for _ in range(5)]
    for event in (*events, events[2]):
        await cancel(cancelled, event)
    assert [cancelled(event.request.id) for event in events] == [False, False, True, True, True]

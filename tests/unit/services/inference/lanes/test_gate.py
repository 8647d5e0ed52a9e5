"""One lane as one replica sees it: who waits for what, who is cancelled where, and what is said to the others."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from services.inference.errors import ProviderAuth, ProviderError, ProviderFault, ProviderRefused, RateLimited
from services.inference.lanes.gate import LISTEN_S, SPREAD, WRONG_KEY_S, Busy, Gate
from services.inference.lanes.said import Allowance, Said
from shared.events import Counted, LaneThrottled
from shared.policy.tiers import Lane
from tests.support import make
from tests.support.clock import ManualClock, settled

ME, OTHER = UUID(int=1), UUID(int=2)


class Alone:
    """A gate, its clock, and what it says."""

    def __init__(self, **lane: Any) -> None:
        self.clock = ManualClock()
        self.said: list[LaneThrottled] = []
        self.gate = Gate(Lane(name="x", model="y", **lane), self.clock, self.said.append, ME)
        self.clock.skip(LISTEN_S)
        self.ends: list[asyncio.Event] = []

    def call(
        self, error: ProviderError | None = None, *, patience_s: float = 5, tokens: float = 100
    ) -> "asyncio.Task[None]":
        """A call that ends when the test says so; the event that ends it is appended to ``ends`` when it has left."""

        async def one() -> None:
            async with self.gate.call(tokens, patience_s=patience_s):
                end = asyncio.Event()
                self.ends.append(end)
                await end.wait()
                if error is not None:
                    raise error

        return asyncio.create_task(one())

    async def fail(self, error: ProviderError) -> None:
        with pytest.raises(type(error)):
            async with self.gate.call(100, patience_s=5):
                raise error

    def signal(self, seconds: float | None, *, by: UUID | None = OTHER, broken: bool = False) -> LaneThrottled:
        until = None if seconds is None else self.clock.now() + timedelta(seconds=seconds)
        return LaneThrottled(signal_id=make.new_id(), lane="x", until=until, broken=broken, by=by)


async def test_right_after_the_start_a_lane_with_a_limit_is_left_alone_until_the_others_were_heard() -> None:
    clock = ManualClock()
    gates = [Gate(Lane(name="x", model="y", requests_per_minute=limit), clock, print, ME) for limit in (60, None)]
    assert [gate.well for gate in gates] == [False, True]
    clock.skip(LISTEN_S)
    assert all(gate.well for gate in gates)


async def test_calls_leave_by_the_pace_and_their_share_of_it() -> None:
    it = Alone(requests_per_minute=600)
    it.gate.share = 0.5
    calls = [it.call() for _ in range(20)]
    await it.clock.advance(2)
    assert 9 <= len(it.ends) <= 11
    for call in calls:
        call.cancel()


@pytest.mark.parametrize("lane", [{"requests_per_minute": 1}, {"concurrency": 1}], ids=["for the pace", "for an end"])
async def test_who_is_cancelled_while_it_waits_leaves_no_trace(lane: dict[str, Any]) -> None:
    it = Alone(**lane)
    first, head, behind = it.call(), it.call(), it.call()
    await settled()
    assert (it.gate.under_way, it.gate.waiting) == (1, 2)
    for waiter in (head, behind):
        waiter.cancel()
        await settled()
        assert waiter.cancelled()
    assert (it.gate.under_way, it.gate.waiting) == (1, 0)
    last = it.call()
    it.ends[0].set()
    await it.clock.advance(70)
    await first
    assert len(it.ends) == 2
    it.ends[1].set()
    await last
    assert (it.gate.under_way, it.gate.waiting) == (0, 0)


async def test_who_is_cancelled_during_the_probe_makes_room_for_the_next_one() -> None:
    it = Alone()
    await it.fail(ProviderAuth("401"))
    await it.clock.advance(2 * WRONG_KEY_S)
    probe = it.call()
    await settled()
    assert (it.gate.broken, it.gate.well) == (True, False)
    probe.cancel()
    await settled()
    assert it.gate.well


async def test_one_probe_and_then_all_of_them() -> None:
    it = Alone()
    await it.fail(ProviderAuth("401"))
    await it.clock.advance(2 * WRONG_KEY_S)
    calls = [it.call() for _ in range(3)]
    await settled()
    assert len(it.ends) == 1
    it.ends[0].set()
    await it.clock.advance(1)
    assert len(it.ends) == 3
    assert [(signal.until is None, signal.broken) for signal in it.said] == [(False, True), (True, False)]
    for call in calls:
        call.cancel()


async def test_who_waits_for_the_end_of_a_call_notices_that_the_lane_is_to_be_left_alone() -> None:
    it = Alone(concurrency=1)
    first, waiter = it.call(), it.call(patience_s=2)
    await settled()
    it.gate.heard(it.signal(60))
    await it.clock.advance(3)
    assert isinstance(waiter.exception(), Busy)
    assert not first.done()
    first.cancel()


async def test_patience_is_for_lanes_that_are_to_be_left_alone_and_not_for_ones_turn() -> None:
    it = Alone(concurrency=1)
    first, waiter = it.call(), it.call(patience_s=2)
    await it.clock.advance(60)
    assert not waiter.done()
    it.ends[0].set()
    await settled()
    assert first.done()
    assert len(it.ends) == 2
    waiter.cancel()


async def test_all_that_wait_give_up_when_their_patience_is_over() -> None:
    it = Alone()
    it.gate.heard(it.signal(100))
    waiters = [it.call(patience_s=2) for _ in range(5)]
    await it.clock.advance(2.3)
    for waiter in waiters:
        error = waiter.exception()
        assert isinstance(error, Busy)
        assert 95 < error.wait_s < 125
    assert it.gate.waiting == 0


async def test_a_large_call_waits_no_longer_than_the_one_before_it_makes_it() -> None:
    it = Alone(tokens_per_minute=60)
    first, second = it.call(tokens=600), it.call(tokens=600)
    await settled()
    assert len(it.ends) == 1
    await it.clock.advance(620)
    assert len(it.ends) == 2
    for call in (first, second):
        call.cancel()


async def test_a_call_that_left_on_a_small_share_bars_nobody_once_the_share_has_grown() -> None:
    it = Alone(tokens_per_minute=6_000)
    it.gate.share = 0.001
    first, second = it.call(tokens=600), it.call(tokens=600)
    await it.clock.advance(1)
    it.gate.share = 1.0
    await it.clock.advance(7)
    assert len(it.ends) == 2
    for call in (first, second):
        call.cancel()


async def test_what_was_estimated_and_not_used_is_given_back() -> None:
    it = Alone(tokens_per_minute=6_000)
    async with it.gate.call(1_000, patience_s=5) as leave:
        leave.tokens = 10
    assert it.gate.wait_s() < 0.2


async def test_a_refusal_is_told_to_the_others_and_obeyed() -> None:
    it = Alone()
    await it.fail(RateLimited("429", retry_after_s=8))
    (signal,) = it.said
    assert signal.until is not None
    assert (signal.until - it.clock.now()).total_seconds() == 8
    assert (signal.lane, signal.by, signal.broken) == ("x", ME, False)
    assert 8 <= it.gate.wait_s() <= 8 * (1 + SPREAD)


async def test_its_own_words_and_words_that_come_too_late_change_nothing() -> None:
    it = Alone()
    it.gate.heard(it.signal(60, by=ME))
    it.gate.heard(it.signal(-1))
    assert it.gate.well
    it.gate.heard(it.signal(60))
    it.gate.heard(it.signal(5))
    assert it.gate.wait_s() >= 60


async def test_a_probe_that_worked_elsewhere_closes_the_breaker_but_ends_no_pause_a_provider_asked_for() -> None:
    it = Alone()
    it.gate.heard(it.signal(30, broken=True))
    assert it.gate.broken
    it.gate.heard(it.signal(10))
    it.gate.heard(it.signal(None))
    assert not it.gate.broken
    assert 10 <= it.gate.wait_s() <= 10 * (1 + SPREAD)
    it.gate.heard(it.signal(None, by=None))
    assert it.gate.well


async def test_a_word_that_a_lane_is_broken_lets_one_call_try_even_if_it_comes_late() -> None:
    it = Alone()
    it.gate.heard(it.signal(-1, broken=True))
    calls = [it.call(), it.call()]
    await settled()
    assert len(it.ends) == 1
    for call in calls:
        call.cancel()


async def test_a_prompt_that_is_wrong_says_nothing_against_the_lane() -> None:
    it = Alone()
    for _ in range(10):
        await it.fail(ProviderRefused("400"))
    assert (it.gate.well, it.said) == (True, [])


async def test_a_server_that_is_overloaded_gets_fewer_at_a_time() -> None:
    it = Alone()
    calls = [it.call(ProviderFault("503", status=503)) for _ in range(10)]
    await settled()
    it.ends[0].set()
    await settled()
    more = [it.call() for _ in range(3)]
    await settled()
    assert (it.gate.under_way, it.gate.waiting) == (9, 3)
    for call in (*calls, *more):
        call.cancel()
    await asyncio.gather(*calls, *more, return_exceptions=True)


def told(calls: float, tokens: float) -> RateLimited:
    error = RateLimited("429", retry_after_s=0)
    error.said = Said(Allowance(600, calls, 1), Allowance(60_000, tokens, 1))
    return error


@pytest.mark.parametrize(
    ("error", "limits"), [(told(0, 10_000), (1, 0)), (told(5, 0), (0, 1)), (told(5, 10_000), (0, 0))]
)
async def test_a_refusal_counts_for_the_limit_that_it_was_for(error: RateLimited, limits: tuple[int, int]) -> None:
    it = Alone()
    it.gate.calls.limit.told(10)
    await it.fail(error)
    report = it.gate.report()
    assert (report.calls.refused, report.tokens.refused) == limits
    assert (report.calls.told, report.tokens.told) == (10, 1_000)


async def test_what_is_wanted_is_what_left_and_what_waits_and_an_answer_to_a_newcomer_does_not_change_it() -> None:
    it = Alone(concurrency=1)
    it.gate.report()
    calls = [it.call() for _ in range(4)]
    await it.clock.advance(1)
    wanted = it.gate.report().wants
    assert wanted == 4
    await it.clock.advance(0.01)
    assert it.gate.report().wants == wanted
    for call in calls:
        call.cancel()


async def test_what_was_seen_is_reported_once() -> None:
    it = Alone()
    async with it.gate.call(100, patience_s=5) as leave:
        leave.tokens = 30
    report = it.gate.report()
    assert (report.calls.accepted, report.tokens.accepted, report.calls.held_back) == (1, 30, 0)
    assert it.gate.report().calls.accepted == 0


async def test_who_has_no_view_of_a_limit_takes_anothers_as_it_is() -> None:
    it = Alone()
    it.gate.calls.heard(0, Counted(accepted=100, refused=9, learned=20.0))
    assert it.gate.calls.limit.rate == 20

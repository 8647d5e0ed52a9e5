"""What is under way, as one replica knows it."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache.inflight import ANSWERED_KEPT_S, MOST_COMPARED, MOST_LEADERS, MOST_VERIFIED, InFlight, Leader
from shared.events import CacheKey
from shared.vectors import encode_vector
from tests.support import make
from tests.support.clock import ManualClock, settled
from tests.support.replica import vector

PATIENCE_S = 30
MOST_CHARS = 20


def key(number: int, angle: float = 0.0, **changes: Any) -> CacheKey:
    embedding = encode_vector(vector(angle))
    return make.key("same words", exact=UUID(int=number), embedding=embedding, **changes)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def in_flight(clock: ManualClock) -> InFlight:
    return InFlight(clock, threshold=0.9, patience_s=PATIENCE_S, max_prompt_chars=MOST_CHARS)


async def miss(in_flight: InFlight, of: CacheKey, **changes: Any) -> UUID:
    """Another replica announced a miss."""
    request = make.request(**changes)
    await in_flight.heard(make.missed(request, key=of))
    return request.id


def test_the_first_leads_and_the_others_follow(in_flight: InFlight) -> None:
    first, second = make.new_id(), make.new_id()
    leader = in_flight.leader(first, key(1))
    assert leader.request_id == first
    assert in_flight.leader(second, key(1)) is leader
    assert in_flight.leader(first, key(1)) is leader


def test_another_prompt_has_another_leader(in_flight: InFlight) -> None:
    assert in_flight.leader(make.new_id(), key(1)) is not in_flight.leader(make.new_id(), key(2))


async def test_a_miss_that_another_replica_announced_leads_here_too(in_flight: InFlight) -> None:
    elsewhere = await miss(in_flight, key(1))
    leader = in_flight.leader(make.new_id(), key(1))
    assert (leader.request_id, leader.announced) == (elsewhere, True)


async def test_a_leader_is_announced_when_its_own_miss_was_heard(in_flight: InFlight) -> None:
    request = make.request()
    leader = in_flight.leader(request.id, key(1))
    await miss(in_flight, key(1))
    assert not leader.announced
    await in_flight.heard(make.missed(request, key=key(1)))
    assert leader.announced


async def test_the_answer_wakes_who_waits(in_flight: InFlight) -> None:
    request = make.request()
    leader = in_flight.leader(request.id, key(1))
    waiting = asyncio.create_task(leader.wait(60))
    await settled()
    answer = make.completed(request, key=key(1))
    await in_flight.heard(answer)
    assert await waiting == answer


async def test_a_failure_frees_who_waits_and_the_next_to_ask_leads(in_flight: InFlight) -> None:
    request = make.request()
    leader = in_flight.leader(request.id, key(1))
    waiting = asyncio.create_task(leader.wait(60))
    await settled()
    await in_flight.heard(make.failed(request, exact=UUID(int=1)))
    assert await waiting is None
    following = make.new_id()
    assert in_flight.leader(following, key(1)).request_id == following


async def test_the_end_of_another_request_for_the_same_prompt_changes_nothing(in_flight: InFlight) -> None:
    leader = in_flight.leader(make.new_id(), key(1))
    await in_flight.heard(make.completed(key=key(1), source="coalesced", leader_id=make.new_id()))
    await in_flight.heard(make.failed(exact=UUID(int=1)))
    assert not leader.done.is_set()
    assert in_flight.leader(make.new_id(), key(1)) is leader


async def test_an_answer_bought_for_another_request_for_the_same_prompt_is_shared(in_flight: InFlight) -> None:
    leader = in_flight.leader(make.new_id(), key(1))
    answer = make.completed(key=key(1))
    await in_flight.heard(answer)
    assert await leader.wait(60) == answer


async def test_events_without_a_key_change_nothing(in_flight: InFlight) -> None:
    request = make.request()
    leader = in_flight.leader(request.id, key(1))
    for event in (
        make.missed(key=key(1, base=None)),  # of an earlier version
        make.completed(request, key=key(1, base=None)),
        make.missed(request, key=None),
        make.completed(request, key=None),
        make.failed(request),
        make.accepted(request),
    ):
        assert await in_flight.heard(event) == ()
    assert not leader.done.is_set()
    assert not leader.announced


async def test_an_answer_is_shared_for_a_little_while(in_flight: InFlight, clock: ManualClock) -> None:
    request = make.request()
    leader = in_flight.leader(request.id, key(1))
    await in_flight.heard(make.completed(request, key=key(1)))
    clock.skip(ANSWERED_KEPT_S - 0.1)
    assert in_flight.leader(make.new_id(), key(1)) is leader
    clock.skip(0.1)
    assert in_flight.leader(make.new_id(), key(1)) is not leader


async def test_a_leader_nobody_hears_of_again_is_forgotten_and_frees_its_followers(
    in_flight: InFlight, clock: ManualClock
) -> None:
    lost = in_flight.leader(make.new_id(), key(1))
    clock.skip(PATIENCE_S + 0.1)
    following = make.new_id()
    assert in_flight.leader(following, key(1)).request_id == following
    assert await lost.wait(60) is None


async def test_who_waits_too_long_goes_away_empty_handed(in_flight: InFlight) -> None:
    assert await in_flight.leader(make.new_id(), key(1)).wait(0) is None


def own(in_flight: InFlight, angle: float, number: int = 99, **changes: Any) -> tuple[Leader, list[tuple[UUID, float]]]:
    """A request of this replica that leads for its words, and the others that are near to it."""
    leader = in_flight.leader(make.new_id(), key(number, angle, **changes))
    return leader, found(in_flight.near(leader, vector(angle)))


def found(near: Sequence[tuple[Leader, float]]) -> list[tuple[UUID, float]]:
    return [(leader.request_id, round(similarity, 2)) for leader, similarity in near]


async def test_a_near_prompt_under_way_is_found_with_its_similarity(in_flight: InFlight) -> None:
    other = await miss(in_flight, key(1, 0.0))
    assert own(in_flight, 0.1)[1] == [(other, round(np.cos(0.1), 2))]


async def test_who_leads_longest_comes_first_so_that_many_gather_behind_one(in_flight: InFlight) -> None:
    ids = [await miss(in_flight, key(number, angle)) for number, angle in enumerate((0.0, 0.3, 0.6, 0.1, 0.2, 0.25))]
    others = [request_id for request_id, _ in own(in_flight, 0.19)[1]]
    assert others == [ids[0], ids[1], ids[2]]
    assert len(others) == MOST_VERIFIED


async def test_a_prompt_that_is_not_near_enough_is_not_shared(in_flight: InFlight) -> None:
    await miss(in_flight, key(1, 0.0))
    assert own(in_flight, 0.5)[1] == []


async def test_a_prompt_without_a_vector_is_near_to_nothing(in_flight: InFlight) -> None:
    await miss(in_flight, make.key(exact=UUID(int=1), embedding=None))
    in_flight.leader(make.new_id(), key(2))  # not embedded yet
    assert own(in_flight, 0.0)[1] == []


async def test_nothing_is_shared_between_scopes(in_flight: InFlight) -> None:
    await miss(in_flight, key(1, 0.0, scope=UUID(int=7)))
    assert own(in_flight, 0.0, scope=UUID(int=8))[1] == []


async def test_nothing_is_shared_through_one_that_borrows_itself(in_flight: InFlight) -> None:
    await miss(in_flight, key(1, 0.0))
    middle, _ = own(in_flight, 0.4)
    ((first, _),) = in_flight.near(middle, vector(0.4))
    assert in_flight.borrow(middle, first)
    assert own(in_flight, 0.8, 98)[1] == []


async def test_one_that_began_to_borrow_while_it_was_verified_is_not_borrowed_from(in_flight: InFlight) -> None:
    await miss(in_flight, key(1, 0.0))
    middle, ((_, _),) = own(in_flight, 0.2)
    last, _ = own(in_flight, 0.4, 98)
    first, borrowing = (leader for leader, _ in in_flight.near(last, vector(0.4)))
    assert borrowing is middle
    assert in_flight.borrow(middle, first)
    assert not in_flight.borrow(last, middle)
    assert not last.borrows
    assert in_flight.borrow(last, first)


async def test_the_time_of_a_borrower_begins_when_it_stops_borrowing(in_flight: InFlight, clock: ManualClock) -> None:
    await miss(in_flight, key(1))
    borrower, _ = own(in_flight, 0.1)
    ((leader, _),) = in_flight.near(borrower, vector(0.1))
    assert in_flight.borrow(borrower, leader)
    clock.skip(PATIENCE_S)
    assert in_flight.leader(make.new_id(), borrower.key) is borrower  # it is not given up while it waits
    in_flight.unborrow(borrower)
    assert own(in_flight, 0.1, 98)[1] == [(borrower.request_id, 1.0)]  # and who led is waited for no more
    clock.skip(PATIENCE_S - 0.1)
    assert in_flight.leader(make.new_id(), borrower.key) is borrower
    clock.skip(0.1)
    assert in_flight.leader(make.new_id(), borrower.key) is not borrower


async def test_the_time_of_a_leader_begins_anew_when_its_miss_is_heard(in_flight: InFlight, clock: ManualClock) -> None:
    request = make.request()
    leader = in_flight.leader(request.id, key(1))
    clock.skip(PATIENCE_S - 0.1)
    await in_flight.heard(make.missed(request, key=key(1)))
    clock.skip(PATIENCE_S - 0.1)
    assert in_flight.leader(make.new_id(), key(1)) is leader


async def test_one_that_failed_while_it_was_verified_is_not_borrowed_from(in_flight: InFlight) -> None:
    request = make.request()
    await in_flight.heard(make.missed(request, key=key(1)))
    borrower, _ = own(in_flight, 0.1)
    ((leader, _),) = in_flight.near(borrower, vector(0.1))
    await in_flight.heard(make.failed(request, exact=UUID(int=1)))
    assert not in_flight.borrow(borrower, leader)


async def test_two_never_wait_for_each_other(in_flight: InFlight) -> None:
    older, younger = (in_flight.leader(make.new_id(), key(number)) for number in (1, 2))
    assert in_flight.near(older, vector(0.0)) == ()
    ((leader, _),) = in_flight.near(younger, vector(0.0))
    assert leader is older
    assert in_flight.borrow(younger, older)
    assert in_flight.near(older, vector(0.0)) == ()
    assert not in_flight.borrow(older, younger)


async def test_the_age_of_two_does_not_say_which_of_them_leads(in_flight: InFlight) -> None:
    older = in_flight.leader(make.new_id(), key(1))
    younger = in_flight.leader(make.new_id(), key(2))
    assert in_flight.near(younger, vector(0.0)) == ()  # nobody else has been embedded yet
    ((leader, _),) = in_flight.near(older, vector(0.0))
    assert leader is younger
    assert in_flight.borrow(older, younger)
    assert in_flight.near(younger, vector(0.0)) == ()  # it is led by it, so it cannot follow


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9))))
def test_whoever_borrows_from_whom_there_is_no_circle(wishes: list[tuple[int, int]]) -> None:
    in_flight = InFlight(ManualClock(), threshold=0.9, patience_s=PATIENCE_S, max_prompt_chars=MOST_CHARS)
    leaders = [in_flight.leader(make.new_id(), key(number)) for number in range(10)]
    waits: dict[int, int] = {}
    for one, other in wishes:
        if one not in waits and one != other and in_flight.borrow(leaders[one], leaders[other]):
            waits |= {one: other}
    for number in range(10):
        at: int | None = number
        for _ in range(10):  # as many steps as there are leaders lead out of any chain that is no circle
            at = None if at is None else waits.get(at)
        assert at is None


async def test_those_who_borrow_do_not_hide_the_one_they_borrow_from(in_flight: InFlight) -> None:
    first = await miss(in_flight, key(1, 0.0))
    for number in range(2, MOST_COMPARED + 3):
        borrower = in_flight.leader(make.new_id(), key(number))
        borrower.vector, borrower.borrows = vector(0.0), True
    assert own(in_flight, 0.1, MOST_COMPARED + 3)[1] == [(first, round(np.cos(0.1), 2))]


async def test_beyond_so_many_leaders_a_request_leads_itself_only(
    in_flight: InFlight, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MOST_LEADERS > 1
    monkeypatch.setattr("services.cache.inflight.MOST_LEADERS", 1)
    in_flight.leader(make.new_id(), key(1))
    second = in_flight.leader(make.new_id(), key(2))
    assert in_flight.leader(make.new_id(), key(2)) is not second
    in_flight.release(second)
    assert second.done.is_set()


async def test_finished_answers_that_are_concerned_are_forgotten_and_the_others_stay(in_flight: InFlight) -> None:
    requests = [make.request(), make.request()]
    leaders = [in_flight.leader(request.id, key(number)) for number, request in enumerate(requests)]
    unfinished = in_flight.leader(make.new_id(), key(3))
    for number, request in enumerate(requests):
        await in_flight.heard(make.completed(request, key=key(number), output_text=str(number)))
    in_flight.forget(lambda answer: answer.output_text == "1")
    assert [leader.answer is not None for leader in leaders] == [True, False]
    assert in_flight.leader(make.new_id(), key(0)) is leaders[0]
    assert in_flight.leader(make.new_id(), key(1)) is not leaders[1]
    assert in_flight.leader(make.new_id(), key(3)) is unfinished
    assert not unfinished.done.is_set()


async def test_an_answer_that_is_forgotten_before_who_waits_wakes_is_not_given(in_flight: InFlight) -> None:
    request = make.request()
    leader = in_flight.leader(request.id, key(1))
    waiting = asyncio.create_task(leader.wait(60))
    await settled()
    await in_flight.heard(make.completed(request, key=key(1)))
    in_flight.forget(lambda _: True)
    assert await waiting is None


@pytest.mark.parametrize(("ttl_s", "kept_s"), [(3, 3.0), (3600, ANSWERED_KEPT_S)])
async def test_an_answer_is_shared_no_longer_than_it_is_fresh(
    in_flight: InFlight, clock: ManualClock, ttl_s: int, kept_s: float
) -> None:
    request = make.request()
    leader = in_flight.leader(request.id, key(1))
    await in_flight.heard(make.completed(request, key=key(1), freshness=make.freshness(ttl_s=ttl_s)))
    clock.skip(kept_s - 0.1)
    assert in_flight.leader(make.new_id(), key(1)) is leader
    clock.skip(0.1)
    assert in_flight.leader(make.new_id(), key(1)) is not leader


async def test_an_answer_that_may_not_be_reused_is_for_those_only_who_wait_already(in_flight: InFlight) -> None:
    request = make.request()
    leader = in_flight.leader(request.id, key(1))
    waiting = asyncio.create_task(leader.wait(60))
    await settled()
    await in_flight.heard(make.completed(request, key=key(1), freshness=None))
    assert in_flight.leader(make.new_id(), key(1)) is not leader
    assert await waiting is not None


async def test_what_an_earlier_answer_settled_is_shared_and_forgotten(in_flight: InFlight) -> None:
    own = in_flight.leader(make.new_id(), key(1))
    answer = make.completed(source="cache")
    in_flight.answered(own, answer)
    assert await own.wait(60) == answer
    assert in_flight.leader(make.new_id(), key(1)) is not own


async def test_the_text_of_a_prompt_that_is_near_to_nothing_is_not_kept(in_flight: InFlight) -> None:
    long = make.key("x" * (MOST_CHARS + 1), embedding=None)
    request = make.request()
    leader = in_flight.leader(request.id, long)
    assert leader.key == long.model_copy(update={"prompt": ""})
    answer = make.completed(request, key=long)
    await in_flight.heard(answer)
    assert await leader.wait(60) == answer


async def test_a_replay_does_not_wait_for_the_run_before_it(in_flight: InFlight) -> None:
    request = make.request()
    first = in_flight.leader(request.id, key(1), 0)
    await in_flight.heard(make.missed(request, key=key(1)))
    again = in_flight.leader(request.id, key(1), 1)
    assert again is not first
    assert first.done.is_set()
    assert not again.announced
    await in_flight.heard(make.failed(request, exact=key(1).exact))  # of the run before
    assert not again.done.is_set()
    await in_flight.heard(make.failed(request, exact=key(1).exact, replay=1))
    assert again.done.is_set()


async def test_an_answer_that_the_run_before_brought_after_all_will_do(in_flight: InFlight) -> None:
    request = make.request()
    first = in_flight.leader(request.id, key(1), 0)
    await in_flight.heard(make.completed(request, key=key(1)))
    assert in_flight.leader(request.id, key(1), 1) is first


async def test_who_waits_for_one_that_is_cancelled_goes_on_alone(in_flight: InFlight) -> None:
    request = make.request()
    leader = in_flight.leader(request.id, key(1))
    await in_flight.heard(make.failed(request, code="cancelled", exact=key(1).exact))
    assert await leader.wait(1) is None
    follower = make.new_id()
    assert in_flight.leader(follower, key(1)).request_id == follower

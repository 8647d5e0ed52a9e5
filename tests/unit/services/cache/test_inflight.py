"""What is under way, as one replica knows it."""

import asyncio
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from services.cache.embedder import Vectors
from services.cache.inflight import ANSWERED_KEPT_S, InFlight, Leader
from shared.events import CacheKey, encode_vector
from tests.support import make
from tests.support.clock import ManualClock, settled

PATIENCE_S = 30


def vector(angle: float) -> Vectors:
    """A unit vector; the cosine of the difference of two angles is their similarity."""
    return np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)


def key(number: int, angle: float = 0.0, **changes: Any) -> CacheKey:
    embedding = encode_vector(vector(angle).tolist())
    return make.key("same words", exact=UUID(int=number), embedding=embedding, **changes)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def in_flight(clock: ManualClock) -> InFlight:
    return InFlight(clock, threshold=0.9, patience_s=PATIENCE_S)


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
    await in_flight.heard(make.completed(key=key(1)))
    await in_flight.heard(make.failed(exact=UUID(int=1)))
    assert not leader.done.is_set()
    assert in_flight.leader(make.new_id(), key(1)) is leader


async def test_events_without_a_key_change_nothing(in_flight: InFlight) -> None:
    request = make.request()
    leader = in_flight.leader(request.id, key(1))
    for event in (
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


def far_apart(in_flight: InFlight, own_angle: float, **changes: Any) -> tuple[Leader, float] | None:
    own = in_flight.leader(make.new_id(), key(99, own_angle, **changes))
    return in_flight.near(own, vector(own_angle))


async def test_a_near_prompt_under_way_is_found_with_its_similarity(in_flight: InFlight) -> None:
    other = await miss(in_flight, key(1, 0.0))
    found = far_apart(in_flight, 0.1)
    assert found is not None
    assert found[0].request_id == other
    assert found[1] == pytest.approx(np.cos(0.1), abs=1e-3)


async def test_the_nearest_of_several_is_taken(in_flight: InFlight) -> None:
    await miss(in_flight, key(1, 0.0))
    nearest = await miss(in_flight, key(2, 0.2))
    await miss(in_flight, key(3, 0.6))
    found = far_apart(in_flight, 0.19)
    assert found is not None
    assert found[0].request_id == nearest


async def test_a_prompt_that_is_not_near_enough_is_not_shared(in_flight: InFlight) -> None:
    await miss(in_flight, key(1, 0.0))
    assert far_apart(in_flight, 0.5) is None


async def test_a_near_prompt_that_differs_in_a_number_is_not_shared(in_flight: InFlight) -> None:
    embedding = encode_vector(vector(0.0).tolist())
    await miss(in_flight, make.key("for 3 months", exact=UUID(int=1), embedding=embedding))
    own = in_flight.leader(make.new_id(), make.key("for 4 months", exact=UUID(int=2)))
    assert in_flight.near(own, vector(0.0)) is None
    assert not own.borrows


async def test_nothing_is_shared_between_scopes(in_flight: InFlight) -> None:
    await miss(in_flight, key(1, 0.0, scope=UUID(int=7)))
    assert far_apart(in_flight, 0.0, scope=UUID(int=8)) is None


async def test_nothing_is_shared_through_one_that_borrows_itself(in_flight: InFlight) -> None:
    await miss(in_flight, key(1, 0.0))
    middle = in_flight.leader(make.new_id(), key(2, 0.4))
    assert in_flight.near(middle, vector(0.4)) is not None
    assert middle.borrows
    assert far_apart(in_flight, 0.8) is None


async def test_two_never_wait_for_each_other(in_flight: InFlight) -> None:
    older, younger = (in_flight.leader(make.new_id(), key(number)) for number in (1, 2))
    assert in_flight.near(older, vector(0.0)) is None
    found = in_flight.near(younger, vector(0.0))
    assert found is not None
    assert found[0] is older
    assert in_flight.near(older, vector(0.0)) is None


async def test_the_age_of_two_does_not_say_which_of_them_leads(in_flight: InFlight) -> None:
    older = in_flight.leader(make.new_id(), key(1))
    younger = in_flight.leader(make.new_id(), key(2))
    assert in_flight.near(younger, vector(0.0)) is None  # nobody else has been embedded yet
    found = in_flight.near(older, vector(0.0))
    assert found is not None
    assert found[0] is younger
    assert in_flight.near(younger, vector(0.0)) is None  # it is led by it, so it cannot follow


async def test_what_an_earlier_answer_settled_is_shared_and_forgotten(in_flight: InFlight) -> None:
    own = in_flight.leader(make.new_id(), key(1))
    answer = make.completed(source="cache")
    in_flight.answered(own, answer)
    assert await own.wait(60) == answer
    assert in_flight.leader(make.new_id(), key(1)) is not own

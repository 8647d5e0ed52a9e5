"""What becomes of a provider's limit under load: three replicas, workers that never rest, virtual time."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

from tests.support.provider_sim import LANE, Fleet, Provider, under_load
from tests.support.virtual_time import run

LIMIT: Final = 40.0
WARM_S: Final = 40
SECONDS: Final = 100


@pytest.fixture(autouse=True)
def seeded() -> None:
    random.seed(7)


def after(seconds: float, then: Callable[[Fleet], Awaitable[None]], provider: Provider, **load: Any) -> None:
    """Load for so many seconds, then what the test does."""

    async def all_of_it() -> None:
        await then(await under_load(provider, seconds, **load))

    run(all_of_it())


def rest(seconds: float) -> Callable[[Fleet], Awaitable[None]]:
    async def pass_by(_: Fleet) -> None:
        await asyncio.sleep(seconds)

    return pass_by


@pytest.mark.parametrize(
    ("how", "declared"),
    [({"tells": True}, False), ({}, True), ({}, False), ({"says_when": False}, False), ({"burst_s": 10}, False)],
    ids=["told in headers", "declared", "blind", "blind, and refusals say no time", "blind, a large bucket"],
)
def test_useful_calls_stay_near_the_limit_and_refused_ones_rare(how: dict[str, Any], declared: bool) -> None:
    provider = Provider(LIMIT, **how)
    after(SECONDS, rest(0), provider, declared=declared)
    assert provider.per_second(WARM_S, SECONDS) >= 0.97 * LIMIT
    assert provider.refused_share(WARM_S, SECONDS) <= 0.01


def test_a_slow_lane_too_is_shared_without_knowing_its_limit() -> None:
    provider = Provider(5, burst_s=10)
    after(300, rest(0), provider)
    assert provider.per_second(120, 300) >= 0.97 * 5
    assert provider.refused_share(120, 300) <= 0.015


@pytest.mark.parametrize("tells", [True, False], ids=["told", "blind"])
def test_a_limit_that_was_doubled_is_found_in_half_a_minute(tells: bool) -> None:
    provider = Provider(LIMIT, tells=tells)

    async def double(_: Fleet) -> None:
        provider.rate = 2 * LIMIT
        await asyncio.sleep(30)

    after(60, double, provider, workers=240)
    assert max(provider.per_second(since, since + 3) for since in range(60, 88)) >= 0.95 * 2 * LIMIT


def test_a_limit_that_was_halved_is_found_in_ten_seconds() -> None:
    provider = Provider(LIMIT)

    async def halve(_: Fleet) -> None:
        provider.rate = LIMIT / 2
        await asyncio.sleep(60)

    after(60, halve, provider)
    assert provider.refused_share(70, 120) <= 0.015
    assert provider.per_second(70, 120) >= 0.95 * LIMIT / 2


@pytest.mark.parametrize("tells", [True, False], ids=["told", "blind"])
def test_a_provider_that_comes_back_meets_no_herd(tells: bool) -> None:
    provider = Provider(LIMIT, tells=tells, down=(60, 120))
    after(150, rest(0), provider)
    tries = sum(provider.asked(second) for second in range(65, 120))
    assert tries <= 55  # probes: a few from each replica in ten seconds
    first = next(second for second in range(120, 150) if provider.asked(second))
    assert all(provider.asked(second) <= 1.1 * LIMIT for second in (120, first, first + 1))
    assert provider.per_second(135, 150) >= 0.9 * LIMIT


@pytest.mark.parametrize("saying_so", [True, False], ids=["says goodbye", "is killed"])
def test_the_share_of_a_replica_that_leaves_goes_to_the_others(saying_so: bool) -> None:
    provider = Provider(LIMIT, tells=True)

    async def one_leaves(fleet: Fleet) -> None:
        await fleet.leave(fleet.replicas[0], saying_so=saying_so)
        await asyncio.sleep(1 if saying_so else 6)
        assert [lanes.gates[LANE].share for lanes in fleet.replicas] == [pytest.approx(1 / 2, abs=0.02)] * 2
        await asyncio.sleep(20)

    after(60, one_leaves, provider, workers=120)
    assert provider.per_second(68, 80) >= 0.97 * LIMIT
    assert provider.refused_share(60, 80) <= 0.01


def test_a_replica_that_joins_gets_its_share() -> None:
    provider = Provider(LIMIT, tells=True)

    async def one_joins(fleet: Fleet) -> None:
        fleet.join(17)
        await asyncio.sleep(4)
        shares = [lanes.gates[LANE].share for lanes in fleet.replicas]
        assert shares == [pytest.approx(1 / 4, abs=0.03)] * 4
        assert sum(shares) <= 1.001
        await asyncio.sleep(10)

    after(60, one_joins, provider)
    assert provider.refused_share(60, 74) <= 0.01


def test_all_replicas_leave_a_lane_alone_that_told_one_of_them_to_wait() -> None:
    provider = Provider(LIMIT, tells=True)

    async def told_to_wait(fleet: Fleet) -> None:
        gate = fleet.replicas[0].gates[LANE]
        gate._tell_to_wait(8.0, "rate_limited")
        await asyncio.sleep(0.1)
        assert not any(lanes.gates[LANE].well for lanes in fleet.replicas)
        await asyncio.sleep(12)

    after(60, told_to_wait, provider)
    assert [provider.asked(second) for second in range(62, 67)] == [0] * 5
    assert provider.per_second(60, 72) > 0

"""Token buckets."""

import pytest

from services.ingest import buckets
from services.ingest.buckets import LONGEST_S, Buckets
from shared.policy.admission import AdmissionPolicy
from tests.support.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def filled(clock: ManualClock) -> Buckets:
    return Buckets(AdmissionPolicy.model_validate({"default": {"requests_per_minute": 30, "burst": 3}}), clock)


def taken(of: Buckets, tenant: str = "acme") -> int:
    """How many tokens can be taken at once."""
    return sum(1 for _ in range(100) if not of.take(tenant))


async def test_a_burst_then_the_rate(filled: Buckets, clock: ManualClock) -> None:
    assert taken(filled) == 3
    assert filled.take("acme") == pytest.approx(2)
    await clock.advance(2)
    assert taken(filled) == 1
    await clock.advance(3600)
    assert taken(filled) == 3


def test_one_tenants_bucket_is_not_anothers(filled: Buckets) -> None:
    taken(filled)
    assert taken(filled, "other") == 3


def test_who_is_not_limited_has_no_bucket(clock: ManualClock) -> None:
    listed = AdmissionPolicy.model_validate({"tenants": {"acme": {"requests_per_minute": 1, "burst": 1}}})
    some = Buckets(listed, clock)
    assert (taken(some), taken(some, "other"), some.turn("other")) == (1, 100, 0)


async def test_replicas_share_an_allowance_and_each_lets_some_in(filled: Buckets, clock: ManualClock) -> None:
    filled.replicas = 10
    assert taken(filled) == 1
    await clock.advance(19)
    assert taken(filled) == 0
    await clock.advance(1)
    assert taken(filled) == 1


def test_a_token_that_was_not_needed_is_given_back_and_no_more_than_that(filled: Buckets) -> None:
    taken(filled)
    for _ in range(9):
        filled.give_back("acme")
    assert taken(filled) == 3


async def test_everybody_has_a_later_turn_but_none_too_late(filled: Buckets, clock: ManualClock) -> None:
    assert [filled.turn("acme") for _ in range(3)] == [2, 4, 6]
    assert max(filled.turn("acme") for _ in range(1000)) == LONGEST_S
    await clock.advance(LONGEST_S + 60)
    assert filled.turn("acme") == 2


def test_there_are_no_more_buckets_than_may_be(filled: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "MOST", 2)
    for tenant in ("a", "b", "c"):
        taken(filled, tenant)
    assert (taken(filled, "c"), taken(filled, "a")) == (0, 3)

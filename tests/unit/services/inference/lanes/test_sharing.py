"""Who gets how much of a lane."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.lanes.sharing import GONE_S, IDLE, Sharing, max_min
from shared.events import LaneReport

ME, OTHER, THIRD = (UUID(int=number) for number in (1, 2, 3))
WANTS = st.lists(st.floats(0, 1e6), min_size=1, max_size=12)


@given(WANTS, st.floats(0.01, 1e5))
def test_max_min(wants: list[float], total: float) -> None:
    shares = max_min(wants, total)
    fair = total / len(wants)
    assert sum(shares) == pytest.approx(total)
    for want, share in zip(wants, shares, strict=True):
        assert share >= min(want, fair) * (1 - 1e-9)
    for want, share in zip(wants, shares, strict=True):
        if share < want * (1 - 1e-9):  # whoever gets less than it wants gets as much as anybody
            assert share >= max(min(shares), fair) * (1 - 1e-9)
            spare = max(0.0, total - sum(wants)) / len(wants)
            assert all(share >= other - spare - 1e-6 * total for other in shares)


@given(WANTS, st.floats(0.01, 1e5), st.randoms())
def test_max_min_knows_no_order(wants: list[float], total: float, random: object) -> None:
    assert sorted(max_min(wants, total)) == pytest.approx(sorted(max_min(sorted(wants), total)))


def test_examples_of_max_min() -> None:
    assert max_min([2, 8, 10], 12) == [2, 5, 5]
    assert max_min([1, 1], 10) == [5, 5]
    assert max_min([0, 10], 10) == [0, 10]


def wants(of_lane: float) -> dict[str, LaneReport]:
    return {"x": LaneReport(wants=of_lane)}


def test_alone_all_of_it_is_mine() -> None:
    assert Sharing(ME).share("x", 0, 10, 0) == pytest.approx(1)


def test_who_wants_nothing_has_enough_to_begin() -> None:
    sharing = Sharing(ME)
    assert sharing.heard(OTHER, wants(100), 0)
    assert not sharing.heard(OTHER, wants(100), 1)
    assert sharing.share("x", 0, 10, 1) == pytest.approx(IDLE / 2)
    assert sharing.share("x", 100, 10, 1) == pytest.approx(1 / 2)


@given(st.lists(st.floats(0, 1e4), min_size=3, max_size=3), st.floats(0.02, 1e4))
def test_the_shares_that_replicas_reckon_are_one_in_all_and_never_none(each: list[float], rate: float) -> None:
    shares = []
    ids = (ME, OTHER, THIRD)
    for me, mine in zip(ids, each, strict=True):
        sharing = Sharing(me)
        for other, theirs in zip(ids, each, strict=True):
            if other != me:
                sharing.heard(other, wants(theirs), 0)
        shares.append(sharing.share("x", mine, rate, 0))
    assert sum(shares) == pytest.approx(1)
    assert min(shares) > 0


def test_a_replica_that_does_not_list_the_lane_wants_nothing_of_it() -> None:
    sharing = Sharing(ME)
    sharing.heard(OTHER, {}, 0)
    assert sharing.share("x", 10, 10, 0) > 0.9


def test_who_is_silent_for_long_or_says_goodbye_is_gone() -> None:
    sharing = Sharing(ME)
    sharing.heard(OTHER, wants(10), 0)
    sharing.heard(THIRD, wants(10), 0)
    assert sharing.replicas(GONE_S - 0.1) == 3
    sharing.left(OTHER)
    sharing.left(OTHER)
    assert sharing.replicas(GONE_S - 0.1) == 2
    assert sharing.replicas(GONE_S) == 1
    assert sharing.share("x", 10, 10, GONE_S) == pytest.approx(1)

"""Decayed counts: they add in any order, and take no more memory than they may."""

import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.trends.rates import GIVE_WAY, Rates

FAST, SLOW = 180.0, 10_800.0
COUNTED = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(1, 9), st.floats(0, 40_000), st.integers(0, 3)), max_size=40
)


def rates(max_names: int = 1000) -> Rates[str]:
    return Rates(fast_s=FAST, slow_s=SLOW, max_names=max_names)


def test_a_count_decays_by_both_constants() -> None:
    it = rates()
    it.add("a", 10, at=0)
    now = it.at("a", 180)
    assert now.fast == pytest.approx(10 / math.e)
    assert now.slow == pytest.approx(10 * math.exp(-1 / 60))
    assert it.at("b", 180).slow == 0


def test_a_steady_rate_is_a_count_of_rate_times_constant() -> None:
    it = rates()
    for second in range(0, 6 * 10_800, 6):
        it.add("a", 1, at=second)
    now = it.at("a", 6 * 10_800)
    assert now.fast == pytest.approx(FAST / 6, rel=0.05)
    assert now.slow == pytest.approx(SLOW / 6, rel=0.01)


@given(counted=COUNTED, order=st.randoms(use_true_random=False))
def test_what_replicas_counted_adds_up_to_what_one_would_have_in_any_order(
    counted: list[tuple[str, int, float, int]], order: st.DataObject
) -> None:
    one, merged = rates(), rates()
    for name, count, at, _ in sorted(counted, key=lambda each: each[2]):
        one.add(name, count, at)
    shuffled = list(counted)
    order.shuffle(shuffled)  # type: ignore[attr-defined]  # a random.Random
    for name, count, at, _ in shuffled:
        merged.add(name, count, at)
    for name in "abcd":
        expected, found = one.at(name, 40_000), merged.at(name, 40_000)
        assert (found.fast, found.slow) == pytest.approx((expected.fast, expected.slow))


@given(st.lists(st.integers(0, 400), min_size=1, max_size=600), st.integers(4, 40))
def test_memory_is_bounded_and_no_usual_rate_is_underestimated_nor_overestimated_by_much(
    names: list[int], most: int
) -> None:
    it: Rates[int] = Rates(fast_s=FAST, slow_s=SLOW, max_names=most)
    for name in names:
        it.add(name, 1, at=0)
        assert len(it) <= most
    for name, count in Counter(names).items():
        assert it.at(name, 0).slow <= count + it.floor(name, 0)
        if name in set(it):
            assert it.at(name, 0).slow >= count
        else:
            assert count <= it.floor(name, 0)
    # Each of those that gave way had as much, so all of them together cannot have had more than there was.
    assert it.floor(0, 0) * most * 0.75 <= len(names) + it.floor(0, 0)


def test_the_rarest_give_way_and_a_newcomer_inherits_what_they_had() -> None:
    it = rates(max_names=4)
    for name, count in (("a", 9), ("b", 7), ("c", 1), ("d", 5)):
        it.add(name, count, at=0)
    it.add("e", 1, at=0)
    assert sorted(it) == ["a", "b", "d", "e"]
    assert it.at("e", 0).slow == 2
    assert it.at("c", 0).slow == 1
    assert it.at("e", 0).fast == 1


def of_owner(name: str) -> str:
    return name[0]


def test_an_owner_may_fill_what_is_free_and_gives_way_to_who_has_less() -> None:
    it: Rates[str] = Rates(fast_s=FAST, slow_s=SLOW, max_names=8, owner=of_owner)
    for n in range(6):
        it.add(f"a{n}", 10 + n, at=0)
    for name in ("b0", "b1"):
        it.add(name, 1, at=0)
    it.add("b2", 1, at=0)
    assert sorted(it) == ["a2", "a3", "a4", "a5", "b0", "b1", "b2"]
    assert it.at("b2", 0).slow == 1, "nothing of its owner had to go"
    assert it.at("a0", 0).slow == 11
    assert it.at("c", 0).slow == 0


def test_where_all_owners_have_one_name_the_rarest_go_and_what_they_had_is_not_forgotten() -> None:
    it: Rates[str] = Rates(fast_s=FAST, slow_s=SLOW, max_names=4, owner=of_owner)
    for name, count in (("a", 5), ("b", 2), ("c", 7), ("d", 9), ("e", 1)):
        it.add(name, count, at=0)
    assert sorted(it) == ["a", "c", "d", "e"]
    assert it.at("b", 0).slow == 2
    assert it.at("e", 0).slow == 3


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 60)), max_size=300), st.integers(4, 40))
def test_who_has_no_more_than_an_even_part_loses_nothing(counted: list[tuple[str, int]], most: int) -> None:
    it: Rates[tuple[str, int]] = Rates(fast_s=FAST, slow_s=SLOW, max_names=most, owner=lambda name: name[0])
    for name in counted:
        it.add(name, 1, at=0)
        assert len(it) <= most
    even = int(most * (1 - GIVE_WAY)) // 3
    for owner in "abc":
        own = {name for name in counted if name[0] == owner}
        if len(own) <= even:
            assert own <= set(it)
            assert all(it.at(name, 0).slow == counted.count(name) for name in own)


def test_the_floor_decays_as_all_counts_do() -> None:
    it = rates(max_names=2)
    for name in ("a", "b", "c"):
        it.add(name, 4, at=0)
    assert it.at("nobody", 0).slow == 4
    assert it.at("nobody", SLOW).slow == pytest.approx(4 / math.e)
    levels = [it.at("nobody", hour * 3600).slow for hour in range(9)]
    assert all(later < earlier for earlier, later in pairwise(levels))

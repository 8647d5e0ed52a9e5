"""The ladder: its steps for ages of any kind, and what replicas make of what they are told."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.brownout import GONE_S, Brownout, Ladder
from shared.policy.brownout import LADDER
from tests.support import make
from tests.support.brownout import LADDER as WHOLE_LADDER
from tests.support.brownout import ONE, OTHER, aged
from tests.support.clock import ManualClock
from tests.support.routers import LADDER as THREE_TIERS

ladders = st.builds(
    lambda ages, settle: (dict(zip(LADDER, sorted(ages), strict=False)), settle),
    st.lists(st.floats(1, 1000), min_size=1, max_size=len(LADDER)),
    st.floats(0.01, 0.99),
)
ages = st.lists(st.floats(0, 2000), min_size=1)


def brownout(clock: ManualClock, **policy: Any) -> Brownout:
    return Brownout(make.policy(brownout=WHOLE_LADDER, **policy), clock)


@given(ladders, ages)
def test_a_step_never_holds_without_those_before_it(ladder: Any, seen: list[float]) -> None:
    it = Ladder(*ladder)
    for age_s in seen:
        it.see(age_s)
        assert list(it.steps) == list(ladder[0])[: len(it.steps)]


@given(ladders, ages, st.floats(0, 2000), st.floats(0, 2000))
def test_an_older_queue_has_no_fewer_steps(ladder: Any, before: list[float], one: float, other: float) -> None:
    younger, older = Ladder(*ladder), Ladder(*ladder)
    for age_s in before:
        younger.see(age_s)
        older.see(age_s)
    younger.see(min(one, other))
    older.see(max(one, other))
    assert set(younger.steps) <= set(older.steps)


@given(ladders, ages)
def test_a_step_begins_at_its_age_and_lasts_until_the_age_is_below_its_share(ladder: Any, seen: list[float]) -> None:
    (steps, settle), it = ladder, Ladder(*ladder)
    held: set[str] = set()
    for age_s in seen:
        it.see(age_s)
        for step, from_s in steps.items():
            if step in held:
                assert (step in it.steps) == (age_s >= settle * from_s)
            else:
                assert (step in it.steps) == (age_s >= from_s)
        held = set(it.steps)


@given(ladders, st.lists(st.floats(0, 1)))
def test_an_age_that_hovers_about_a_step_switches_it_once(ladder: Any, noise: list[float]) -> None:
    (steps, settle), it = ladder, Ladder(*ladder)
    (step, from_s), *_ = steps.items()
    it.see(from_s)
    for part in noise:  # anywhere between the age where it begins and the one where it ends
        it.see(from_s * max(settle, part))
        assert step in it.steps


def test_each_tier_has_a_ladder_of_its_own() -> None:
    it = brownout(ManualClock())
    it.told(aged(premium=65.0, light=12.0))
    assert it.steps("premium") == ("cheaper_tier", "stale_answers", "longer_deadline")
    assert it.steps("light") == ("cheaper_tier",)
    assert it.steps("unheard-of") == ()


def test_of_what_several_replicas_tell_the_oldest_counts() -> None:
    it = brownout(ManualClock())
    it.told(aged(ONE, premium=65.0))
    it.told(aged(OTHER, premium=3.0))  # it has just begun, or missed the reports
    assert it.age_s("premium") == 65.0
    it.told(aged(ONE, premium=1.0))
    assert (it.age_s("premium"), it.steps("premium")) == (3.0, ())


async def test_what_is_not_told_again_is_forgotten() -> None:
    clock = ManualClock()
    it = brownout(clock)
    it.told(aged(premium=65.0))
    await clock.advance(GONE_S - 0.1)
    assert it.steps("premium")
    await clock.advance(0.1)
    assert not it.steps("premium")
    it.told(aged(premium=8.0))  # what held before it was forgotten does not begin again at its end
    assert not it.steps("premium")


def test_a_replica_takes_back_what_it_told() -> None:
    it = brownout(ManualClock())
    it.told(aged(premium=65.0))
    it.told(aged())
    assert not it.steps("premium")


def test_a_note_says_which_queue_was_how_old() -> None:
    it = brownout(ManualClock())
    it.told(aged(premium=12.34))
    note = it.note("cheaper_tier", "premium", "light instead")
    assert note is not None
    assert (note.step, note.tier, note.age_s, note.detail) == ("cheaper_tier", "premium", 12.3, "light instead")
    assert it.note("stale_answers", "premium") is None


@pytest.mark.parametrize(
    ("ages", "cheaper"),
    [
        ({"premium": 9.0}, []),
        ({"premium": 12.0}, ["middle", "light"]),
        ({"premium": 12.0, "middle": 11.0}, ["light"]),
        ({"premium": 12.0, "middle": 11.0, "light": 10.0}, []),
    ],
)
def test_the_tiers_to_go_to_are_those_below_that_do_not_wait_too_long_themselves(
    ages: dict[str, float], cheaper: list[str]
) -> None:
    three: dict[str, Any] = dict(THREE_TIERS)
    it = brownout(ManualClock(), **three)
    it.told(aged(ONE, **ages))
    assert list(it.cheaper("premium")) == cheaper
    assert not it.cheaper("unheard-of")


def test_another_queue_before_the_same_lanes_is_no_help() -> None:
    it = brownout(ManualClock(), tiers__light__model="local/large")
    it.told(aged(premium=500.0))
    assert it.steps("premium")
    assert not it.cheaper("premium")

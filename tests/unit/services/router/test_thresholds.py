"""Shares and budgets to thresholds."""

import random
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.ledger import FEW
from services.router.scoring import Scored
from services.router.thresholds import Thresholds
from shared.events import LaneThrottled, Route, RouterScored
from shared.telemetry import metrics
from tests.support import make
from tests.support.clock import START, ManualClock
from tests.support.routers import LADDER, Deciding

RULES = Scored(1.0, (), informed=True, by="rules")
HARD = "please prove it for my own function, my friend"
PROMPTS = {
    "What is the capital of Peru?": -1.5,
    "my friend went on a very nice long holiday": None,
    "my friend is asking for a function": 1.5,
    "my friend wants me to prove an odd thing": 3.0,
    HARD: 4.5,
}


def stream(count: int, seed: int = 1) -> list[str]:
    rng = random.Random(seed)
    return [rng.choice([*PROMPTS]) for _ in range(count)]


def ask(it: Deciding, prompt: str) -> Route:
    """Where a prompt goes, a few seconds after the one before."""
    assert isinstance(it.clock, ManualClock)
    it.clock.skip(3.0)
    return it.route(make.request(prompt, id=uuid4()))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5])
def test_a_share_of_the_stream_goes_to_the_stronger_tier(share: float) -> None:
    it = Deciding(make.policy(router__shares={"premium": share}, router__calibration={"observations": 100}))
    taken = [ask(it, prompt).tier for prompt in stream(4000)][1000:]
    assert taken.count("premium") / len(taken) == pytest.approx(share, abs=0.03)


def test_a_share_that_the_signals_do_not_carry_is_not_filled_with_what_speaks_against() -> None:
    it = Deciding(make.policy(router__shares={"premium": 0.9}, router__calibration={"observations": 100}))
    routes = [ask(it, prompt) for prompt in stream(2000)][500:]
    tiers = {route.score: route.tier for route in routes}
    assert tiers == {-1.5: "light", 0.0: "light", 1.5: "premium", 3.0: "premium", 4.5: "premium"}


def test_three_tiers_share_the_stream() -> None:
    policy = make.policy(
        **LADDER, router__shares={"middle": 0.3, "premium": 0.1}, router__calibration={"observations": 100}
    )
    it = Deciding(policy)
    taken = [ask(it, prompt).tier for prompt in stream(6000)][1000:]
    assert taken.count("premium") / len(taken) == pytest.approx(0.1, abs=0.02)
    assert taken.count("middle") / len(taken) == pytest.approx(0.3, abs=0.03)


def test_until_enough_was_seen_the_policy_s_thresholds_decide() -> None:
    it = Deciding(make.policy(router__shares={"premium": 1.0}, router__calibration={"observations": 2}))
    prompt = "my friend is asking for a function"
    assert [ask(it, prompt).tier for _ in range(3)] == ["light", "light", "premium"]


def test_the_reason_says_what_the_threshold_is_for() -> None:
    it = Deciding(make.policy(router__shares={"premium": 0.25}, router__calibration={"observations": 1}))
    route = it.route(make.request("please prove it for my own function, my friend"))
    assert route.reasons[-1] == "score +4.5, premium for 25.0% of requests: from +4.5, 25% of those at it"


async def test_what_other_replicas_counted_counts_here() -> None:
    it = Deciding(make.policy(router__shares={"premium": 0.5}, router__calibration={"observations": 10}))
    it.thresholds.heard(RouterScored(delta_id=uuid4(), scorer="rules", scores={4500: 5, 1500: 5}))
    begins = it.thresholds.of(RULES)
    assert begins.boundaries["premium"].place == 1500
    assert begins.boundaries["premium"].portion == 0
    assert not it.thresholds.of(Scored(0.5, (), informed=True, by="head", threshold=0.25)).shares


def spending(budget: float, clock: ManualClock, **policy: Any) -> Deciding:
    rules = {"router__usd_per_day": budget, "router__calibration": {"observations": 10, "half_life": "1h"}}
    return Deciding(make.policy(**rules | policy), clock)


def test_a_day_of_traffic_costs_what_the_budget_says() -> None:
    clock = ManualClock(START.replace(hour=0, minute=0, second=0))
    it = spending(20.0, clock)
    costs = {"light": 0.001, "premium": 0.02}
    rng = random.Random(5)
    spent = 0.0
    for prompt in stream(8640, seed=3):  # one each ten seconds: 8.64 dollars if all are light, 74 by the thresholds
        clock.skip(10 * rng.uniform(0.9, 1.1))
        if clock.now().day != START.day:
            break
        it.answered(tier := it.route(make.request(prompt, id=uuid4())).tier, costs[tier])
        spent = it.ledger.spent()
    assert spent == pytest.approx(20.0, rel=0.05)


def test_a_budget_that_is_ample_changes_nothing() -> None:
    with_budget, without = spending(1e6, ManualClock()), Deciding()
    with_budget.answered("light", 0.001, times=FEW)
    with_budget.answered("premium", 0.02, times=FEW)
    for prompt in stream(200):
        assert ask(with_budget, prompt).tier == ask(without, prompt).tier


def test_when_the_budget_is_spent_all_goes_to_the_lowest_tier_at_once() -> None:
    it = spending(1.0, ManualClock())
    it.answered("premium", 1.0)
    route = ask(it, HARD)
    assert (route.tier, route.reasons[-1]) == ("light", "score +4.5, premium for 0.0% of requests, by the budget")


def test_a_budget_is_no_reason_to_pay_for_a_stronger_tier_where_one_is_in_trouble() -> None:
    it = spending(1.0, ManualClock())
    until = it.clock.now() + timedelta(minutes=5)
    it.health.heard(LaneThrottled(signal_id=uuid4(), lane="local/tiny", until=until, reason="rate_limited"))
    assert ask(it, "What is the capital of Peru?").tier == "premium"
    it.answered("premium", 1.0)
    route = ask(it, "What is the capital of Peru?")
    assert route.tier == "light"
    assert route.reasons[-1] == "light is in trouble (rate_limited), and the budget allows nothing stronger"


def test_a_budget_nobody_knows_the_costs_for_changes_nothing() -> None:
    assert ask(spending(1.0, ManualClock()), HARD).tier == "premium"


@given(st.floats(0.01, 1000), st.floats(0, 0.1), st.floats(0, 0.1))
def test_a_budget_never_asks_for_more_than_all_or_less_than_none(budget: float, light: float, premium: float) -> None:
    it = spending(budget, ManualClock(), router__shares={"premium": 0.4}, router__calibration={"observations": 1})
    it.answered("light", light, times=FEW)
    it.answered("premium", premium, times=FEW)
    for _ in range(3):
        ask(it, HARD)
    assert 0 <= it.thresholds.of(RULES).shares["premium"] <= 0.4


def test_memory_does_not_grow_with_scorers_that_are_announced() -> None:
    it = Deciding(make.policy(router__shares={"premium": 0.5}))
    for number in range(100):
        it.thresholds.heard(RouterScored(delta_id=uuid4(), scorer=f"head {number}", scores={10**9: 1}))
    assert len(it.thresholds._recent) == 16
    assert "head 99" in it.thresholds._recent


def shown(tier: str = "premium") -> tuple[float, float]:
    """What operators see: the share of a tier, and where it begins."""
    return metrics.ROUTER_SHARE.labels(tier)._value.get(), metrics.ROUTER_THRESHOLD.labels(tier)._value.get()


def test_operators_see_where_the_tiers_begin_also_when_a_budget_is_spent_and_when_it_is_ample_again() -> None:
    clock = ManualClock()
    policy = make.policy(router__usd_per_day=1.0, router__calibration={"observations": 10, "half_life": "1h"})
    it = Deciding(policy, clock)
    it.thresholds = Thresholds(policy.router, it.ledger, clock)
    scored = Scored(4.5, (), informed=True, by="rules")

    def heard() -> None:
        it.thresholds.heard(RouterScored(delta_id=uuid4(), scorer="rules", scores={4500: 10, -1500: 30}))
        it.thresholds.of(scored)

    heard()
    assert shown() == pytest.approx((0.25, policy.router.thresholds["premium"]))
    it.answered("premium", 1.0)
    heard()
    assert shown() == (0.0, 100.0)
    clock.skip(86_400)
    heard()
    assert shown() == pytest.approx((0.25, policy.router.thresholds["premium"]))

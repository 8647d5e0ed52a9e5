"""What health, cost and a tenant's limits make of the tier a request deserves."""

from datetime import timedelta
from uuid import uuid4

import pytest

from services.router.decision import Refused
from services.router.ledger import FEW
from shared.events import LaneThrottled
from tests.support import make
from tests.support.clock import ManualClock
from tests.support.routers import LADDER, Deciding

HARD = "please prove it for my own function, my friend"
FAIR = "my friend is asking for a function"
PLAIN = "What is the capital of Peru?"


def throttled(it: Deciding, tier: str, *, seconds: float = 30) -> None:
    until = it.clock.now() + timedelta(seconds=seconds)
    it.health.heard(LaneThrottled(signal_id=uuid4(), lane=tier, tier=tier, until=until, reason="rate_limited"))


@pytest.mark.parametrize(("prompt", "tier"), [(HARD, "premium"), (FAIR, "middle"), (PLAIN, "light")])
def test_the_highest_threshold_that_is_reached_picks_the_tier(prompt: str, tier: str) -> None:
    assert Deciding(make.policy(**LADDER)).route(make.request(prompt)).tier == tier


def test_the_reason_names_the_threshold_that_was_not_reached_too() -> None:
    route = Deciding(make.policy(**LADDER)).route(make.request(PLAIN))
    assert route.reasons[-1] == "score -1.5, middle from +1"
    assert route.scorer == "rules"


def test_a_tier_in_trouble_is_replaced_by_the_next_stronger_and_comes_back() -> None:
    clock = ManualClock()
    it = Deciding(make.policy(**LADDER), clock)
    throttled(it, "middle")
    route = it.route(make.request(FAIR))
    assert route.tier == "premium"
    assert route.reasons[-1] == "middle is in trouble (rate_limited): premium instead"
    clock.skip(30)
    assert it.route(make.request(FAIR)).tier == "middle"


def test_where_nothing_stronger_is_well_a_request_waits_where_it_belongs() -> None:
    it = Deciding(make.policy(**LADDER))
    throttled(it, "premium")
    route = it.route(make.request(HARD))
    assert route.tier == "premium"
    assert "nothing stronger is well" in route.reasons[-1]


def test_a_signal_may_be_taken_back_and_never_lasts_long() -> None:
    clock = ManualClock()
    it = Deciding(make.policy(**LADDER), clock)
    throttled(it, "middle")
    throttled(it, "middle", seconds=0)
    assert it.route(make.request(FAIR)).tier == "middle"
    throttled(it, "middle", seconds=86_400)
    clock.skip(601)
    assert it.route(make.request(FAIR)).tier == "middle"


def test_a_pinned_tier_is_kept_whatever_its_health() -> None:
    it = Deciding(make.policy(**LADDER))
    throttled(it, "middle")
    assert it.route(make.request(FAIR, model="middle")).tier == "middle"


def test_a_stronger_tier_that_costs_less_is_taken() -> None:
    it = Deciding(make.policy(**LADDER))
    it.answered("light", 0.003, times=FEW)
    it.answered("middle", 0.002, times=FEW)
    assert it.route(make.request(PLAIN)).tier == "light"  # nothing is known of premium's cost
    it.answered("premium", 0.01, times=FEW)
    route = it.route(make.request(PLAIN))
    assert (route.tier, route.reasons[-1]) == ("middle", "middle costs less than light at present")
    assert it.route(make.request(HARD)).tier == "premium"


def capped(**limits: object) -> Deciding:
    return Deciding(make.policy(router__tenants={"acme": limits}))


def test_a_tenant_s_share_of_the_strong_tier_is_held() -> None:
    it = capped(shares={"premium": 0.1})
    taken = [it.route(make.request(HARD, tenant="acme")) for _ in range(1000)]
    assert [route.tier for route in taken].count("premium") == pytest.approx(100, abs=2)
    lowered = next(route for route in taken if route.tier == "light")
    assert lowered.reasons[-1] == "premium is for 10% of acme's requests: light instead of premium"
    assert it.route(make.request(HARD, tenant="globex")).tier == "premium"


def test_a_share_of_nothing_is_nothing() -> None:
    it = capped(shares={"premium": 0.0})
    assert {it.route(make.request(HARD, tenant="acme")).tier for _ in range(50)} == {"light"}


def test_after_a_quiet_time_a_tenant_may_burst_but_not_save_up_for_ever() -> None:
    it = capped(shares={"premium": 0.5})
    for _ in range(1000):
        it.route(make.request(PLAIN, tenant="acme"))
    taken = [it.route(make.request(HARD, tenant="acme")).tier for _ in range(20)]
    assert taken[:10] == ["premium"] * 10
    assert taken.count("premium") < 20


def test_a_tenant_that_has_spent_its_money_gets_the_lowest_tier_also_where_it_asks_for_another() -> None:
    it = capped(usd_per_day=1.0)
    assert it.route(make.request(HARD, tenant="acme", model="premium")).tier == "premium"
    it.answered("premium", 1.5, tenant="acme")
    route = it.route(make.request(HARD, tenant="acme", model="premium"))
    assert route.tier == "light"
    assert route.reasons == (
        "the request asks for premium",
        "acme has spent 1.5000 of 1 dollars today: light instead of premium",
    )
    assert it.route(make.request(HARD, tenant="globex")).tier == "premium"


def test_the_next_day_the_money_is_there_again() -> None:
    clock = ManualClock()
    it = Deciding(make.policy(router__tenants={"acme": {"usd_per_day": 1.0}}), clock)
    it.answered("premium", 1.5, tenant="acme")
    assert it.route(make.request(HARD, tenant="acme")).tier == "light"
    clock.skip(86_400)
    assert it.route(make.request(HARD, tenant="acme")).tier == "premium"


def test_a_tenant_may_have_its_requests_fail_instead() -> None:
    it = capped(usd_per_day=1.0, over="error")
    it.answered("premium", 1.5, tenant="acme")
    for prompt in (HARD, PLAIN):
        refused = it.decider.decide(make.request(prompt, tenant="acme"))
        assert isinstance(refused, Refused)
        assert "acme has spent 1.5000 of 1 dollars today" in refused.reason

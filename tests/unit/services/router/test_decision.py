"""What health, cost and a tenant's limits make of the tier a request deserves."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from services.router import health
from services.router.decision import Refused
from shared.events import LaneThrottled, Request
from tests.support import make
from tests.support.clock import ManualClock
from tests.support.routers import LADDER, Deciding

HARD = "please prove it for my own function, my friend"
FAIR = "my friend is asking for a function"
PLAIN = "What is the capital of Peru?"


LANES = {"light": "local/tiny", "middle": "local/mid", "premium": "local/large"}


def throttled(it: Deciding, tier: str, *, seconds: float | None = 30) -> None:
    until = None if seconds is None else it.clock.now() + timedelta(seconds=seconds)
    it.health.heard(LaneThrottled(signal_id=uuid4(), lane=LANES[tier], until=until, reason="rate_limited"))


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
    assert route.reasons[-1] == "premium is in trouble (rate_limited), and nothing stronger will do"


def test_a_signal_may_be_taken_back_and_never_lasts_long() -> None:
    clock = ManualClock()
    it = Deciding(make.policy(**LADDER), clock)
    throttled(it, "middle")
    throttled(it, "middle", seconds=1)
    throttled(it, "middle", seconds=-1)  # late: less than what is known takes nothing back
    clock.skip(20)
    assert it.route(make.request(FAIR)).tier == "premium"
    throttled(it, "middle", seconds=None)
    assert it.route(make.request(FAIR)).tier == "middle"
    throttled(it, "middle", seconds=86_400)
    clock.skip(601)
    assert it.route(make.request(FAIR)).tier == "middle"


def test_trouble_without_a_reason_is_trouble() -> None:
    it = Deciding(make.policy(**LADDER))
    until = it.clock.now() + timedelta(seconds=30)
    it.health.heard(LaneThrottled(signal_id=uuid4(), lane=LANES["middle"], until=until))
    assert it.route(make.request(FAIR)).reasons[-1] == "middle is in trouble (no reason given): premium instead"


def test_what_is_broken_is_trouble_for_however_short_a_time_and_a_short_pause_is_none() -> None:
    it = Deciding(make.policy(**LADDER))
    for seconds, broken, tier in ((1.6, False, "middle"), (-0.1, True, "middle"), (1.6, True, "premium")):
        until = it.clock.now() + timedelta(seconds=seconds)
        signal = LaneThrottled(signal_id=uuid4(), lane=LANES["middle"], until=until, reason="x", broken=broken)
        it.health.heard(signal)
        assert it.route(make.request(FAIR)).tier == tier


def test_a_pinned_tier_is_kept_whatever_its_health() -> None:
    it = Deciding(make.policy(**LADDER))
    throttled(it, "middle")
    assert it.route(make.request(FAIR, model="middle")).tier == "middle"


def test_two_tiers_on_one_lane_are_in_trouble_together() -> None:
    it = Deciding(make.policy(tiers__premium={"model": "local/tiny"}))
    throttled(it, "light")
    assert it.route(make.request(PLAIN)).tier == "light"


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


def test_what_the_router_itself_would_lift_fails_no_request_and_takes_no_share() -> None:
    it = capped(shares={"premium": 0.0}, over="error")
    throttled(it, "light")
    route = it.route(make.request(PLAIN, tenant="acme"))
    assert (route.tier, route.reasons[-1]) == (
        "light",
        "light is in trouble (rate_limited), and nothing stronger will do",
    )


def test_a_tier_beside_the_ladder_can_be_limited_too() -> None:
    policy = make.policy(tiers__ultra={"model": "local/ultra"}, router__tenants={"acme": {"shares": {"ultra": 0.0}}})
    it = Deciding(policy)
    assert it.route(make.request(PLAIN, tenant="acme", model="ultra")).tier == "premium"
    assert it.route(make.request(PLAIN, tenant="globex", model="ultra")).tier == "ultra"


def test_the_reason_names_a_small_share_as_it_is() -> None:
    it = capped(shares={"premium": 0.005})
    it.route(make.request(HARD, tenant="acme"))
    route = it.route(make.request(HARD, tenant="acme"))
    assert "premium is for 0.5% of acme's requests" in route.reasons[-1]


def test_what_is_known_of_a_lane_is_kept_up_to_date_where_as_many_are_known_as_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "MOST_LANES", 2)
    it = Deciding(make.policy(**LADDER))
    throttled(it, "middle", seconds=30)
    throttled(it, "light", seconds=30)
    throttled(it, "premium", seconds=30)
    throttled(it, "middle", seconds=60)
    assert it.health.trouble(LANES["premium"]) is None, "no room"
    it.clock.skip(45)  # type: ignore[attr-defined]  # the test's
    assert it.health.trouble(LANES["middle"]) == "rate_limited"
    assert it.health.trouble(LANES["light"]) is None


def drawn(count: int) -> list[Request]:
    """Equal prompts whose ids draw every number from 0 to 1."""
    return [make.request(HARD, id=UUID(int=number * 2**48 // count)) for number in range(count)]


def test_the_chance_of_a_tier_is_on_record() -> None:
    """Of ten requests with the same score one is to go up: which one it is, is a draw."""
    clock = ManualClock()
    it = Deciding(make.policy(router__shares={"premium": 0.1}, router__calibration={"observations": 1}), clock)
    for _ in range(200):
        it.route(make.request(HARD))
    clock.skip(10)
    routes = [it.route(request) for request in drawn(300)]
    assert {route.tier: route.chance for route in routes} == {
        "premium": pytest.approx(0.1, abs=0.01),
        "light": pytest.approx(0.9, abs=0.01),
    }
    pinned = it.route(make.request(HARD, model="premium"))
    assert pinned.chance is None


def test_where_a_score_decides_the_chance_is_one_and_where_trouble_does_nobody_knows() -> None:
    it = Deciding(make.policy(**LADDER))
    assert [it.route(make.request(prompt)).chance for prompt in (HARD, FAIR, PLAIN)] == [1.0, 1.0, 1.0]
    throttled(it, "middle")
    assert it.route(make.request(FAIR)).chance is None


def test_of_three_tiers_one_draw_decides() -> None:
    clock = ManualClock()
    shares = {"router__shares": {"middle": 0.3, "premium": 0.2}, "router__calibration": {"observations": 1}}
    it = Deciding(make.policy(**LADDER | shares), clock)
    for _ in range(200):
        it.route(make.request(HARD))
    clock.skip(10)
    chances = {route.tier: route.chance for route in map(it.route, drawn(200))}
    assert chances == {
        tier: pytest.approx(part, abs=0.01) for tier, part in (("light", 0.5), ("middle", 0.3), ("premium", 0.2))
    }

"""Requests that name no tier go to a cheaper one while they would wait too long."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from shared.events import LaneThrottled, RequestRouted
from tests.support import make
from tests.support.broker import WatchedBroker
from tests.support.brownout import ONE, aged
from tests.support.clock import ManualClock
from tests.support.routers import LADDER, Deciding, replica_of

FAIR = "my own function, my friend"  # of the middle tier
HARD = "please prove it for my own function, my friend"  # of the strongest
RULES: dict[str, Any] = {"brownout": {"cheaper_tier": {"from": "10s"}}, **LADDER}


def deciding(ages: dict[str, float], **policy: Any) -> Deciding:
    it = Deciding(make.policy(**RULES | policy))
    it.brownout.told(aged(ONE, **ages))
    return it


def test_it_goes_one_tier_down_and_says_why() -> None:
    route = deciding({"premium": 42.4}).route(make.request(HARD))
    assert route.tier == "middle"
    assert route.reasons[-1] == "in premium one waits 42 s: middle instead"
    assert route.lowered is not None
    assert (route.lowered.step, route.lowered.tier, route.lowered.age_s) == ("cheaper_tier", "premium", 42.4)
    assert route.chance is None  # it was not the draw that decided


@pytest.mark.parametrize(
    ("ages", "tier"),
    [
        ({"premium": 9.0}, "premium"),
        ({"premium": 42.0, "middle": 11.0}, "light"),
        ({"premium": 42.0, "middle": 11.0, "light": 30.0}, "premium"),
        ({"light": 42.0}, "premium"),
    ],
)
def test_it_goes_only_where_it_waits_less(ages: dict[str, float], tier: str) -> None:
    assert deciding(ages).route(make.request(HARD)).tier == tier


def test_a_tier_that_the_client_names_is_its_own() -> None:
    route = deciding({"premium": 42.0}).route(make.request(HARD, model="premium"))
    assert (route.tier, route.lowered) == ("premium", None)


def test_a_tier_in_trouble_is_no_help() -> None:
    it = deciding({"premium": 42.0})
    until = it.clock.now() + timedelta(seconds=30)
    it.health.heard(LaneThrottled(signal_id=uuid4(), lane="local/mid", until=until, reason="down"))
    assert it.route(make.request(HARD)).tier == "light"


def test_nor_is_one_that_the_tenant_may_not_have() -> None:
    it = deciding({"premium": 42.0}, router__tenants={"acme": {"shares": {"middle": 0.0}}})
    assert it.route(make.request(HARD, tenant="acme")).tier == "light"


def test_what_is_lowered_does_not_use_up_the_tenant_s_share_of_the_tier_it_does_not_get() -> None:
    it = deciding({"premium": 42.0}, router__tenants={"acme": {"shares": {"premium": 0.1}}})
    for _ in range(20):
        assert it.route(make.request(HARD, tenant="acme")).tier == "middle"
    it.brownout.told(aged())
    assert [it.route(make.request(HARD, tenant="acme")).tier for _ in range(2)] == ["premium", "premium"]


async def test_a_replica_hears_of_it_and_the_routed_request_carries_it() -> None:
    clock = ManualClock()
    policy = make.policy(**RULES)
    replica = replica_of(policy, policy, await WatchedBroker.ready(), clock)
    await replica.news.heard(aged(premium=42.0))
    (routed,) = await replica.router.missed(make.missed(make.request(HARD)))
    assert isinstance(routed, RequestRouted)
    assert routed.routing_key == "request.routed.middle"
    assert [note.step for note in routed.brownout] == ["cheaper_tier"]
    assert routed.route.shadow_tier == "middle"  # the policy that is tried out hears of it too
    await clock.advance(60)
    (routed,) = await replica.router.missed(make.missed(make.request(HARD)))
    assert isinstance(routed, RequestRouted)
    assert (routed.route.tier, routed.brownout) == ("premium", ())

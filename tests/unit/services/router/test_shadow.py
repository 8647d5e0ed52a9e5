"""A policy that is tried out beside the one that decides."""

from pathlib import Path

import pytest
import structlog

from services.router.assembly import Replica
from services.router.ledger import FEW
from services.router.scoring import Rules, Scored
from services.router.shadow import Shadow
from services.router.vectors import Embedding
from shared.events import RequestRouted, Route
from shared.policy import Policy, load_policy
from shared.settings import packaged_policy
from shared.telemetry import metrics
from tests.support import make
from tests.support.broker import WatchedBroker
from tests.support.clock import ManualClock
from tests.support.routers import Deciding, replica_of

FAIR = "my friend is asking for a function"


async def routed(other: Policy, model: str = "auto") -> Route:
    replica = replica_of(make.policy(), other, await WatchedBroker.ready(), ManualClock())
    (event,) = await replica.router.missed(make.missed(make.request(FAIR, model=model)))
    assert isinstance(event, RequestRouted)
    return event.route


async def test_the_other_policy_decides_nothing_and_is_told_of() -> None:
    with structlog.testing.capture_logs() as logs:
        route = await routed(make.policy(router__thresholds={"premium": 1.0}))
    assert (route.tier, route.shadow_tier) == ("light", "premium")
    (disagreement,) = [line for line in logs if line["event"] == "the other policy disagrees"]
    assert (disagreement["tier"], disagreement["other"]) == ("light", "premium")
    assert "score +1.5, premium from +1" in disagreement["why"]


async def test_where_both_agree_nothing_is_logged() -> None:
    with structlog.testing.capture_logs() as logs:
        route = await routed(make.policy())
    assert route.shadow_tier == "light"
    assert not [line for line in logs if line["event"] == "the other policy disagrees"]


async def test_a_model_the_other_policy_does_not_know_harms_nothing() -> None:
    other = make.policy(tiers__light={"model": "local/other"})
    assert (await routed(other, model="tiny")).shadow_tier is None


async def test_a_mistake_of_the_other_policy_is_no_harm_to_the_request() -> None:
    def broken(prompt: str, embedding: Embedding | None) -> Scored:
        raise ZeroDivisionError

    policy, broker = make.policy(), await WatchedBroker.ready()
    rules = Rules(policy.router).score
    replica = Replica.assemble(policy, rules, (policy, broken), broker, ManualClock())
    with structlog.testing.capture_logs() as logs:
        (event,) = await replica.router.missed(make.missed(make.request(FAIR)))
    assert isinstance(event, RequestRouted)
    assert (event.route.tier, event.route.shadow_tier) == ("light", None)
    assert "the other policy failed" in [line["event"] for line in logs]


def test_what_the_other_policy_would_refuse_would_have_cost_nothing() -> None:
    other = make.policy(router__tenants={"acme": {"shares": {"premium": 0.0}, "over": "error"}})
    it = Deciding(other)
    it.answered("premium", 0.02, times=FEW)
    request = make.request(FAIR, tenant="acme", model="premium")
    route = Deciding().route(request)
    this, shadow = (metrics.ROUTER_SHADOW_COST.labels(policy)._value for policy in ("this", "shadow"))
    before = this.get(), shadow.get()
    assert Shadow(it.decider, it.ledger).beside(request, None, route).shadow_tier is None
    assert (this.get() - before[0], shadow.get() - before[1]) == (pytest.approx(0.02), 0)


def test_the_file_is_looked_for_beside_the_policy(tmp_path: Path) -> None:
    text = packaged_policy().read_text().replace("[router]\n", '[router]\nshadow = "n.toml"\n')
    (tmp_path / "policy.toml").write_text(text)
    assert load_policy(tmp_path / "policy.toml").router.shadow == tmp_path / "n.toml"

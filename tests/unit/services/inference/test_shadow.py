"""Calls nobody waits for: one more attempt at the most, no event without an answer, costs of their own."""

import subprocess
import sys
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.inference.assembly import Replica
from services.inference.completion import Completion
from services.inference.errors import ProviderError, ProviderFault, ProviderRefused, RateLimited
from services.inference.lanes.choice import PATIENCE_S
from shared.events import Event, Request, ShadowCompleted, ShadowRequested, Usage
from shared.examples import example
from shared.memory import MemoryBroker
from shared.policy.tiers import Lane, Tier
from tests.support import make
from tests.support.clock import HurriedClock
from tests.support.pool import FakePool

ANSWER = Completion("Paris.", Usage(input_tokens=9, output_tokens=2), "stop", 0.25)


class FakeProvider:
    """Fails as scripted, then answers."""

    def __init__(self, *script: ProviderError) -> None:
        self.script = list(script)
        self.calls: list[tuple[Request, Tier, float]] = []

    async def complete(self, request: Request, tier: Tier, lane: Lane, *, timeout_s: float) -> Completion:
        self.calls.append((request, tier, timeout_s))
        if self.script:
            raise self.script.pop(0)
        return ANSWER


def shadow(**changes: Any) -> ShadowRequested:
    event = example(ShadowRequested)
    assert isinstance(event, ShadowRequested)
    return event.model_copy(update=changes)


async def run(provider: FakeProvider, event: ShadowRequested | None = None) -> tuple[list[Event], HurriedClock]:
    clock = HurriedClock()
    replica = Replica.assemble(make.policy(), provider, FakePool().as_pool, MemoryBroker(), clock)
    events = await replica.shadows.requested(event or shadow())
    return list(events), clock


def total(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"{name}_total", labels) or 0.0


@pytest.mark.parametrize("purpose", ["audit", "refresh"])
async def test_the_answer_goes_back_with_all_that_was_asked(purpose: str) -> None:
    provider, event = FakeProvider(), shadow(purpose=purpose, tier="premium")
    (outcome,), _ = await run(provider, event)
    assert isinstance(outcome, ShadowCompleted)
    assert outcome.shadow == event
    assert (outcome.output_text, outcome.usage, outcome.cost_usd) == (ANSWER.text, ANSWER.usage, 0.25)
    assert outcome.model == "local/large"
    assert outcome.routing_key == f"response.shadowed.{purpose}"
    ((request, tier, timeout_s),) = provider.calls
    assert (request, tier.model, timeout_s) == (event.request, "local/large", 10)


async def test_a_tier_that_is_no_more_is_not_called() -> None:
    provider = FakeProvider()
    assert (await run(provider, shadow(tier="gone")))[0] == []
    assert provider.calls == []


@pytest.mark.parametrize(
    ("error", "least_s"),
    [(ProviderFault("500"), 0), (RateLimited("429", retry_after_s=3), 3), (RateLimited("429"), 0.25)],
)
async def test_what_may_pass_is_tried_once_more_when_the_lane_will(error: ProviderError, least_s: float) -> None:
    provider = FakeProvider(error)
    events, clock = await run(provider)
    assert (len(events), len(provider.calls)) == (1, 2)
    assert clock.monotonic() >= least_s


async def test_nobody_is_told_of_a_failure() -> None:
    provider = FakeProvider(ProviderFault("500"), ProviderFault("500"), ProviderFault("500"))
    events, _ = await run(provider)
    assert (events, len(provider.calls)) == ([], 2)


@pytest.mark.parametrize("error", [ProviderRefused("400"), RateLimited("429", retry_after_s=PATIENCE_S + 1)])
async def test_what_will_not_pass_soon_is_not_tried_again(error: ProviderError) -> None:
    provider = FakeProvider(error)
    events, _ = await run(provider)
    assert (events, len(provider.calls)) == ([], 1)


async def test_its_cost_is_counted_apart() -> None:
    names = {"purpose": "audit", "tier": "light", "model": "local/tiny"}
    calls = {"purpose": "audit", "tier": "light"}
    before = total("forebay_shadow_cost_usd", **names)
    clients = total("forebay_cost_usd", tier="light", lane="local/tiny")
    failed = total("forebay_shadow_calls", **calls, outcome="provider_fault")
    await run(FakeProvider(ProviderFault("500")))
    assert total("forebay_shadow_cost_usd", **names) - before == 0.25
    assert total("forebay_shadow_calls", **calls, outcome="provider_fault") - failed == 1
    assert total("forebay_cost_usd", tier="light", lane="local/tiny") == clients


def test_who_handles_answers_need_not_import_litellm() -> None:
    code = "import sys, services.inference.handler, services.inference.shadow, services.inference.embeddings\n"
    code += "sys.exit('litellm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Which tier, and why."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.signals import Signals, Text
from shared.events import CacheVerdict, RequestRouted, ResponseFailed
from shared.policy import load_policy
from shared.settings import packaged_policy
from tests.support import make
from tests.support.routers import Deciding

POLICY = make.policy()
ROUTER = Deciding(POLICY)
PARTS = [
    "Hello.",
    "please prove it",
    "step by step",
    "what is",
    "capital of",
    "a function",
    "12 * 7",
    "first do it, then rest",
    "\n- one\n- two\n",
    "a, b, c, d, e",
    "Why? How?",
    "my friend went on a very nice long holiday",
]
prompts = st.lists(st.sampled_from(PARTS), min_size=1, max_size=6).map(" ".join)


@given(prompts)
def test_the_score_is_the_sum_of_the_weights_of_what_fired(prompt: str) -> None:
    route = ROUTER.route(make.request(prompt))
    names = [name for name, _ in Signals(POLICY.router.length, POLICY.router.words).fired(Text.read(prompt))]
    assert route.score is not None
    assert route.score == pytest.approx(sum(getattr(POLICY.router.weights, name) for name in names))
    assert [reason.split(":")[0] for reason in route.reasons[: len(names)]] == (names or ["no signal"])[: len(names)]
    if names:
        assert route.tier == ("premium" if route.score >= POLICY.router.thresholds["premium"] else "light")
    assert route.model == POLICY.tiers[route.tier].model


@pytest.mark.parametrize("default", ["light", "premium"])
def test_without_any_signal_the_default_is_taken(default: str) -> None:
    route = Deciding(make.policy(router__default=default)).route(
        make.request("my friend went on a very nice long holiday")
    )
    assert (route.tier, route.score) == (default, 0.0)


def test_the_threshold_itself_is_enough() -> None:
    prompt = "my friend is asking for a function"
    for threshold, tier in ((1.5, "premium"), (1.51, "light")):
        assert Deciding(make.policy(router__thresholds={"premium": threshold})).route(make.request(prompt)).tier == tier


def test_the_reasons_add_up_for_a_reader() -> None:
    route = ROUTER.route(make.request("Please prove it step by step for my function"))
    assert route.reasons == (
        "code: 'function' (+1.5)",
        "reasoning: 'prove' (+3)",
        "score +4.5, premium from +2",
    )


@pytest.mark.parametrize(
    ("model", "tier"), [("light", "light"), ("premium", "premium"), ("large", "premium"), ("local/tiny", "light")]
)
def test_who_names_a_tier_or_model_gets_it_whatever_the_prompt_says(model: str, tier: str) -> None:
    route = ROUTER.route(make.request("Please prove it step by step", model=model))
    assert (route.tier, route.score, route.model) == (tier, None, POLICY.tiers[tier].model)
    assert route.reasons == (f"the request asks for {model}",)


async def test_what_is_routed_carries_all_that_came() -> None:
    verdict = CacheVerdict(tier="miss", reason="numbers", similarity=0.97)
    event = make.missed(make.request("What is the score today?", model="premium"), verdict=verdict)
    (routed,) = await ROUTER.router.missed(event)
    assert isinstance(routed, RequestRouted)
    assert (routed.request, routed.key, routed.verdict) == (event.request, event.key, verdict)
    assert routed.routing_key == "request.routed.premium"
    assert routed.freshness.category == "dynamic"


async def test_the_last_turn_of_a_conversation_is_judged() -> None:
    turns = ({"role": "system", "content": "prove it step by step"}, {"role": "user", "content": "Hello."})
    (routed,) = await ROUTER.router.missed(make.missed(make.request(input=turns)))
    assert isinstance(routed, RequestRouted)
    assert routed.route.tier == "light"


@pytest.mark.parametrize(
    ("prompt", "tier"),
    [
        ("What is the capital of France?", "light"),
        ("Translate 'good morning' into German.", "light"),
        ("Compare REST and gRPC for internal services and justify your choice step by step.", "premium"),
        ("Prove that the square root of two is irrational, then explain why the proof works.", "premium"),
    ],
)
def test_the_policy_that_ships_sends_plain_and_hard_prompts_where_they_belong(prompt: str, tier: str) -> None:
    assert Deciding(load_policy(packaged_policy())).route(make.request(prompt)).tier == tier


async def test_a_request_over_its_tenant_s_limits_gets_its_terminal_result() -> None:
    it = Deciding(make.policy(router__tenants={"acme": {"usd_per_day": 1.0, "over": "error"}}))
    it.answered("premium", 2.0, tenant="acme")
    event = make.missed(make.request("Hello.", tenant="acme", metadata={"a": "b"}))
    (failed,) = await it.router.missed(event)
    assert isinstance(failed, ResponseFailed)
    assert (failed.request_id, failed.code, failed.attempts) == (event.request.id, "tenant_limit", 0)
    assert failed.exact == (event.key.exact if event.key else None)
    assert "acme has spent 2.0000 of 1 dollars today" in failed.message
    assert failed.metadata == {"a": "b"}

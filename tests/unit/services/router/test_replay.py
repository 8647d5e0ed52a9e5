"""Stored requests through another policy."""

import json
from datetime import timedelta
from uuid import uuid4

import numpy as np
import pytest

from services.router.replay import REFUSED, UNKNOWN, Replayed, Stored, replay, stored
from services.router.scoring import Rules
from shared.policy import Policy
from tests.support import make
from tests.support.clock import START
from tests.support.pool import FakePool

HARD = "please prove it for my own function, my friend"
FAIR = "my friend is asking for a function"


def ran(prompt: str, tier: str = "light", *, minute: int = 0, usd: float = 0.001, **changes: object) -> Stored:
    request = make.request(prompt, id=uuid4(), accepted_at=START + timedelta(minutes=minute), **changes)
    return Stored(request, None, tier, make.policy().tiers[tier].model, input_tokens=90, output_tokens=10, cost_usd=usd)


def replayed(rows: list[Stored], policy: Policy | None = None) -> Replayed:
    policy = policy or make.policy(prices={})
    return replay(rows, policy, Rules(policy.router).score)


def test_under_the_same_policy_nothing_changes() -> None:
    done = replayed([ran(FAIR), ran(HARD, "premium", usd=0.01)])
    assert (done.requests, done.was, done.would) == (2, done.would, {"light": 1, "premium": 1})
    assert done.would_usd == pytest.approx(done.was_usd) == pytest.approx(0.011)
    assert done.disagreements == []


def test_another_threshold_moves_requests_and_their_cost() -> None:
    rows = [ran(FAIR), ran(FAIR), ran(HARD, "premium", usd=0.01)]
    done = replayed(rows, make.policy(prices={}, router__thresholds={"premium": 1.0}))
    assert done.would == {"premium": 3}
    assert done.would_usd == pytest.approx(0.03)
    assert [*done.moves()] == [("light", "premium", 2)]
    assert done.disagreements[0].reasons[-1] == "score +1.5, premium from +1"


def test_the_cost_of_a_tier_that_no_row_ran_at_is_said_to_be_a_guess() -> None:
    done = replayed([ran(HARD)])
    assert (done.would["premium"], done.guessed) == (1, 1)
    assert done.would_usd == pytest.approx(0.001)


def test_another_model_at_a_tier_costs_what_the_policy_says_or_nobody_knows() -> None:
    rows = [ran(HARD, "premium", usd=0.01)]
    cheaper = {"tiers__premium": {"model": "local/mini"}}
    assert replayed(rows, make.policy(prices={}, **cheaper)).guessed == 1
    done = replayed(rows, make.policy(**cheaper, **{"prices__local/mini": {"input": 1.0, "output": 10.0}}))
    assert done.guessed == 0
    assert done.would_usd == pytest.approx((90 * 1.0 + 10 * 10.0) / 1e6)


def test_a_share_is_calibrated_on_the_rows_in_their_own_time() -> None:
    policy = make.policy(router__shares={"premium": 0.1}, router__calibration={"observations": 50})
    done = replayed([ran(HARD if n % 2 else FAIR, minute=n) for n in range(1000)], policy)
    assert done.would["premium"] / done.requests == pytest.approx(0.1, abs=0.05)


def test_limits_of_tenants_are_held_and_what_they_refuse_costs_nothing() -> None:
    limits = {make.request().tenant: {"usd_per_day": 0.0025, "over": "error"}}
    done = replayed([ran(FAIR, minute=n) for n in range(5)], make.policy(router__tenants=limits))
    assert done.would == {"light": 3, REFUSED: 2}
    assert done.would_usd == pytest.approx(0.003)


def test_a_request_for_a_model_that_is_gone_is_counted_apart() -> None:
    done = replayed([ran(FAIR, model="gpt-2")])
    assert done.would == {UNKNOWN: 1}


def test_no_rows_are_no_mistake() -> None:
    assert replayed([]).requests == 0


async def test_rows_become_requests_again() -> None:
    request = make.request(HARD)
    row = {
        **{name: getattr(request, name) for name in ("id", "tenant", "priority", "digest", "accepted_at")},
        "asked": json.dumps({"input": HARD, "model": "premium"}),
        "tier": "premium",
        "model": "local/large",
        "cost_usd": 0.5,
        "input_tokens": 9,
        "output_tokens": 1,
        "embedding": "[3,4]",
        "embedder": "test/1",
    }
    earlier = row | {"accepted_at": request.accepted_at - timedelta(hours=1), "embedding": None}
    pool = FakePool(row, earlier)
    first, second = await stored(pool.as_pool, START, START + timedelta(days=1), tenant=None, limit=10)
    assert (first.embedding, second.request.prompt, second.request.model) == (None, HARD, "premium")
    assert (second.tier, second.tokens, second.cost_usd) == ("premium", 10, 0.5)
    assert second.embedding is not None
    assert second.embedding.embedder == "test/1"
    assert np.allclose(second.embedding.vector, [0.6, 0.8])

"""A cascade through all services; its models are SIMULATED (tests/support): they agree or differ as scripted."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from infra.local import stack as local
from shared import database
from shared.settings import packaged_policy
from tests.e2e.conftest import PATIENCE_S, Api
from tests.support.simulated_provider import SimulatedProvider, answer

HARD = "Prove step by step that {} is a prime number. Answer with its name."


@pytest.fixture
async def simulated() -> AsyncIterator[SimulatedProvider]:
    async with SimulatedProvider().serving() as provider:
        yield provider


@pytest.fixture
async def cascading(
    simulated: SimulatedProvider, tmp_path: Path, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Api]:
    """A stack of its own, whose policy tries light before premium."""
    policy = tmp_path / "policy.toml"
    policy.write_text(packaged_policy().read_text() + '\n[tiers.premium.cascade]\nfirst = "light"\n')
    monkeypatch.setenv("FOREBAY_LOCAL_MODEL_URL", simulated.url)
    home, without_model = tmp_path / "stack", ("rabbitmq", "postgres")
    try:
        stack = await asyncio.to_thread(
            lambda: local.up(home, say=print, policy=policy, infrastructure=without_model, migrate=database.migrate)
        )
        async with httpx.AsyncClient(base_url=stack.http_url, timeout=PATIENCE_S, trust_env=False) as http:
            yield Api(http, tenant)
    finally:
        await asyncio.to_thread(local.down, home, print)


async def test_cheap_answers_that_agree_stand_and_others_do_not(cascading: Api, simulated: SimulatedProvider) -> None:
    simulated.expect(answer("Seven."), answer("seven"))
    agreed = await cascading.answer(HARD.format(7), temperature=0)
    assert [call["temperature"] for call in simulated.calls] == [0.7, 0.7]
    assert (agreed["output_text"].strip(".").lower(), agreed["source"], agreed["route"]["tier"]) == (
        "seven",
        "light",
        "premium",
    )
    assert (agreed["cascade"]["verdict"], agreed["cascade"]["calls"]) == ("agreed", 2)
    assert agreed["cost_usd"] == agreed["cascade"]["cost_usd"] > 0

    simulated.expect(answer("Eleven"), answer("Seventeen"), answer("Thirteen"))
    differed = await cascading.answer(HARD.format(13), temperature=0)
    assert [call["temperature"] for call in simulated.calls] == [0.7, 0.7, 0]
    assert (differed["output_text"], differed["source"]) == ("Thirteen", "premium")
    assert (differed["cascade"]["verdict"], differed["cascade"]["calls"]) == ("differed", 2)
    assert differed["cost_usd"] > differed["cascade"]["cost_usd"] > 0

"""The brownout ladder through all services: a SIMULATED provider becomes slow, every step comes, and goes with it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.local import stack as local
from infra.local.stack import Stack
from shared import database
from shared.settings import packaged_policy
from tests.bench.limit_replicas import toml
from tests.e2e.conftest import SHORT, Api, eventually, metric
from tests.support.simulated_provider import SimulatedProvider

HARD = "Prove step by step that {} is a prime number, for my own function."
LADDER: dict[str, Any] = {
    "cheaper_tier": {"from": "2s"},
    "stale_answers": {"from": "3s", "up_to": "1h"},
    "longer_deadline": {"from": "4s", "by": "5m"},
    "shed_bulk": {"from": "5s"},
    "settle": 0.5,
}
SLOW_S = 1.5
SURGE = 40


@pytest.fixture
async def simulated() -> AsyncIterator[SimulatedProvider]:
    async with SimulatedProvider().serving() as provider:
        yield provider


@pytest.fixture
async def stack(simulated: SimulatedProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stack]:
    """A stack of its own, whose premium tier has a lane of its own with one call at a time."""
    rules = packaged_policy().read_text()
    before, after = rules.split("[brownout]\n")
    rules = f"{before}[brownout]\n{toml(LADDER)}\n# ── Routing ──{after.split('# ── Routing ──')[1]}"
    light, premium = rules.split("[tiers.premium]\n")
    premium = premium.replace("local/smollm2-135m-instruct", "local/large", 1).replace("= 4 ", "= 1 ", 1)
    policy = tmp_path / "policy.toml"
    policy.write_text(f"{light}[tiers.premium]\n{premium}")
    monkeypatch.setenv("FOREBAY_LOCAL_MODEL_URL", simulated.url)
    home, without_model = tmp_path / "stack", ("rabbitmq", "postgres")
    try:
        yield await asyncio.to_thread(
            lambda: local.up(home, say=print, policy=policy, infrastructure=without_model, migrate=database.migrate)
        )
    finally:
        await asyncio.to_thread(local.down, home, print)


async def latency(simulated: SimulatedProvider, seconds: float) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        change = {"latency": {"kind": "constant", "value": seconds}}
        address = f"{simulated.url.removesuffix('/v1')}/control/scenario"
        assert (await http.patch(address, json=change)).status_code == 200


async def posted(api: Api, prompt: str, **fields: object) -> str:
    response = await api.post({"input": prompt, "max_output_tokens": SHORT} | fields)
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


async def bulk(api: Api, prompt: str) -> httpx.Response:
    return await api.post({"input": prompt, "model": "premium"}, headers={"Forebay-Priority": "bulk"})


async def steps_held(stack: Stack, count: int) -> None:
    """Return once so many steps hold, over both tiers."""

    async def held() -> bool:
        return await metric(stack, "ingest", "forebay_brownout_steps") == count

    await eventually(held)


def steps(shown: dict[str, Any]) -> list[str]:
    return [note["step"] for note in shown["brownout"]]


async def test_every_step_comes_while_a_provider_is_slow_and_goes_when_it_is_well(
    api: Api, stack: Stack, simulated: SimulatedProvider
) -> None:
    old = {"input": "What is a forebay?", "model": "premium", "max_output_tokens": SHORT}
    first = await api.post(old, headers={"Cache-Control": "max-age=1"})
    bought = await api.finished(first.json()["id"])
    assert (bought["source"], bought["freshness"]["ttl_s"], steps(bought)) == ("premium", 1, [])

    await latency(simulated, SLOW_S)
    surge = [await posted(api, f"Name {number} things.", model="premium") for number in range(SURGE)]

    async def whole_ladder() -> list[dict[str, Any]] | None:
        shown = (await api.get(surge[-1])).json()
        assert shown["status"] == "queued"
        found: list[dict[str, Any]] = shown["brownout"]
        return found if len(found) == len(LADDER) - 1 else None

    notes = await eventually(whole_ladder)
    assert [note["step"] for note in notes] == [step for step in LADDER if step != "settle"]
    assert all(note["tier"] == "premium" and note["age_s"] >= 5 * LADDER["settle"] for note in notes)
    await steps_held(stack, 4)

    lowered = await api.answer(HARD.format(7))
    assert (lowered["source"], steps(lowered)) == ("light", ["cheaper_tier"])
    assert lowered["route"]["reasons"][-1].endswith("light instead")

    stale = await api.answer(str(old["input"]), model="premium")
    assert (stale["source"], stale["cache"]["tier"], steps(stale)) == ("cache", "exact", ["stale_answers"])
    assert stale["cache"]["ttl_s"] < 0

    refused = await bulk(api, "Name a colour.")
    assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
    assert int(refused.headers["retry-after"]) > 0

    deadline = datetime.now(UTC) + timedelta(seconds=2)
    given = await posted(api, "Name a river.", model="premium", deadline=deadline.isoformat())
    firm = await posted(api, "Name a lake.", model="premium", deadline=deadline.isoformat(), firm_deadline=True)
    await eventually(lambda: asyncio.sleep(0, datetime.now(UTC) > deadline))

    await latency(simulated, 0)
    late, failed = await asyncio.gather(api.finished(given), api.finished(firm))
    assert (late["status"], steps(late)) == ("completed", ["longer_deadline"])
    assert datetime.fromisoformat(late["completed_at"]) > deadline
    assert (failed["error"]["code"], steps(failed)) == ("deadline_exceeded", [])
    for answered in await asyncio.gather(*map(api.finished, surge)):
        assert (answered["source"], steps(answered)) == ("premium", [])

    await steps_held(stack, 0)
    well = await api.answer(HARD.format(11))
    assert (well["source"], steps(well)) == ("premium", [])
    assert (await bulk(api, "Name a colour.")).status_code == 202
    again = await api.answer(str(old["input"]), model="premium")
    assert steps(again) == []
    assert again["cache"]["ttl_s"] > 0  # bought anew: for the stale hit, or only now

"""Trends on a real stack whose policy is short of time: seconds stand for the minutes and hours of the packaged one."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.local import stack as local
from infra.local.stack import Stack
from shared import database
from shared.background import background
from shared.broker import Message
from shared.rabbitmq import RabbitBroker
from shared.settings import packaged_policy
from tests.e2e.conftest import PATIENCE_S, SHORT, Api, Kill, eventually, metric, restarted

OTHERS = ("a comma", "a bicycle", "a violin", "a glacier", "a candle", "an acorn")
HURRIED = {"max_age": '"1s"', "fast": '"2s"', "slow": '"60s"', "floor": "12.0", "prior": "0.01", "ratio": "2.5"}
FOR_TREND = "and its topic is trending: "


# A stack of its own: no stack runs with two policies.
@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("trends")
    yield folder
    local.down(folder, print)


@pytest.fixture(scope="module")
def stack(home: Path) -> Stack:
    text = packaged_policy().read_text()
    before, trends = text.split("[trends]\n")
    for name, value in HURRIED.items():
        trends, changed = re.subn(rf"^{name} = \S+", f"{name} = {value}", trends, flags=re.MULTILINE)
        assert changed == 1
    policy = home / "policy.toml"
    policy.write_text(f"{before}[trends]\n{trends}")
    return local.up(home, say=print, policy=policy, scale={"trends": 2}, migrate=database.migrate)


@pytest.fixture
def topics(home: Path) -> Callable[[], dict[str, Any]]:
    """``forebay topics --json``."""

    def run() -> dict[str, Any]:
        told = forebay(home, "topics", "--json")
        assert told.returncode == 0, told.stderr
        shown: dict[str, Any] = json.loads(told.stdout)
        return shown

    return run


@pytest.fixture
def other(api: Api, tenant: str) -> Api:
    """Another tenant of the same stack."""
    return Api(api.http, f"{tenant}-b")


@pytest.fixture
def bring(home: Path, tmp_path: Path) -> Callable[..., None]:
    """Entries without a model's having to write them, for a tenant."""

    def run(tenant: str, *prompts: str) -> None:
        file = tmp_path / f"{tenant}.jsonl"
        lines = ({"input": each, "output_text": "Known.", "max_output_tokens": SHORT} for each in prompts)
        file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        told = forebay(home, "cache", "warm", str(file), "--tenant", tenant)
        assert told.returncode == 0, told.stderr

    return run


def forebay(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [str(Path(sys.executable).with_name("forebay")), *arguments, "--home", str(home)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


async def kept(api: Api, prompt: str) -> dict[str, Any]:
    """A prompt that is answered from the cache from now on."""

    async def from_cache() -> dict[str, Any] | None:
        answer = await api.answer(prompt)
        return answer if answer["source"] == "cache" else None

    found: dict[str, Any] = await eventually(from_cache)
    return found


async def held_back(api: Api, prompt: str) -> str:
    """Why a prompt that was answered from the cache is bought anew, once it is."""

    async def bought() -> str | None:
        cache = (await api.answer(prompt))["cache"]
        return str(cache["reason"]) if cache["tier"] == "miss" and FOR_TREND in cache["reason"] else None

    return str(await eventually(bought))


async def told(api: Api, body: dict[str, Any]) -> httpx.Response:
    return await api.http.post("/v1/topics", json=body, headers={"Forebay-Tenant": api.tenant})


async def test_a_bursting_topic_is_answered_anew_until_it_has_settled(
    api: Api, topics: Callable[[], dict[str, Any]], tenant: str, bring: Callable[..., None]
) -> None:
    prompts = [f"What is {thing}?" for thing in OTHERS]
    bring(tenant, *prompts, "What is a comet?")
    await asyncio.gather(*(kept(api, prompt) for prompt in (*prompts, "What is a comet?")))
    for _ in range(20):  # the usual: a little of everything
        await asyncio.gather(*(api.answer(prompt) for prompt in prompts))
        await asyncio.sleep(0.5)

    reasons: list[str] = []

    async def burst() -> None:
        while True:
            answers = await asyncio.gather(*(api.answer("What is a comet?") for _ in range(12)))
            reasons.extend(answer["cache"]["reason"] for answer in answers if answer["cache"]["tier"] == "miss")
            await asyncio.sleep(0.7)  # more, and it would soon be what is usual: this service has run for seconds

    async def shown() -> list[dict[str, Any]]:
        found = (await asyncio.to_thread(topics))["topics"]
        return [topic for topic in found if topic["tenant"] == tenant and "ratio" in topic]

    async with background(burst, name="burst"):
        (topic,) = await eventually(shown)
        reason = await eventually(lambda: asyncio.sleep(0, next(iter(reasons), None)))
    assert reason == f"older than 1 second, {FOR_TREND}comet"
    assert (topic["terms"], topic["origin"]) == (["comet"], "detected")
    assert topic["ratio"] > 1
    assert topic["per_minute"] > topic["usual_per_minute"]
    assert "of the requests, usually" in topic["reason"]
    assert topic["entries"] in (0, 1)  # the one that was just bought may still be young

    async def settled() -> bool:
        return not (await asyncio.to_thread(topics))["topics"]

    await eventually(settled)
    again = await api.answer("What is a comet?")
    assert again["source"] in ("cache", "coalesced")  # the last one that was bought is remembered for some seconds
    assert again["cache"]["age_s"] > 1


async def test_a_topic_told_over_http_holds_for_its_tenant_and_outlives_a_cache(
    api: Api, other: Api, home: Path, kill: Kill, bring: Callable[..., None]
) -> None:
    bring(api.tenant, "What is a quasar?")
    bring(other.tenant, "What is a quasar?")
    await asyncio.gather(kept(api, "What is a quasar?"), kept(other, "What is a quasar?"))
    response = await told(api, {"terms": ["quasars"], "for": "2h", "reason": "a discovery"})
    assert response.status_code == 202, response.text
    assert await held_back(api, "What is a quasar?") == f"older than 1 second, {FOR_TREND}quasars"
    assert (await other.answer("What is a quasar?"))["source"] == "cache"
    await restarted(home, "cache", kill("cache"))
    assert await held_back(api, "What is a quasar?") == f"older than 1 second, {FOR_TREND}quasars"
    assert (await told(api, {"terms": ["quasar"], "trending": False})).status_code == 202
    await kept(api, "What is a quasar?")


async def test_a_replica_that_starts_late_learns_what_was_told_and_goes_on_alone(
    api: Api, home: Path, stack: Stack, kill: Kill, bring: Callable[..., None]
) -> None:
    bring(api.tenant, "What is a pulsar?")
    await kept(api, "What is a pulsar?")
    assert (await told(api, {"terms": ["pulsar"], "for": "2h"})).status_code == 202
    policy = home / "policy.toml"
    grown = await asyncio.to_thread(lambda: local.up(home, say=print, policy=policy, scale={"trends": 3}))
    try:

        async def learnt() -> bool:
            return await metric(grown, "trends-3", "forebay_trends_told") >= 1

        await eventually(learnt)
        for name in ("trends", "trends-2"):
            await asyncio.to_thread(local.stop_program, home, name)
        await restarted(home, "cache", kill("cache"))
        assert await held_back(api, "What is a pulsar?") == f"older than 1 second, {FOR_TREND}pulsar"
    finally:
        for name in ("trends", "trends-2"):
            await asyncio.to_thread(local.start_program, home, name)
        await asyncio.to_thread(local.stop_program, home, "trends-3")
    assert (await told(api, {"terms": ["pulsar"], "trending": False})).status_code == 202
    await kept(api, "What is a pulsar?")


async def test_a_bare_message_from_anybody_will_do(
    api: Api, stack: Stack, tenant: str, bring: Callable[..., None]
) -> None:
    bring(tenant, "Who wrote the novel Emma?")
    await kept(api, "Who wrote the novel Emma?")
    async with RabbitBroker(stack.amqp_url, name="a stranger") as broker:
        await broker.wait_connected()

        async def say(key: str) -> None:
            body = json.dumps({"terms": ["Emma novel"], "tenant": tenant, "reason": "a film"}).encode()
            await broker.publish([Message(exchange="forebay.signals", routing_key=key, body=body, headers={})])

        await say("topic.trending")
        assert await held_back(api, "Who wrote the novel Emma?") == f"older than 1 second, {FOR_TREND}Emma novel"
        await say("topic.settled")
        await kept(api, "Who wrote the novel Emma?")

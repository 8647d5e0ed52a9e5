"""The cache on the real stack: what it says about each answer, what it is told, what it forgets, who waits for whom."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.local import stack as local
from infra.local.stack import Stack
from shared.broker import Message
from shared.rabbitmq import RabbitBroker
from tests.e2e.conftest import SHORT, Api, Kill, Rows, eventually, metric, restarted

PROMPT = "How do I reverse a list in Python?"
NEAR = "How can I reverse a list in Python?"


async def calls(stack: Stack) -> float:
    return await metric(stack, "inference", "forebay_provider_calls_total")


async def kept(api: Api, rows: Rows, prompt: str, **fields: Any) -> dict[str, Any]:
    """The bought answer to a prompt, once it is an entry."""
    answer = await api.answer(prompt, **fields)

    async def there() -> bool:
        return any(
            row["prompt"] == prompt for row in await rows.all("SELECT prompt FROM cache_entries WHERE tenant = $1")
        )

    await eventually(there)
    return answer


async def said(api: Api, prompt: str, cache_control: str, **fields: Any) -> dict[str, Any]:
    response = await api.post(
        {"input": prompt, "max_output_tokens": SHORT} | fields, headers={"Cache-Control": cache_control}
    )
    assert response.status_code == 202, response.text
    return await api.finished(response.json()["id"])


async def test_every_result_says_what_the_cache_decided(api: Api, rows: Rows) -> None:
    bought = await kept(api, rows, PROMPT)
    assert (bought["cache"]["tier"], bought["cache"]["reason"]) == ("miss", "nothing near")
    exact = await api.get((await api.answer(PROMPT))["id"])
    assert exact.json()["cache"]["tier"] in ("exact", "in_flight")
    near = (await api.answer(NEAR))["id"]
    shown = await api.get(near)
    cache = shown.json()["cache"]
    assert cache["tier"] in ("semantic", "in_flight")
    assert cache["reason"] == "verified"
    assert cache["entry_id"] == bought["id"]
    assert cache["similarity"] > 0.85
    assert "hit" in shown.headers["Cache-Status"] or "collapsed" in shown.headers["Cache-Status"]
    other = await api.answer("How do I reverse 2 lists in Python?")
    assert other["source"] == "light"
    assert (other["cache"]["tier"], other["cache"]["reason"]) == ("miss", "numbers")


async def test_no_cache_buys_and_replaces_and_no_store_leaves_nothing(api: Api, rows: Rows) -> None:
    first = await kept(api, rows, PROMPT)
    again = await said(api, PROMPT, "no-cache")
    assert (again["source"], again["cache"]["tier"], again["cache"]["reason"]) == ("light", "bypass", "no-cache")

    async def replaced() -> bool:
        return bool((await api.answer(PROMPT))["cache"]["entry_id"] == again["id"] != first["id"])

    await eventually(replaced)
    assert (await said(api, "Name a metal.", "no-store"))["source"] == "light"
    assert (await said(api, "Name a metal.", "no-store"))["source"] == "light"
    assert await rows.count("cache_entries") == 1
    old = await said(api, PROMPT, "max-age=0")
    assert old["source"] == "light"


async def test_prompts_about_the_asker_or_the_moment_are_left_alone(api: Api, rows: Rows) -> None:
    for _ in range(2):
        answer = await api.answer("Where is my order?")
        assert (answer["source"], answer["cache"]["tier"], answer["cache"]["reason"]) == ("light", "bypass", "personal")
    assert (await api.answer("What time is it in Tokyo?"))["cache"]["reason"] == "moment"
    assert await rows.count("cache_entries") == 0


async def test_what_is_forgotten_is_gone_everywhere(
    api: Api, rows: Rows, stack: Stack, cli: Callable[..., Any], tenant: str
) -> None:
    await kept(api, rows, "What is a comet?")
    await kept(api, rows, "Who painted the Mona Lisa?")
    assert (await api.answer("What is a comet?"))["source"] != "light"
    dry = await api.http.post(
        "/v1/cache/invalidate",
        json={"selector": {"topic": "comet"}, "reason": "test", "dry_run": True},
        headers={"Forebay-Tenant": api.tenant},
    )
    assert dry.status_code == 200, dry.text
    assert dry.json()["entries"] == 1
    assert await rows.count("cache_entries") == 2
    told = cli("cache", "invalidate", "--topic", "comet", "--tenant", tenant, "--yes")
    assert told.returncode == 0, told.stderr

    async def gone() -> bool:
        return await rows.count("cache_entries") == 1

    await eventually(gone)
    assert (await api.answer("What is a comet?"))["source"] == "light"
    assert (await api.answer("Who painted the Mona Lisa?"))["source"] != "light"


async def test_anybodys_bare_message_invalidates(api: Api, rows: Rows, stack: Stack, tenant: str) -> None:
    await kept(api, rows, "What is a quasar?")
    async with RabbitBroker(stack.amqp_url, name="a stranger") as broker:
        await broker.wait_connected()
        body = json.dumps({"selector": {"tenant": tenant, "prompt": "What is a quasar?"}, "reason": "moved"})
        await broker.publish(
            [Message(exchange="forebay.signals", routing_key="cache.invalidate", body=body.encode(), headers={})]
        )

    async def gone() -> bool:
        return await rows.count("cache_entries") == 0

    await eventually(gone)


async def test_a_wrong_hit_is_removed_and_who_was_served_is_told(api: Api, rows: Rows, tenant: str) -> None:
    bought = await kept(api, rows, PROMPT)
    hit = await api.answer(NEAR)
    await rows.settled(2)  # who was served is told from what is written
    response = await api.http.post(
        f"/v1/requests/{hit['id']}/feedback",
        json={"verdict": "wrong_hit"},
        headers={"Forebay-Tenant": tenant},
    )
    assert response.status_code == 202, response.text
    assert response.json()["entry_id"] == bought["id"]
    assert hit["id"] in [served["request_id"] for served in response.json()["served"]]

    async def gone() -> bool:
        return await rows.count("cache_entries") == 0

    await eventually(gone)


async def test_answers_brought_along_are_served(
    api: Api, rows: Rows, cli: Callable[..., Any], tenant: str, tmp_path: Path
) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text(json.dumps({"input": "What does RFC 9211 define?", "output_text": "Cache-Status."}) + "\n")
    told = cli("cache", "warm", str(file), "--tenant", tenant)
    assert told.returncode == 0, told.stderr

    async def there() -> bool:
        return await rows.count("cache_entries") == 1

    await eventually(there)
    answer = await api.http.post(
        "/v1/requests",
        json={"input": "What does RFC 9211 define?"},
        headers={"Forebay-Tenant": tenant, "Prefer": "wait=30"},
    )
    assert (answer.json()["source"], answer.json()["output_text"]) == ("cache", "Cache-Status.")
    assert answer.headers["Cache-Status"].startswith("forebay; hit")


async def test_the_command_line_explains_a_lookup(api: Api, rows: Rows, cli: Callable[..., Any], tenant: str) -> None:
    await kept(api, rows, "Is it safe to take aspirin for 3 months?", max_output_tokens=None)
    told = cli("cache", "lookup", "Is it safe to take aspirin for 4 months?", "--explain", "--tenant", tenant, "--json")
    assert told.returncode == 0, told.stderr
    shown = json.loads(told.stdout)
    assert (shown["verdict"]["tier"], shown["verdict"]["reason"]) == ("miss", "numbers")
    assert shown["candidates"][0]["prompt"] == "Is it safe to take aspirin for 3 months?"
    stats = cli("cache", "stats", "--json")
    assert json.loads(stats.stdout)["entries"] >= 1


@pytest.fixture(scope="module")
def two_caches(stack: Stack, home: Path) -> Stack:
    return local.up(home, say=print, scale={"cache": 2})


async def test_a_hundred_near_equal_prompts_on_two_replicas_make_one_call(
    two_caches: Stack, api: Api, rows: Rows
) -> None:
    before = await calls(two_caches)
    wordings = (
        "What is the tallest mountain?",
        "What's the tallest mountain?",
        "what is the tallest mountain",
        "What is the tallest mountain ?",
    )
    answers = await asyncio.gather(*(api.answer(wordings[n % 4]) for n in range(100)))
    assert await calls(two_caches) - before <= 2
    assert len({answer["output_text"] for answer in answers}) <= 2
    sources = Counter(answer["source"] for answer in answers)
    assert sources["light"] <= 2
    await rows.settled(100)


async def test_followers_of_a_killed_replica_lose_nothing(
    two_caches: Stack, api: Api, rows: Rows, home: Path, kill: Kill
) -> None:
    prompt = "Write about the history of the lighthouse."
    ids = [(await api.post({"input": prompt, "max_output_tokens": 64})).json()["id"] for _ in range(50)]
    pids = {name: kill(name) for name in local.read(home).programs if name.startswith("cache")}
    for name, pid in pids.items():
        await restarted(home, name, pid)
    results = await asyncio.gather(*(api.finished(request_id) for request_id in ids))
    assert {result["status"] for result in results} == {"completed"}
    await rows.settled(50)

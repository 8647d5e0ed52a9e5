"""The path of a request on the real stack: cache, router, inference, rows."""

import asyncio
from pathlib import Path
from typing import Any

from infra.local.stack import Stack
from shared.client import AmqpClient
from tests.e2e.conftest import SHORT, Api, Kill, Rows, metric, restarted


async def test_the_same_prompt_again_is_an_exact_hit(api: Api, rows: Rows) -> None:
    first = await api.answer("What is the capital of France?")
    again = await stored(api, "What is the capital of France?")
    assert again["source"] == "cache"
    assert again["cache"]["tier"] == "exact"
    assert again["cache"]["similarity"] == 1
    assert again["output_text"] == first["output_text"]
    assert again["cost_usd"] == 0
    assert again["saved_usd"] == first["cost_usd"] > 0
    (entry,) = await rows.entries(1)
    assert (entry["category"], entry["ttl"].total_seconds()) == ("static", 7 * 24 * 3600)


async def stored(api: Api, prompt: str) -> dict[str, Any]:
    """The answer to a prompt once an equal one is in the cache, and not only in flight."""
    async with asyncio.timeout(30):
        while (answer := await api.answer(prompt))["source"] == "coalesced":
            await asyncio.sleep(0.5)
    return answer


async def test_a_paraphrase_is_a_hit_and_another_number_is_not(api: Api) -> None:
    await api.answer("How do I reverse a list in Python?")
    await stored(api, "How do I reverse a list in Python?")
    near = await api.answer("How can I reverse a list in Python?")
    assert near["source"] in ("cache", "coalesced")
    assert 0.95 <= near["cache"]["similarity"] < 1

    await api.answer("Is it safe to take aspirin for 3 months?")
    other = await api.answer("Is it safe to take aspirin for 4 months?")
    assert other["source"] == "light"


async def test_what_changes_the_answer_is_never_shared(api: Api) -> None:
    prompt = "Name a colour."
    await api.answer(prompt)
    other_tenant = Api(api.http, f"{api.tenant}-b")
    answers = [
        await other_tenant.answer(prompt),
        await api.answer(prompt, instructions="Answer in French."),
        await api.answer(prompt, model="light"),
        await api.answer(prompt, max_output_tokens=SHORT + 1),
        await api.answer(prompt, temperature=0.5),
        await api.answer(
            "x", input=[{"role": "user", "content": "Only warm ones."}, {"role": "user", "content": prompt}]
        ),
    ]
    assert [answer["source"] for answer in answers] == ["light"] * len(answers)


async def test_equal_prompts_in_flight_make_one_call(api: Api, stack: Stack, rows: Rows) -> None:
    before = await metric(stack, "inference", "forebay_provider_calls_total")
    answers = await asyncio.gather(*(api.answer("Tell me about the sea.") for _ in range(25)))
    assert await metric(stack, "inference", "forebay_provider_calls_total") - before == 1
    assert len({answer["output_text"] for answer in answers}) == 1
    sources = [answer["source"] for answer in answers]
    assert sources.count("light") == 1
    assert sources.count("coalesced") >= 1
    await rows.settled(25)


async def test_the_router_tells_its_reasons(api: Api) -> None:
    hard = await api.answer("Compare TCP and UDP, and justify step by step which one suits video calls.")
    assert hard["source"] == "premium"
    assert any(reason.startswith("reasoning") for reason in hard["route"]["reasons"])
    pinned = await api.answer("Name a colour.", model="premium")
    assert pinned["source"] == "premium"
    assert pinned["route"]["reasons"] == ["the request asks for premium"]


async def test_an_answer_that_changes_soon_expires_soon(api: Api, rows: Rows) -> None:
    await api.answer("What is the weather in Paris today?")
    await stored(api, "What is the weather in Paris today?")
    (entry,) = await rows.entries(1)
    assert (entry["category"], entry["ttl"].total_seconds()) == ("dynamic", 15 * 60)


async def test_an_expired_answer_is_not_served(api: Api, rows: Rows, home: Path, kill: Kill) -> None:
    prompt = "Name a fruit."
    await api.answer(prompt)
    await stored(api, prompt)
    await rows.entries(1)
    await rows.all("UPDATE cache_entries SET expires_at = now(), keep_until = now() WHERE tenant = $1")
    await restarted(home, "cache", kill("cache"))  # what it has in memory knows nothing of the statement above
    async with asyncio.timeout(30):
        while (answer := await api.answer(prompt))["source"] == "coalesced":
            await asyncio.sleep(0.5)
    assert answer["source"] == "light"


async def test_a_burst_is_one_transaction_per_tick(api: Api, stack: Stack, rows: Rows) -> None:
    prompts = ("Name a river.", "Name a mountain.")
    for prompt in prompts:
        await api.answer(prompt)
    began = await metric(stack, "persistence", "forebay_write_transactions_total")
    started = asyncio.get_running_loop().time()
    burst = [api.post({"input": prompts[n % 2], "max_output_tokens": SHORT}) for n in range(500)]
    assert {response.status_code for response in await asyncio.gather(*burst)} == {202}
    await rows.settled(502)
    took_s = asyncio.get_running_loop().time() - started
    transactions = await metric(stack, "persistence", "forebay_write_transactions_total") - began
    assert transactions <= took_s / 0.1 + 2
    # The same from PostgreSQL's side: rows of one transaction carry the same xmin.
    (seen,) = await rows.all("SELECT count(DISTINCT xmin::text) AS count FROM responses WHERE tenant = $1")
    assert seen["count"] <= transactions + len(prompts)
    assert transactions < 500 / 5


async def test_both_doors_share_one_cache(api: Api, amqp: AmqpClient) -> None:
    first = await api.answer("Name an animal.")
    event = await (await amqp.publish({"input": "Name an animal.", "max_output_tokens": SHORT}))
    assert event["source"] in ("cache", "coalesced")
    assert event["output_text"] == first["output_text"]

"""What happens to accepted requests when parts of the stack die: nothing."""

import asyncio
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.local import stack as local
from infra.local.stack import Stack
from shared import database, topology
from shared.broker import Message
from shared.client import AmqpClient
from shared.rabbitmq import RabbitBroker
from tests.e2e.conftest import SHORT, Api, Kill, Rows, depths, eventually, metric, restarted


async def accepted(api: Api, prompts: list[str]) -> list[str]:
    """The ids of prompts that were all accepted, submitted at once; a door that is down is knocked at again."""

    async def one(prompt: str) -> str:
        async def answer() -> Any:
            try:
                response = await api.post(
                    {"input": prompt, "max_output_tokens": SHORT}, headers={"Idempotency-Key": prompt}
                )
            except httpx.TransportError:
                return None
            return response.json()["id"] if response.status_code == 202 else None

        return str(await eventually(answer))

    return list(await asyncio.gather(*(one(prompt) for prompt in prompts)))


async def drained(stack: Stack) -> None:
    """Return once no work queue holds a message, ready or unacknowledged."""

    async def empty() -> bool:
        return not any(depth for name, depth in (await depths(stack)).items() if not name.endswith(".dead"))

    await eventually(empty)


async def dead_letters(stack: Stack) -> Counter[str]:
    return Counter({name: depth for name, depth in (await depths(stack)).items() if name.endswith(".dead") and depth})


@pytest.mark.parametrize(
    "victim", ["ingest", "cache", "router", "inference", "persistence", "trends", "postgres", "rabbitmq"]
)
async def test_a_part_that_is_killed_loses_nothing(
    victim: str, api: Api, stack: Stack, home: Path, rows: Rows, kill: Kill
) -> None:
    dead_before = await dead_letters(stack)
    half = [f"Name one thing that starts with the number {n}." for n in range(10)]
    rest = [f"Spell the number {n}." for n in range(10)]
    submitting = asyncio.create_task(accepted(api, half))
    old_pid = kill(victim)
    ids = await submitting + await accepted(api, rest)
    assert len(set(ids)) == 20
    results = await asyncio.gather(*(api.finished(request_id) for request_id in ids))
    assert [result["status"] for result in results] == ["completed"] * 20
    await restarted(home, victim, old_pid)
    await reconnect(rows, stack)
    await rows.settled(20)
    await drained(stack)
    assert await dead_letters(stack) == dead_before
    assert f"{victim} exited (signal 9), restarting" in (home / "log" / "stack.log").read_text()


async def test_trends_that_was_killed_counts_what_comes_after(api: Api, stack: Stack, home: Path, kill: Kill) -> None:
    await restarted(home, "trends", kill("trends"))
    await accepted(api, [f"Name the river number {n}." for n in range(5)])

    async def counted() -> bool:
        try:
            return await metric(stack, "trends", "forebay_trends_requests_total") >= 5  # of this process
        except httpx.TransportError:
            return False  # it is not up yet

    await eventually(counted)


async def reconnect(rows: Rows, stack: Stack) -> None:
    """Give the test a fresh connection: its own may have died with PostgreSQL."""
    import asyncpg

    async def connected() -> Any:
        try:
            return await asyncpg.connect(stack.postgres_dsn)
        except database.AWAY:
            return None

    rows.connection.terminate()
    rows.connection = await eventually(connected)


async def test_requests_are_taken_while_postgresql_is_away_and_written_after(
    api: Api, stack: Stack, home: Path, rows: Rows
) -> None:
    await asyncio.to_thread(local.stop_program, home, "postgres")
    try:
        ids = await accepted(api, [f"Say the word number {n}." for n in range(10)])
        results = await asyncio.gather(*(api.finished(request_id) for request_id in ids))
        assert [result["status"] for result in results] == ["completed"] * 10
    finally:
        await asyncio.to_thread(local.start_program, home, "postgres")
    await reconnect(rows, stack)
    await rows.settled(10)


async def test_without_a_broker_the_door_says_so_and_opens_again(api: Api, home: Path) -> None:
    await asyncio.to_thread(local.stop_program, home, "rabbitmq")
    try:
        refused = await api.post({"input": "Is anybody there?"})
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        assert refused.json()["code"] == "broker_unavailable"
        assert (await api.http.get("/readyz")).status_code == 503
        assert (await api.http.get("/healthz")).status_code == 200
    finally:
        await asyncio.to_thread(local.start_program, home, "rabbitmq")
    (request_id,) = await accepted(api, ["Is anybody there now?"])
    assert (await api.finished(request_id))["status"] == "completed"


async def test_every_event_delivered_twice_leaves_one_result(amqp: AmqpClient, stack: Stack, rows: Rows) -> None:
    seen: list[Message] = []
    async with RabbitBroker(stack.amqp_url, name="tests") as broker:
        await broker.wait_connected()
        async with broker.subscribe(topology.ALL_EVENTS, prefetch=100) as events:

            async def listen() -> None:
                while deliveries := await events.take(100):
                    await events.ack(deliveries)
                    seen.extend(delivery.message for delivery in deliveries)

            listening = asyncio.create_task(listen())
            await (await amqp.publish({"input": "Name a bird.", "max_output_tokens": SHORT}))
            await (await amqp.publish({"inptu": "Name a bird."}))
            await rows.settled_responses(2)
            once = {message.routing_key for message in seen}
            await broker.publish(seen.copy())
            await drained(stack)
            listening.cancel()
    assert {key.rsplit(".", 2 if "submitted" in key else 0)[0] for key in once} >= {
        "request.submitted",
        "request.accepted.interactive",
        "request.missed",
        "request.routed.light",
        "request.rejected",
        "response.completed.light",
    }
    assert (await rows.count("requests"), await rows.count("responses")) == (1, 2)
    assert await rows.count("cache_entries") == 1


async def test_a_poison_message_harms_only_itself(api: Api, stack: Stack, rows: Rows) -> None:
    before = await dead_letters(stack)
    garbage = [
        Message("", queue, b"\x00\xff not an event", message_id=f"garbage {queue}")
        for queue in (
            "cache.accepted",
            "router.missed",
            "inference.light",
            "persistence.records",
            "persistence.entries",
        )
    ]
    async with RabbitBroker(stack.amqp_url, name="tests") as broker:
        await broker.wait_connected()
        await broker.publish(garbage)
    assert (await api.answer("Name a tree."))["status"] == "completed"
    await rows.settled(1)
    await drained(stack)

    async def buried() -> bool:
        return await dead_letters(stack) - before == Counter({f"{message.routing_key}.dead": 1 for message in garbage})

    await eventually(buried)


async def test_a_stopped_service_exits_in_order(home: Path, stack: Stack, api: Api) -> None:
    for name in ("ingest", "cache", "router", "inference", "persistence"):
        await asyncio.to_thread(local.stop_program, home, name)
        log = Path(stack.services[name].log).read_text().splitlines()
        assert '"event": "stopped"' in log[-1]
        await asyncio.to_thread(local.start_program, home, name)
    (request_id,) = await accepted(api, ["Are all back?"])
    assert (await api.finished(request_id))["status"] == "completed"


async def test_replicas_share_the_work_and_do_nothing_twice(stack: Stack, home: Path, api: Api, rows: Rows) -> None:
    grown = await asyncio.to_thread(lambda: local.up(home, say=print, scale={"cache": 2, "router": 2, "inference": 2}))
    try:
        replicas = [name for name in grown.services if name.startswith("inference")]
        assert len(replicas) == 2
        before = {name: await metric(grown, name, "forebay_provider_calls_total") for name in replicas}
        ids = await accepted(api, [f"Write the number {n} in words." for n in range(40)])
        await asyncio.gather(*(api.finished(request_id) for request_id in ids))
        calls = {name: await metric(grown, name, "forebay_provider_calls_total") - before[name] for name in replicas}
        await rows.settled(40)
        (bought,) = await rows.all("SELECT count(*) AS count FROM responses WHERE tenant = $1 AND source = 'light'")
        assert sum(calls.values()) == bought["count"] == 40
        assert min(calls.values()) > 0
    finally:
        for name in ("cache-2", "router-2", "inference-2"):
            await asyncio.to_thread(local.stop_program, home, name)


def test_the_command_line_talks_to_the_stack(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    submitted = cli("submit", "Say hello.", "--wait", "--json")
    assert submitted.returncode == 0, submitted.stderr
    assert '"status": "completed"' in submitted.stdout
    published = cli("publish", "Say hello.", "--wait")
    assert '"output_text"' in published.stdout, published.stderr
    refused = cli("submit", "Say hello.", "--model", "gpt-9")
    assert refused.returncode == 1
    assert "unknown model 'gpt-9'" in refused.stderr
    assert "Traceback" not in refused.stderr
    status = cli("status")
    assert "persistence" in status.stdout

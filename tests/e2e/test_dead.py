"""Failed requests on a stack of its own, whose provider is SIMULATED: listed, run anew, dropped; and cancelled ones."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from infra.local import stack as local
from infra.local.stack import Stack
from shared import database
from shared.broker import Message
from shared.rabbitmq import RabbitBroker
from tests.e2e.conftest import PATIENCE_S, Api, Rows, eventually
from tests.support.simulated_provider import SimulatedProvider, error

SERVICES = ("ingest", "cache", "router", "inference", "persistence")
REFUSED = error(400, "no")


@contextmanager
def serving() -> Iterator[SimulatedProvider]:
    """A simulated provider in a thread, for longer than one test."""
    started: list[SimulatedProvider] = []
    up, done = threading.Event(), threading.Event()

    async def serve() -> None:
        async with SimulatedProvider().serving() as provider:
            started.append(provider)
            up.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    up.wait()
    try:
        yield started[0]
    finally:
        done.set()
        thread.join()


@pytest.fixture(scope="module")
def provider() -> Iterator[SimulatedProvider]:
    with serving() as one:
        yield one


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("dead")
    yield folder
    local.down(folder, print)


@pytest.fixture(scope="module")
def stack(home: Path, provider: SimulatedProvider) -> Iterator[Stack]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOREBAY_LOCAL_MODEL_URL", provider.url)
        yield local.up(
            home, say=print, services=SERVICES, infrastructure=("rabbitmq", "postgres"), migrate=database.migrate
        )


Forebay = Callable[..., Any]


@pytest.fixture
def forebay(home: Path, stack: Stack) -> Forebay:
    """The command line; gives what it printed as JSON where that is asked for."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("forebay")), *arguments, "--home", str(home)]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    async def ran(*arguments: str, code: int | None = 0) -> Any:
        done = await asyncio.to_thread(run, *arguments)
        assert code in (None, done.returncode), (done.stdout, done.stderr)
        return json.loads(done.stdout) if "--json" in arguments else done.stdout + done.stderr

    return ran


async def failed(api: Api, provider: SimulatedProvider, prompts: list[str]) -> list[str]:
    """The ids of requests that the provider refused."""
    provider.expect(*[REFUSED] * len(prompts))
    shown = [await api.answer(prompt) for prompt in prompts]
    assert [each["status"] for each in shown] == ["failed"] * len(prompts)
    return [each["id"] for each in shown]


async def listed(forebay: Forebay, tenant: str, count: int) -> dict[str, Any]:
    """The list of a tenant's failures, once it has so many."""

    async def enough() -> Any:
        shown = await forebay("dead", "list", "--tenant", tenant, "--json")
        return shown if len(shown["data"]) == count else None

    found: dict[str, Any] = await eventually(enough)
    return found


async def test_failed_requests_are_run_anew_under_their_ids_and_each_has_one_result(
    api: Api, rows: Rows, provider: SimulatedProvider, forebay: Forebay, home: Path
) -> None:
    ids = await failed(api, provider, ["Name a river.", "Spell seven.", "What is a violin made of?"])
    shown = await listed(forebay, api.tenant, 3)
    assert [each["id"] for each in shown["data"]] == ids
    (kind,) = {each["class"] for each in shown["data"]}
    assert [(each["class"], each["failures"]) for each in shown["classes"]] == [(kind, 3)]
    assert {(each["tier"], each["attempts"], each["replay"]) for each in shown["data"]} == {("light", 1, 0)}
    assert (await forebay("dead", "list", "--tenant", api.tenant, "--class", "other", "--json"))["data"] == []
    assert json.loads(await forebay("dead", "show", ids[0]))["request"]["input"] == "Name a river."

    await asyncio.to_thread(local.stop_program, home, "inference")
    try:
        which = ("dead", "replay", "--tenant", api.tenant, "--class", kind)
        assert "3 would be replayed" in await forebay(*which, "--dry-run")
        # Two at once: the same run; whichever comes second may be told so.
        await asyncio.gather(forebay(*which), forebay("dead", "replay", *ids, code=None))
        await listed(forebay, api.tenant, 0)

        async def queued() -> bool:
            states = [(await api.get(request_id)).json()["status"] for request_id in ids]
            return states == ["queued"] * 3

        await eventually(queued)
        assert "replay 1 is on its way" in await forebay("dead", "replay", ids[0], code=1)
    finally:
        await asyncio.to_thread(local.start_program, home, "inference")
    results = [await api.finished(request_id) for request_id in ids]
    assert [each["status"] for each in results] == ["completed"] * 3
    await rows.settled(3)
    found = await rows.all("SELECT id::text, status, replay FROM responses WHERE tenant = $1")
    assert sorted(map(tuple, found)) == sorted((request_id, "completed", 1) for request_id in ids)
    assert "it is completed" in await forebay("dead", "replay", ids[0], code=1)


async def test_a_replay_that_fails_again_is_listed_again_and_may_go_elsewhere(
    api: Api, rows: Rows, provider: SimulatedProvider, forebay: Forebay
) -> None:
    (request_id,) = await failed(api, provider, ["Name a fish."])
    await listed(forebay, api.tenant, 1)
    provider.expect(REFUSED)
    assert "replayed, 0 refused" in await forebay("dead", "replay", "--all")

    async def again() -> bool:
        shown = await forebay("dead", "list", "--tenant", api.tenant, "--json")
        return [each["replay"] for each in shown["data"]] == [1]

    await eventually(again)
    assert "unknown model 'huge'" in await forebay("dead", "replay", request_id, "--to", "huge", code=1)
    await forebay("dead", "replay", request_id, "--to", "premium")

    async def answered() -> Any:
        shown = (await api.get(request_id)).json()
        return shown if shown["status"] == "completed" else None

    assert (await eventually(answered))["tier"] == "premium"
    await rows.settled(1)
    (row,) = await rows.all("SELECT status, replay FROM responses WHERE tenant = $1")
    assert tuple(row) == ("completed", 2)


async def test_what_is_dropped_is_off_the_list_and_stays_the_result(
    api: Api, provider: SimulatedProvider, forebay: Forebay
) -> None:
    (request_id,) = await failed(api, provider, ["Name a tool."])
    await listed(forebay, api.tenant, 1)
    assert "1 dropped" in await forebay("dead", "drop", "--tenant", api.tenant)
    await listed(forebay, api.tenant, 0)
    assert (await api.get(request_id)).json()["status"] == "failed"
    await failed(api, provider, ["Name a game.", "Name a spice."])
    await listed(forebay, api.tenant, 2)
    assert "dropped, 0 refused" in await forebay("dead", "drop", "--all")
    await listed(forebay, api.tenant, 0)


async def test_what_nothing_was_spent_on_yet_is_spared(
    api: Api, rows: Rows, provider: SimulatedProvider, forebay: Forebay, home: Path
) -> None:
    provider.expect()
    await asyncio.to_thread(local.stop_program, home, "router")
    try:
        prompt = {"input": "Name a metal that is liquid."}
        leader = (await api.post(prompt)).json()["id"]
        shown = await forebay("cancel", leader, "--tenant", api.tenant, "--json")
        assert shown["status"] == "queued"
        follower = (await api.post(prompt)).json()["id"]
    finally:
        await asyncio.to_thread(local.start_program, home, "router")
    assert (await api.finished(leader))["status"] == "cancelled"
    assert (await api.finished(follower))["status"] == "completed"
    assert len(provider.calls) == 1
    await rows.settled(2)
    response = await api.http.post(f"/v1/requests/{leader}/cancel", headers={"Forebay-Tenant": api.tenant})
    assert (response.status_code, response.json()["status"]) == (200, "cancelled")
    assert "it is cancelled" in await forebay("dead", "replay", leader, code=1)


async def test_letters_that_belong_to_no_request_can_be_read_and_purged(stack: Stack, forebay: Forebay) -> None:
    async with RabbitBroker(stack.amqp_url, name="tests") as broker:
        await broker.wait_connected()
        await broker.publish([Message("", "router.missed", b"\xff no event", headers={"mine": "7"})])

    async def counted() -> bool:
        shown = await forebay("dead", "queues", "--json")
        return {"queue": "router.missed.dead", "letters": 1} in shown["data"]

    await eventually(counted)
    for _ in range(2):
        ((letter),) = (await forebay("dead", "letters", "router.missed", "--json"))["data"]
        assert (letter["code"], letter["request_id"], letter["headers"]["mine"]) == ("undecodable_message", None, "7")
        assert letter["body"].endswith("no event")
    assert "1 deleted" in await forebay("dead", "purge", "router.missed.dead", "--yes")
    assert "no letters" in await forebay("dead", "letters", "router.missed")

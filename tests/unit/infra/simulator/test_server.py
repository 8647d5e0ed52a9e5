"""The simulated provider over HTTP, as a client meets it."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio

from infra.simulator.engine import ANONYMOUS, Simulator
from infra.simulator.scenario import Scenario, parse_scenario
from infra.simulator.server import serving
from shared.errors import StartupError
from tests.support.clock import ManualClock

CHAT = {"model": "any", "messages": [{"role": "user", "content": "Hello."}]}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def simulator(clock: ManualClock) -> Simulator:
    return Simulator(Scenario(), clock)


@pytest_asyncio.fixture
async def client(simulator: Simulator) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serving(simulator) as address,
        httpx.AsyncClient(base_url=address, headers={"authorization": "Bearer one"}, timeout=5) as http,
    ):
        yield http


async def chat(client: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    return await client.post("/v1/chat/completions", json=CHAT | fields)


async def order(client: httpx.AsyncClient, **fault: Any) -> None:
    assert (await client.post("/control/faults", json=fault)).status_code == 201


async def seen(client: httpx.AsyncClient) -> Any:
    return (await client.get("/control/counts")).json()["keys"]["one"]


async def until(client: httpx.AsyncClient, so: Callable[[Any], bool]) -> None:
    """Return once the state of the keys is so; the server learns of a client that left by itself."""
    async with asyncio.timeout(5):
        while not so((await client.get("/control/state")).json()["keys"]):
            pass


async def test_openais_own_client_understands_it(simulator: Simulator) -> None:
    async with (
        serving(simulator) as address,
        openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="one", max_retries=0) as client,
    ):
        turn: Any = CHAT["messages"]
        done = await client.chat.completions.create(model="any", messages=turn)
        text = done.choices[0].message.content
        assert text is not None
        assert text.startswith("Simulated answer ")
        stream = await client.chat.completions.create(
            model="any", messages=turn, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        said = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
        assert "".join(said) == text
        assert len(said) > 5
        assert chunks[-1].usage == done.usage
        vectors = await client.embeddings.create(model="any", input=["a", "b", "a"], dimensions=5)
        first, second, third = (one.embedding for one in sorted(vectors.data, key=lambda one: one.index))
        assert first == third != second
        assert len(first) == 5
        assert math.hypot(*first) == pytest.approx(1)
        assert [model.id async for model in client.models.list()] == ["simulated"]


async def test_an_answer_comes_when_its_latency_has_passed(client: httpx.AsyncClient, clock: ManualClock) -> None:
    await client.patch("/control/scenario", json={"latency": {"kind": "constant", "value": 30}, "time_scale": 10})
    answering = asyncio.create_task(chat(client))
    await clock.sleeper()
    state = (await client.get("/control/state")).json()
    assert state["keys"]["one"]["in_flight"] == 1
    assert clock.slept == [3.0]
    assert not answering.done()
    await clock.advance(3)
    assert (await answering).status_code == 200


async def test_a_stream_spreads_over_its_latency(clock: ManualClock, client: httpx.AsyncClient) -> None:
    await client.patch(
        "/control/scenario", json={"latency": {"kind": "constant", "value": 24}, "answer": {"tokens": 3}}
    )
    arrived = []

    async def read() -> None:
        async with client.stream("POST", "/v1/chat/completions", json=CHAT | {"stream": True}) as response:
            arrived.extend([line async for line in response.aiter_lines() if line])

    reading = asyncio.create_task(read())
    while not reading.done():
        await asyncio.wait((reading, asyncio.ensure_future(clock.sleeper())), return_when=asyncio.FIRST_COMPLETED)
        await clock.advance(4)
    assert clock.slept == [4.0] * len(arrived) == [4.0] * 6
    assert arrived[-1] == "data: [DONE]"


@pytest.mark.parametrize("stream", [False, True])
async def test_connections_break(client: httpx.AsyncClient, stream: bool) -> None:
    await order(client, kind="reset")
    with pytest.raises(httpx.ReadError):
        await chat(client, stream=stream)
    await order(client, kind="cut")
    async with client.stream("POST", "/v1/chat/completions", json=CHAT | {"stream": stream}) as response:
        assert response.status_code == 200
        with pytest.raises(httpx.ReadError):
            await response.aread()
    assert (await seen(client))["faults"] == {"reset": 1, "cut": 1}
    assert (await chat(client)).status_code == 200


async def test_who_is_not_answered_may_leave(client: httpx.AsyncClient, simulator: Simulator) -> None:
    await order(client, kind="hang")
    with pytest.raises(httpx.ReadTimeout):
        await client.post("/v1/chat/completions", json=CHAT, timeout=0.05)
    assert (await seen(client))["faults"] == {"hang": 1}
    assert (await seen(client))["abandoned"] == 0


async def test_an_answer_nobody_waits_for_is_abandoned_and_gives_its_place_back(
    client: httpx.AsyncClient, clock: ManualClock
) -> None:
    await client.patch(
        "/control/scenario", json={"limits": [{"concurrency": 1}], "latency": {"kind": "constant", "value": 9}}
    )
    with pytest.raises(httpx.ReadTimeout):
        await client.post("/v1/chat/completions", json=CHAT, timeout=0.05)
    await until(client, lambda keys: keys["one"]["in_flight"] == 0)
    told = await seen(client)
    assert (told["abandoned"], told["useful"]) == (1, 0)


@pytest.mark.parametrize("kind", ["hang", "drip"])
async def test_the_end_breaks_off_what_is_under_way(simulator: Simulator, clock: ManualClock, kind: str) -> None:
    async with serving(simulator) as address:
        client = httpx.AsyncClient(base_url=address)
        await order(client, kind=kind)
        calling = asyncio.create_task(chat(client))
        await until(client, lambda keys: ANONYMOUS in keys)
    with pytest.raises(httpx.RemoteProtocolError):
        await calling
    await client.aclose()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "the body is no JSON"),
        (b"[" * 100_000, "the body is no JSON"),
        (b"[]", "Input should be a valid dictionary"),
        (b'{"model": "any"}', "messages: Field required"),
        (b'{"model": "any", "messages": []}', "messages: List should have at least 1 item"),
        (b'{"model": "any", "messages": [{"role": "user"}], "max_tokens": 0}', "max_tokens: Input should be greater"),
    ],
)
async def test_a_bad_body_is_told_in_openais_form(client: httpx.AsyncClient, body: bytes, said: str) -> None:
    response = await client.post("/v1/chat/completions", content=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert said in error["message"]


async def test_another_address_is_told_in_openais_form(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/responses", json={})
    assert response.status_code == 404
    assert response.json()["error"]["message"] == "Invalid URL (POST /v1/responses)"


async def test_the_scenario_is_read_replaced_and_changed(client: httpx.AsyncClient, simulator: Simulator) -> None:
    await chat(client)
    limits = [{"requests_per_minute": 60, "burst": 1}]
    assert (await client.patch("/control/scenario", json={"limits": limits})).status_code == 200
    assert (await seen(client))["calls"] == 1
    playing = (await client.get("/control/scenario")).json()
    assert parse_scenario(playing) == simulator.scenario
    assert (await client.put("/control/scenario", json={"seed": 9})).json()["seed"] == 9
    assert simulator.scenario == Scenario(seed=9)
    assert (await client.get("/control/counts")).json()["keys"] == {}
    for method in ("PUT", "PATCH"):
        wrong = await client.request(method, "/control/scenario", json={"limits": [{"burst": "soon"}]})
        assert wrong.status_code == 400
        assert wrong.json()["error"]["message"].startswith("limits.0.burst: 'soon' is no duration")
    assert simulator.scenario == Scenario(seed=9)
    wrong = await client.post("/control/faults", json={"kind": "status"})
    assert "status: write one, such as 503" in wrong.json()["error"]["message"]


async def test_prompts_and_request_ids_are_counted(client: httpx.AsyncClient) -> None:
    for _ in range(2):
        await client.post("/v1/chat/completions", json=CHAT, headers={"x-request-id": "r1"})
    assert (await client.get("/control/request-ids")).json() == {"r1": {"calls": 2, "useful": 2}}
    assert list((await client.get("/control/prompts")).json().values()) == [{"calls": 2, "useful": 2}]
    assert (await client.get("/control/counts")).json()["bought_twice"]["request_ids"] == {"r1": 2}
    assert (await client.post("/control/reset")).status_code == 204
    assert (await client.get("/control/prompts")).json() == {}


async def test_embeddings_come_packed_for_those_who_ask(client: httpx.AsyncClient) -> None:
    asked = {"model": "any", "input": [1, 2, 3], "encoding_format": "base64"}
    (one,) = (await client.post("/v1/embeddings", json=asked)).json()["data"]
    assert isinstance(one["embedding"], str)
    await order(client, kind="empty_choices")
    assert (await client.post("/v1/embeddings", json=asked)).json()["data"] == []
    await order(client, kind="content_filter")
    assert (await client.post("/v1/embeddings", json=asked)).json()["data"] == [one]
    assert ((await seen(client))["useful"], (await seen(client))["faults"]) == (2, {"empty_choices": 1})
    assert json.loads((await client.get("/v1/models")).content)["data"][0]["id"] == "simulated"


async def test_a_port_in_use_is_told(simulator: Simulator) -> None:
    async with serving(simulator) as address:
        port = int(address.rpartition(":")[2])
        with pytest.raises(StartupError, match=f"cannot listen on 127.0.0.1:{port}: .*; choose another port"):
            async with serving(simulator, port=port):
                pass

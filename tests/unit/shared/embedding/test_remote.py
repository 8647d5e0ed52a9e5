"""An embedder elsewhere: its vectors, its bad days, and that nobody waits for it twice."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette

from services.inference.completion import Embedded
from services.inference.embeddings import EmbeddingsDoor
from shared.embedding.remote import (
    AWAY_S,
    LONGEST_AWAY_S,
    MOST_FAULTS,
    MOST_TEXTS,
    EmbedderUnavailable,
    RemoteEmbedder,
)
from shared.policy.caching import EmbedderPolicy
from tests.support.clock import ManualClock

POLICY = EmbedderPolicy(model="local/vectors", dimensions=2)
Answers = Callable[[httpx.Request], httpx.Response]


def vectors(request: httpx.Request, dimensions: int = 2) -> httpx.Response:
    """A vector for each text, the last one first."""
    texts = json.loads(request.content)["input"]
    data = [{"index": n, "embedding": [3.0 + len(text)] + [4.0] * (dimensions - 1)} for n, text in enumerate(texts)]
    return httpx.Response(200, json={"data": data[::-1]})


class Server:
    """Answers as the test says, and counts."""

    def __init__(self, answers: Answers = vectors) -> None:
        self.answers = answers
        self.asked: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(json.loads(request.content))
        return self.answers(request)


@asynccontextmanager
async def embedder(server: Server, clock: ManualClock | None = None) -> AsyncIterator[RemoteEmbedder]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(server), base_url="http://inference") as client:
        yield RemoteEmbedder(POLICY, client, clock or ManualClock())


async def test_vectors_come_in_the_order_of_their_texts_and_have_length_1() -> None:
    server = Server()
    async with embedder(server) as remote:
        found = await remote.embed_each(["", "aaaaa"])
    assert [vector.tolist() for vector in found if vector is not None] == [
        pytest.approx([0.6, 0.8]),
        pytest.approx([8 / 80**0.5, 4 / 80**0.5]),
    ]
    assert all(vector is not None and vector.dtype == np.float32 for vector in found)
    assert server.asked == [{"model": "local/vectors", "input": ["", "aaaaa"], "dimensions": 2}]


async def test_its_version_tells_model_and_dimensions() -> None:
    async with embedder(Server()) as remote:
        assert remote.version == "local/vectors/2"


async def test_many_texts_go_in_several_calls() -> None:
    server = Server()
    async with embedder(server) as remote:
        found = await remote.embed_each(["a"] * (MOST_TEXTS + 1))
        assert await remote.embed_each([]) == []
    assert len(found) == MOST_TEXTS + 1
    assert [len(body["input"]) for body in server.asked] == [MOST_TEXTS, 1]


async def test_a_text_that_is_refused_harms_no_other() -> None:
    def picky(request: httpx.Request) -> httpx.Response:
        texts = json.loads(request.content)["input"]
        return httpx.Response(400, text="too long") if "long" in texts else vectors(request)

    async with embedder(Server(picky)) as remote:
        found = await remote.embed_each(["a", "b", "long", "c", "d"])
        assert [vector is None for vector in found] == [False, False, True, False, False]
        assert await remote.embed_each(["long"]) == [None]
        assert len(await remote.embed_each(["a"])) == 1


def unreachable(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("nobody there")


def slow(_: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("too slow")


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        (unreachable, "nobody there"),
        (slow, "too slow"),
        (lambda _: httpx.Response(503, text="later"), "503: later"),
        (lambda _: httpx.Response(404, text="no such model"), "404: no such model"),
        (lambda _: httpx.Response(302, headers={"Location": "http://elsewhere"}), "302"),
        (lambda _: httpx.Response(200, text="<html>"), "makes no sense"),
        (lambda _: httpx.Response(200, json=[]), "makes no sense"),
        (lambda _: httpx.Response(200, json={"data": []}), "makes no sense"),
        (lambda _: httpx.Response(200, json={"data": [{"index": 0, "embedding": ["x", 1]}]}), "makes no sense"),
        (lambda _: httpx.Response(200, json={"data": [{"index": 0, "embedding": [0, 0]}]}), "without a direction"),
        (lambda _: httpx.Response(200, content=b'{"data": [{"index": 0, "embedding": [NaN, 1]}]}'), "direction"),
        (lambda request: vectors(request, 3), "dimensions is 2 in the policy, and the model gives 3"),
        (lambda _: httpx.Response(200, json={"data": [{"index": 0, "embedding": 1}]}), "dimensions is 2"),
    ],
)
async def test_whatever_goes_wrong_is_one_error(answers: Answers, told: str) -> None:
    async with embedder(Server(answers)) as remote:
        with pytest.raises(EmbedderUnavailable, match=told):
            await remote.embed_each(["a"])


async def test_who_was_away_is_left_alone_for_a_moment() -> None:
    clock, server = ManualClock(), Server(unreachable)
    async with embedder(server, clock) as remote:
        for _ in range(3):
            with pytest.raises(EmbedderUnavailable):
                await remote.embed_each(["a"])
        assert len(server.asked) == 1
        clock.skip(AWAY_S)
        server.answers = vectors
        assert len(await remote.embed_each(["a"])) == 1
        assert len(await remote.embed_each(["a"])) == 1
    assert len(server.asked) == 3


async def test_a_model_that_fails_at_some_texts_is_asked_for_others() -> None:
    server = Server(lambda _: httpx.Response(502, text="input is too large"))
    async with embedder(server) as remote:
        with pytest.raises(EmbedderUnavailable, match="too large"):
            await remote.embed_each(["a", "b"])
        server.answers = vectors
        assert len(await remote.embed_each(["a"])) == 1


async def test_a_model_that_fails_again_and_again_is_left_alone_for_a_moment() -> None:
    clock, server = ManualClock(), Server(lambda _: httpx.Response(502, text="out of memory"))
    async with embedder(server, clock) as remote:
        for asked in (1, 2, 3, 3, 3):
            with pytest.raises(EmbedderUnavailable):
                await remote.embed_each(["a"])
            assert len(server.asked) == asked
        clock.skip(AWAY_S)
        server.answers = vectors
        assert len(await remote.embed_each(["a"])) == 1


async def test_faults_with_good_calls_between_them_do_not_count_together() -> None:
    server = Server()
    async with embedder(server) as remote:
        for _ in range(MOST_FAULTS):
            server.answers = lambda _: httpx.Response(502)
            with pytest.raises(EmbedderUnavailable):
                await remote.embed_each(["a"])
            server.answers = vectors
            assert len(await remote.embed_each(["a"])) == 1


async def test_a_model_that_refuses_all_of_several_texts_is_wrongly_asked_and_left_alone() -> None:
    server = Server(lambda _: httpx.Response(400, text="no such dimensions"))
    async with embedder(server) as remote:
        with pytest.raises(EmbedderUnavailable, match="refuses all"):
            await remote.embed_each(["a", "b"])
        asked = len(server.asked)
        with pytest.raises(EmbedderUnavailable, match="a moment ago"):
            await remote.embed_each(["a"])
        assert len(server.asked) == asked


@pytest.mark.parametrize(
    ("retry_after", "pause_s"),
    [("7", 7.0), ("0", 0.0), ("-1", 0.0), ("86400", LONGEST_AWAY_S), ("soon", AWAY_S), (None, AWAY_S)],
)
async def test_it_may_say_for_how_long(retry_after: str | None, pause_s: float) -> None:
    clock = ManualClock()
    server = Server(lambda _: httpx.Response(429, headers={"Retry-After": retry_after} if retry_after else {}))
    async with embedder(server, clock) as remote:
        for asked in (1, 2):
            with pytest.raises(EmbedderUnavailable):
                await remote.embed_each(["a"])
            assert len(server.asked) == asked
            clock.skip(pause_s)


class Provider:
    async def embed(self, texts: list[str], model: str, *, dimensions: int | None, timeout_s: float) -> Embedded:
        return Embedded([[float(len(text))] * (dimensions or 0) for text in texts], 1, 0.0)


async def test_it_speaks_the_language_of_the_door_at_inference() -> None:
    app = Starlette(routes=[EmbeddingsDoor(POLICY, Provider(), timeout_s=1).route])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://inference") as client:
        (vector,) = await RemoteEmbedder(POLICY, client, ManualClock()).embed_each(["abc"])
        assert vector is not None
        assert vector.tolist() == pytest.approx([0.5**0.5] * 2)
        other = EmbedderPolicy(model="local/other", dimensions=2)
        with pytest.raises(EmbedderUnavailable, match="the policy names no embedder"):
            await RemoteEmbedder(other, client, ManualClock()).embed_each(["abc"])


async def test_it_connects_when_it_is_first_used() -> None:
    async with RemoteEmbedder.connecting(POLICY, "http://127.0.0.1:9", ManualClock(), timeout_s=1) as remote:
        with pytest.raises(EmbedderUnavailable):
            await remote.embed_each(["a"])

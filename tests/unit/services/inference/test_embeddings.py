"""The door for embeddings: whom it serves, and what it says when it can't."""

import httpx
import pytest
from starlette.applications import Starlette

from services.inference import embeddings
from services.inference.completion import Embedded
from services.inference.embeddings import MOST_TEXTS, EmbeddingsDoor
from services.inference.errors import (
    ContextWindowExceeded,
    ProviderAuth,
    ProviderError,
    ProviderFault,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnreachable,
    RateLimited,
)
from shared.policy.caching import EmbedderPolicy

MODEL = "openai/text-embedding-3-small"
POLICY = EmbedderPolicy(model=MODEL, dimensions=3, previous="local/old")


class FakeProvider:
    """Gives a vector for each text, or fails."""

    def __init__(self, error: ProviderError | None = None) -> None:
        self.error = error
        self.asked: list[tuple[list[str], str, int | None, float]] = []

    async def embed(self, texts: list[str], model: str, *, dimensions: int | None, timeout_s: float) -> Embedded:
        self.asked.append((texts, model, dimensions, timeout_s))
        if self.error:
            raise self.error
        return Embedded([[float(len(text)), 0.0, 1.0] for text in texts], 7, 0.001)


async def post(
    provider: FakeProvider, body: object, *, policy: EmbedderPolicy = POLICY, content: bytes | None = None
) -> httpx.Response:
    app = Starlette(routes=[EmbeddingsDoor(policy, provider, timeout_s=5).route])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        if content is not None:
            return await client.post("/v1/embeddings", content=content)
        return await client.post("/v1/embeddings", json=body)


async def test_each_text_gets_its_vector() -> None:
    provider = FakeProvider()
    response = await post(provider, {"model": MODEL, "input": ["a", "bcd"], "user": "ignored"})
    assert response.status_code == 200
    assert response.json() == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [1.0, 0.0, 1.0]},
            {"object": "embedding", "index": 1, "embedding": [3.0, 0.0, 1.0]},
        ],
        "model": MODEL,
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
    assert provider.asked == [(["a", "bcd"], MODEL, 3, 5)]


async def test_one_text_may_come_alone() -> None:
    provider = FakeProvider()
    assert len((await post(provider, {"model": MODEL, "input": "abc"})).json()["data"]) == 1
    assert provider.asked[0][0] == ["abc"]


async def test_the_previous_model_is_served_too_with_the_dimensions_asked_for() -> None:
    provider = FakeProvider()
    assert (await post(provider, {"model": "local/old", "input": ["a"], "dimensions": 9})).status_code == 200
    assert provider.asked == [(["a"], "local/old", 9, 5)]


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        (POLICY, "known: local/old, openai/text-embedding-3-small"),
        (EmbedderPolicy(), "built into the cache"),
        (EmbedderPolicy(previous="builtin"), "built into the cache"),
    ],
)
async def test_no_other_model_is_paid_for(policy: EmbedderPolicy, told: str) -> None:
    for model in ("openai/text-embedding-3-large", "builtin"):
        provider = FakeProvider()
        response = await post(provider, {"model": model, "input": ["a"]}, policy=policy)
        assert (response.status_code, response.json()["code"]) == (404, "model_not_found")
        assert told in response.json()["detail"]
        assert provider.asked == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"input": ["a"]}, "model"),
        ({"model": MODEL}, "input"),
        ({"model": MODEL, "input": []}, "input"),
        ({"model": MODEL, "input": [""]}, "input"),
        ({"model": MODEL, "input": [1]}, "input"),
        ({"model": MODEL, "input": ["a"] * (MOST_TEXTS + 1)}, "input"),
        ({"model": MODEL, "input": ["a"], "dimensions": 4001}, "dimensions"),
        ({"model": MODEL, "input": ["a"], "dimensions": 0}, "dimensions"),
        ([], "the body"),
    ],
)
async def test_what_is_wrong_with_a_body_is_told(body: object, told: str) -> None:
    response = await post(FakeProvider(), body)
    assert response.status_code == 400
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["detail"].startswith(told)


async def test_what_is_no_json_and_what_is_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await post(FakeProvider(), None, content=b"{")).status_code == 400
    monkeypatch.setattr(embeddings, "MOST_BYTES", 10)
    assert (await post(FakeProvider(), {"model": MODEL, "input": ["a"]})).status_code == 413


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (RateLimited("429", retry_after_s=7.2), 429, "8"),
        (RateLimited("429"), 429, "2"),
        (RateLimited("429", retry_after_s=0), 429, "0"),
        (ProviderFault("500"), 502, "2"),
        (ProviderUnreachable("nobody"), 503, "2"),
        (ProviderTimeout("slow"), 504, "2"),
        (ProviderAuth("401"), 503, "60"),
        (ProviderRefused("400"), 400, None),
        (ContextWindowExceeded("long"), 400, None),
    ],
)
async def test_a_failure_says_whether_to_come_back(error: ProviderError, status: int, retry_after: str | None) -> None:
    response = await post(FakeProvider(error), {"model": MODEL, "input": ["a"]})
    assert (response.status_code, response.json()["code"]) == (status, error.code)
    assert response.headers.get("Retry-After") == retry_after
    assert response.json()["detail"] == str(error)

"""Prompts to vectors of a model that is not built in: inference asks the provider, over HTTP.

While it is away the cache goes on with exact matches only. It is then left alone for a moment, so that requests don't
wait for what will not come.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import httpx
import numpy as np
import structlog

from shared.clock import Clock
from shared.errors import ForebayError
from shared.policy.caching import EmbedderPolicy
from shared.telemetry import metrics

if TYPE_CHECKING:  # importing the built-in embedder loads its runtime
    from shared.embedding.builtin import Vectors

log = structlog.stdlib.get_logger(__name__)

MOST_TEXTS: Final = 64
# Seconds it is left alone after a failure, unless it says how long.
AWAY_S: Final = 5.0
LONGEST_AWAY_S: Final = 60.0
# Calls in a row that the model's server may fail at: one may be over a text, so many are not.
MOST_FAULTS: Final = 3
# The texts are at fault, or one of them is.
_REFUSED: Final = {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}


class EmbedderUnavailable(ForebayError):
    """There are no embeddings now; whoever needs one goes on without it, or comes again."""

    code = "embedder_unavailable"
    retryable = True


class RemoteEmbedder:
    """Embeds texts by way of inference."""

    def __init__(self, policy: EmbedderPolicy, client: httpx.AsyncClient, clock: Clock) -> None:
        """``client`` has inference's address as its base, and a timeout."""
        assert policy.dimensions is not None, "the policy demands them for all models but the built-in one"
        self.dimensions = policy.dimensions
        self.version = f"{policy.model}/{policy.dimensions}"
        self._model = policy.model
        self._client = client
        self._clock = clock
        self._away_until: float | None = None
        self._faults = 0

    @classmethod
    @asynccontextmanager
    async def connecting(
        cls, policy: EmbedderPolicy, url: str, clock: Clock, *, timeout_s: float
    ) -> AsyncIterator["RemoteEmbedder"]:
        """An embedder for as long as the block runs; it connects when it is first used."""
        # The address is inside the deployment: no proxy of the environment is for it.
        async with httpx.AsyncClient(base_url=url, timeout=timeout_s, trust_env=False) as client:
            yield cls(policy, client, clock)

    async def embed_each(self, texts: Sequence[str]) -> Sequence["Vectors | None"]:
        """A unit vector of shape (dimensions,) for each text; None for one that the model refuses.

        Raises:
            EmbedderUnavailable: there is none for any of them now.
        """
        if self._away_until is not None and self._clock.monotonic() < self._away_until:
            metrics.UNEMBEDDED.inc(len(texts))
            raise EmbedderUnavailable("the embedder was away a moment ago")
        vectors: list[Vectors | None] = []
        try:
            for first in range(0, len(texts), MOST_TEXTS):
                vectors += await self._embed(texts[first : first + MOST_TEXTS])
            refused = sum(vector is None for vector in vectors)
            if refused == len(texts) and len(set(texts)) > 1:  # no text is at fault, but what is asked
                raise self._away("the model refuses all that it is asked for")
        except EmbedderUnavailable as error:
            metrics.UNEMBEDDED.inc(len(texts))
            log.warning("the embedder is away: exact matches only", model=self._model, error=str(error))
            raise
        if self._away_until is not None:
            log.info("the embedder is back", model=self._model)
            self._away_until = None
        metrics.UNEMBEDDED.inc(refused)
        return vectors

    async def _embed(self, texts: Sequence[str]) -> list["Vectors | None"]:
        """The same for texts that fit in one call; a text that is refused is found by halving."""
        response = await self._post(texts)
        if response.status_code not in _REFUSED:
            return [*self._unit_vectors(response, len(texts))]
        if len(texts) == 1:
            log.warning("the model refuses a prompt", model=self._model, answer=response.text[:300])
            return [None]
        half = len(texts) // 2
        return await self._embed(texts[:half]) + await self._embed(texts[half:])

    async def _post(self, texts: Sequence[str]) -> httpx.Response:
        body = {"model": self._model, "input": list(texts), "dimensions": self.dimensions}
        try:
            response = await self._client.post("/v1/embeddings", json=body)
        except httpx.HTTPError as error:
            raise self._away(repr(error)) from error
        if response.is_success or response.status_code in _REFUSED:
            self._faults = 0
            return response
        reason = f"{response.status_code}: {response.text[:300]}"
        if response.status_code == HTTPStatus.BAD_GATEWAY:
            # The model's server failed at these texts: llama.cpp's, for one, does so over a text that is too long.
            # Others may do better, so they are not made to go without.
            self._faults += 1
            if self._faults < MOST_FAULTS:
                raise EmbedderUnavailable(reason)
        raise self._away(reason, response.headers.get("Retry-After"))

    def _unit_vectors(self, response: httpx.Response, count: int) -> "Vectors":
        """Shape (count, dimensions), each row of length 1."""
        try:
            by_index = {item["index"]: item["embedding"] for item in response.json()["data"]}
            vectors = np.array([by_index[index] for index in range(count)], dtype=np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise self._away(f"the answer makes no sense: {error!r}") from error
        if vectors.shape != (count, self.dimensions):
            got = vectors.shape[-1]
            raise self._away(f"cache.embedder.dimensions is {self.dimensions} in the policy, and the model gives {got}")
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (np.isfinite(lengths).all() and lengths.all()):
            raise self._away("the answer makes no sense: a vector without a direction")
        unit: Vectors = vectors / lengths
        return unit

    def _away(self, reason: str, retry_after: str | None = None) -> EmbedderUnavailable:
        self._faults = 0
        pause_s = AWAY_S
        with suppress(TypeError, ValueError):
            pause_s = min(LONGEST_AWAY_S, max(0.0, float(retry_after or "")))
        self._away_until = self._clock.monotonic() + pause_s
        return EmbedderUnavailable(reason)

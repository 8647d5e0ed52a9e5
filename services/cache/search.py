"""Searching for many requests at once: one batch of embeddings, then one round trip to PostgreSQL."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from services.cache import lookup
from services.cache.batching import Batcher
from services.cache.embedder import Vectors
from services.cache.lookup import Asked, Entry, Lookup
from shared.clock import Clock
from shared.errors import ForebayError
from shared.events import CacheKey, encode_vector
from shared.telemetry import metrics

log = structlog.stdlib.get_logger(__name__)
TOO_LONG: Final = "too long to be matched by meaning"
UNREADABLE: Final = "the cache cannot be read"
NO_EMBEDDING: Final = "the embedder is away"


class Embeds(Protocol):
    """What a search needs of an embedder.

    Attributes:
        version: of the model; vectors of two versions are never compared.
    """

    version: str

    async def embed_each(self, texts: Sequence[str]) -> "Sequence[Vectors | None]":
        """A unit vector for each text; None for one that is longer than the model reads, or refused by it."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """What a search brought.

    Attributes:
        vector: of the prompt; None where it could not be embedded.
        exact: the entry of the same prompt.
        near: the nearest entries of the scope, nearest first.
        trouble: what kept it from searching; empty where nothing did.
    """

    vector: Vectors | None
    exact: Entry | None = None
    near: Sequence[Entry] = ()
    trouble: str = ""


class Search:
    """Finds entries for keys; an embedder or a database that is away makes it find nothing."""

    def __init__(self, embedder: Embeds, entries: Lookup, clock: Clock, *, max_prompt_chars: int) -> None:
        self._embedder = embedder
        self._lookup = entries
        self._clock = clock
        self._max_prompt_chars = max_prompt_chars
        self._embed: Batcher[str, Vectors | None] = Batcher(self._embed_each)
        self._find: Batcher[Asked, lookup.Found] = Batcher(self._find_each)

    @property
    def embedder_version(self) -> str:
        """Of the model whose vectors are compared."""
        return self._embedder.version

    async def __call__(self, key: CacheKey) -> Found:
        """The entries of a key's scope that are the same or near."""
        vector, trouble = await self._vector(key)
        try:
            found = await self._find(Asked(key.scope, key.exact, vector))
        except ForebayError as error:
            metrics.LOOKUPS.labels("unavailable").inc()
            log.warning(UNREADABLE, error=str(error))
            return Found(vector, trouble=UNREADABLE)
        return Found(vector, found.exact, found.near, trouble)

    async def embedded(self, key: CacheKey) -> CacheKey:
        """The key with the embedding of its prompt; without, where that is too long or the embedder away."""
        return key if key.embedding else embedded(key, (await self._vector(key))[0])

    async def _vector(self, key: CacheKey) -> tuple[Vectors | None, str]:
        if len(key.prompt) > self._max_prompt_chars:
            return None, TOO_LONG
        try:
            vector = await self._embed(key.prompt)
        except ForebayError as error:
            log.warning(NO_EMBEDDING, error=str(error))
            return None, NO_EMBEDDING
        return vector, "" if vector is not None else TOO_LONG

    async def _embed_each(self, texts: Sequence[str]) -> Sequence[Vectors | None]:
        with metrics.EMBED_SECONDS.time():
            return await self._embedder.embed_each(texts)

    async def _find_each(self, asked: Sequence[Asked]) -> Sequence[lookup.Found]:
        with metrics.SEARCH_SECONDS.time():
            return await self._lookup.find(asked, self._clock.now())


def embedded(key: CacheKey, vector: Vectors | None) -> CacheKey:
    """The key with its embedding, where there is one."""
    return key if vector is None else key.model_copy(update={"embedding": encode_vector(vector.tolist())})

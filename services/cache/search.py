"""Searching for many requests at once: the very same prompt first, and only then by meaning.

Each step is one batch for all that wait for it: a round trip to PostgreSQL by key, embedding, a round trip by vector. A
prompt that is known costs the first alone; any other pays it on top, which is a tenth of what comes after.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import structlog

from services.cache.batching import Batcher
from services.cache.lookup import Asked, Entry, Lookup, Prompt
from shared.clock import Clock
from shared.embedding.builtin import Vectors
from shared.errors import ForebayError
from shared.events import CacheKey
from shared.telemetry import metrics
from shared.vectors import encode_vector

log = structlog.stdlib.get_logger(__name__)
TOO_LONG: Final = "too long to be matched by meaning"
UNREADABLE: Final = "the cache cannot be read"
NO_EMBEDDING: Final = "the embedder is away"
# Seconds for which a database that did not answer is not asked again: each batch would wait out its patience.
LEFT_ALONE_S: Final = 2.0
A = TypeVar("A")
T = TypeVar("T")


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
        vector: of the prompt; None where it was not needed, or could not be embedded.
        exact: the entry of the same prompt, where it is usable; nothing else was looked for then.
        near: the nearest entries of the scope, nearest first.
        trouble: what kept it from searching; empty where nothing did.
        refused: the entry of the same prompt, where it is not usable.
    """

    vector: Vectors | None
    exact: Entry | None = None
    near: Sequence[Entry] = ()
    trouble: str = ""
    refused: Entry | None = None


class Search:
    """Finds entries for keys; an embedder or a database that is away makes it find nothing."""

    def __init__(self, embedder: Embeds, entries: Lookup, clock: Clock, *, max_prompt_chars: int) -> None:
        self._embedder = embedder
        self._lookup = entries
        self._clock = clock
        self._max_prompt_chars = max_prompt_chars
        self._embed: Batcher[str, Vectors | None] = Batcher(self._embed_each)
        self._same: Batcher[Prompt, Entry | None] = Batcher(self._same_each)
        self._near: Batcher[Asked, Sequence[Entry] | None] = Batcher(self._near_each)
        self._readable_from = 0.0

    @property
    def embedder_version(self) -> str:
        """Of the model whose vectors are compared."""
        return self._embedder.version

    async def __call__(self, key: CacheKey, usable: Callable[[Entry], bool] = lambda _: True) -> Found:
        """The entry of this very prompt or, where there is none that is usable, the nearest of its scope."""
        same, unreadable = await self._read(self._same, Prompt(key.scope, key.exact))
        if same is not None and usable(same):
            return Found(None, exact=same)
        vector, trouble = await self._vector(key)
        if unreadable or vector is None:
            return Found(vector, trouble=unreadable or trouble, refused=same)
        near, unreadable = await self._read(self._near, Asked(key.scope, vector))
        return Found(vector, near=near or (), trouble=unreadable, refused=same)

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

    async def _same_each(self, prompts: Sequence[Prompt]) -> Sequence[Entry | None]:
        return await self._lookup.same(prompts, self._clock.now())

    async def _near_each(self, asked: Sequence[Asked]) -> Sequence[Sequence[Entry]]:
        with metrics.SEARCH_SECONDS.time():
            return await self._lookup.near(asked, self._clock.now())

    async def _read(self, read: Batcher[A, T], asked: A) -> tuple[T | None, str]:
        """What was read, and what kept it from being read."""
        if self._clock.monotonic() < self._readable_from:
            return None, UNREADABLE
        try:
            return await read(asked), ""
        except ForebayError as error:
            self._readable_from = self._clock.monotonic() + LEFT_ALONE_S
            log.warning(UNREADABLE, error=str(error))
            return None, UNREADABLE


def embedded(key: CacheKey, vector: Vectors | None) -> CacheKey:
    """The key with its embedding, where there is one."""
    return key if vector is None else key.model_copy(update={"embedding": encode_vector(vector)})

"""Moving the entries of one embedder to another, in the background.

Vectors of two models can't be compared, so the embedder is part of an entry's scope, and a cache that gets another one
begins empty. This job reads the entries of the previous embedder, has their prompts embedded by the new one, and
announces each under its new key, with its own id and its own time, so that it expires when it would have expired, and
what is told to forget it finds it. Persistence writes them. One replica is at it at a time, slowly; what is there
already is passed over, so that a job that was cut off goes on where it was.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import structlog

from services.cache.scope import exact_of, scope_of
from services.cache.search import Embeds
from shared import database
from shared.broker import Broker
from shared.clock import Clock
from shared.embedding.builtin import MODEL, Vectors
from shared.embedding.remote import EmbedderUnavailable
from shared.errors import BrokerError
from shared.events import CacheFilled, CacheKey, Event, Freshness
from shared.policy.caching import BUILTIN
from shared.publishing import publish
from shared.telemetry import metrics
from shared.vectors import encode_vector

if TYPE_CHECKING:
    import asyncpg

    from shared.database import Connection, Pool

log = structlog.stdlib.get_logger(__name__)

SQL: Final = database.statements(Path(__file__).with_name("reembedding.sql"))
BATCH: Final = 32
# Between two batches: some 30 entries a second, a third of what one writer can index where there are a million.
PAUSE_S: Final = 1.0
# Before looking again: for the lock, for a database that was away, for what was announced to be written.
AGAIN_S: Final = 30.0
# Later passes find what replicas with the earlier policy have stored meanwhile. What the writer does not keep (for
# lack of room, say) would be found in each of them, and paid for: hence no more than these.
PASSES: Final = 3
FIRST: Final = UUID(int=0)


class Reembedding:
    """Embeds the entries of the previous embedder anew."""

    def __init__(
        self, pool: "Pool", embedder: Embeds, broker: Broker, clock: Clock, *, previous: str, max_prompt_chars: int
    ) -> None:
        """``previous`` is what the policy called the model, or a version of it as the entries have it."""
        self._pool = pool
        self._embedder = embedder
        self._broker = broker
        self._clock = clock
        self._previous = MODEL if previous == BUILTIN else previous  # as the built-in one's versions begin
        self._max_prompt_chars = max_prompt_chars

    async def run(self) -> None:
        """Return when nothing is left to do; whatever is away is waited for."""
        while True:
            try:
                if await self._done():
                    return
            except (*database.FAILED, EmbedderUnavailable, BrokerError) as error:
                log.warning("embedding anew pauses", error=repr(error))
            await self._clock.sleep(AGAIN_S)

    async def _done(self) -> bool:
        """Do all there is to do, if no other replica is at it; whether this is over."""
        async with self._pool.acquire() as connection:
            if not await connection.fetchval(SQL["lock"]):
                return False
            for _ in range(PASSES):
                if not await self._pass(connection):
                    break
                await self._clock.sleep(AGAIN_S)
        log.info("embedding anew is done", embedder=self._embedder.version, previous=self._previous)
        return True

    async def _pass(self, connection: "Connection") -> int:
        """Go through all entries once; how many were announced."""
        left = await connection.fetchval(SQL["count"], *self._which())
        log.info("embedding anew", embedder=self._embedder.version, previous=self._previous, entries=left)
        announced, last = 0, (FIRST, FIRST)
        while rows := await connection.fetch(SQL["batch"], *self._which(), *last, BATCH):
            last = (rows[-1]["entry_id"], rows[-1]["scope"])
            if events := await self._moved(connection, rows):
                await publish(self._broker, events, source="cache", now=self._clock.now())
                metrics.REEMBEDDED.inc(len(events))
                announced += len(events)
                await self._clock.sleep(PAUSE_S)
            left = max(0, left - len(rows))
            metrics.REEMBEDDING_LEFT.set(left)
        metrics.REEMBEDDING_LEFT.set(0)
        return announced

    def _which(self) -> tuple[object, ...]:
        return (self._clock.now(), self._embedder.version, self._previous)

    async def _moved(self, connection: "Connection", rows: Sequence["asyncpg.Record"]) -> list[Event]:
        """The entries under their new keys, those left out that are there already."""
        moves = [(row, self._key(row["base"], row["prompt"])) for row in rows]
        known = await connection.fetch(SQL["present"], [key.scope for _, key in moves], [key.exact for _, key in moves])
        present = {(row["scope"], row["exact"]) for row in known}
        moves = [(row, key) for row, key in moves if (key.scope, key.exact) not in present]
        short = [key.prompt for _, key in moves if len(key.prompt) <= self._max_prompt_chars]
        vectors = dict(zip(short, await self._embedder.embed_each(short) if short else (), strict=True))
        if short and all(vector is None for vector in vectors.values()):
            # Whether a prompt is at fault or what the policy asks of the model can't be told: they stay where they are.
            log.warning("no prompt of a batch can be embedded", prompts=len(short))
            moves = [(row, key) for row, key in moves if key.prompt not in vectors]
        return [_filled(row, key, vectors.get(key.prompt)) for row, key in moves]

    def _key(self, base: UUID, prompt: str) -> CacheKey:
        scope = scope_of(base, self._embedder.version)
        return CacheKey(
            scope=scope, exact=exact_of(scope, prompt), base=base, embedder=self._embedder.version, prompt=prompt
        )


def _filled(row: Any, key: CacheKey, vector: Vectors | None) -> CacheFilled:
    """The entry as it is, under another key."""
    embedding = None if vector is None else encode_vector(vector)
    ttl_s = int((row["expires_at"] - row["stored_at"]).total_seconds())
    return CacheFilled(
        entry_id=row["entry_id"],
        tenant=row["tenant"],
        origin="reembed",
        key=key.model_copy(update={"embedding": embedding}),
        output_text=row["answer"],
        model=row["model"],
        tier=row["tier"],
        freshness=Freshness(category=row["category"], ttl_s=ttl_s, reason=row["reason"]),
        cost_usd=row["cost_usd"],
        completed_at=row["stored_at"],
    )

"""What rows cost as they become many: the writer's ticks, reads by id, lookups in the cache, bytes a row.

All in the real tables of a private PostgreSQL, by the product's own statements. Only the cache is filled by COPY, and
its indexes are built then, as those of a restored database are: row by row 100,000 would take minutes.
"""

import random
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid4

import numpy as np

from services.cache.lookup import Lookup
from services.ingest.results import Results
from services.persistence.writer import Writer
from shared import database
from shared.clock import SYSTEM_CLOCK
from shared.embedding.builtin import Embedder, Vectors
from shared.events import Event, ResponseCompleted
from shared.policy.caching import CachePolicy
from shared.topology import RECORDS, Queue, entries
from shared.vectors import encode_vector
from tests.bench.cache_speed import Cpu, Probe, searches
from tests.bench.entries import ANSWER, Entries, fill, running, scope_id
from tests.bench.growth_queue import TIERS, prompts
from tests.bench.report import Measure
from tests.bench.traffic import traffic
from tests.support import make

if TYPE_CHECKING:
    from shared.database import Pool

Batch = Sequence[tuple[Queue, Event]]

TICK: Final = 500  # events, half of them requests; FOREBAY_TICK_ROWS
TICKS: Final = 20  # the last of a filling are measured
READS: Final = 400
PROBES: Final = 640
EMBEDDED: Final = 4_000
# On each number of a vector, in all about as far as from one text to another that says the same.
NOISE: Final = 0.6 / 384**0.5
ENTRY_TICK: Final = 32  # FOREBAY_TICK_ENTRIES
ENTRY_TICKS: Final = 5
SIZES: Final = """
SELECT sum(pg_relation_size(relid))::float8 AS "heap",
       sum(coalesce(pg_total_relation_size(nullif(reltoastrelid, 0)), 0))::float8 AS "TOAST",
       sum((SELECT coalesce(sum(pg_relation_size(indexrelid)), 0) FROM pg_index
            JOIN pg_class AS index ON index.oid = indexrelid JOIN pg_am ON pg_am.oid = relam
            WHERE indrelid = relid AND amname = 'hnsw'))::float8 AS "vector index",
       sum(pg_indexes_size(relid))::float8 AS "all indexes"
FROM pg_partition_tree($1::regclass)
JOIN pg_class ON pg_class.oid = relid
WHERE isleaf
"""


class Rows:
    """The tables of requests and responses, as far as they are filled."""

    def __init__(self, pool: "Pool", writer: Writer) -> None:
        self._pool = pool
        self._writer = writer
        self._ids: list[UUID] = []

    async def measure(self, count: int) -> list[Measure]:
        """Fill up to so many requests with their answers, and read some of them."""
        ticks_ms = [1e3 * seconds async for seconds in _written(self._writer, self._records(count - len(self._ids)))]
        await self._pool.execute("VACUUM ANALYZE requests, responses")
        results, reads_ms = Results(self._pool, keep=1), []
        for request_id in random.Random(1).choices(self._ids, k=READS):
            began = time.perf_counter()
            known = await results.find("acme", request_id)
            reads_ms.append(1e3 * (time.perf_counter() - began))
            if known is None or known.result is None:
                raise LookupError(f"request {request_id} was written, and is not found")
        label = f"{count:,} requests"
        measures = [
            Measure(f"{label}: a tick of {TICK} events, p50", median(ticks_ms[-TICKS:]), "ms"),
            Measure(f"{label}: a result read by id, p50", median(reads_ms), "ms"),
            Measure(f"{label}: a result read by id, p99", float(np.percentile(reads_ms, 99)), "ms"),
        ]
        for table in ("requests", "responses"):
            by_kind = await sizes(self._pool, table, count)
            measures += [Measure(f"{label}: {table}, {kind}", size, "bytes/row") for kind, size in by_kind.items()]
        return measures

    def _records(self, requests: int) -> Iterator[Batch]:
        events = traffic(requests)
        while batch := list(islice(events, TICK)):
            self._ids += [event.request_id for event in batch if isinstance(event, ResponseCompleted)]
            yield [(RECORDS, event) for event in batch]


@dataclass(frozen=True, slots=True)
class Population:
    """Prompts with vectors, some of them held back to be asked for; more are variants of those."""

    texts: Sequence[str]
    vectors: Vectors
    asked: Vectors

    @classmethod
    def embedded(cls, embedder: Embedder) -> "Population":
        """Prompts that have little to do with each other."""
        texts = list(islice(prompts(seed=2), EMBEDDED + PROBES))
        vectors = embedder.embed_now(texts)
        return cls(texts[:EMBEDDED], vectors[:EMBEDDED], vectors[EMBEDDED:])

    def entries(self, count: int) -> Entries:
        """So many, all in one scope, which is where an index has most to look through."""
        origins = np.arange(count) % len(self.texts)
        noise = np.random.default_rng(3).standard_normal((count, self.vectors.shape[1]), dtype=np.float32)
        noise[: len(self.texts)] = 0
        varied = self.vectors[origins] + noise * np.float32(NOISE)
        varied /= np.linalg.norm(varied, axis=1, keepdims=True)
        texts = [f"{self.texts[number % len(self.texts)]} ({number})" for number in range(count)]
        return Entries(texts, varied, np.zeros(count, dtype=np.int64))


class Cached:
    """The cache's table."""

    def __init__(self, pool: "Pool", dsn: str, postmaster: int, embedder: Embedder) -> None:
        self._pool = pool
        self._dsn = dsn
        self._postmaster = postmaster
        self._embedder = embedder
        self._population = Population.embedded(embedder)

    async def measure(self, count: int) -> list[Measure]:
        """Fill the table with so many entries in the place of those that were there, and look some up."""
        label, population = f"{count:,} entries", self._population
        filled = population.entries(count)
        built_s = await fill(self._dsn, filled)
        by_kind = await sizes(self._pool, "cache_entries", count)
        probes = [Probe("", 0, place % count, 0.0) for place in range(len(population.asked))]
        async with database.search_pool(self._dsn) as pool:
            lookup = Lookup(pool, candidates=CachePolicy().candidates)
            searched = await searches(label, lookup, probes, population.asked, Cpu(self._postmaster))
        house_s = [seconds async for seconds in _written(self._writer(), [[]])]
        ticks_ms = [1e3 * seconds async for seconds in _written(self._writer(), self._ticks())]
        return [
            *searched,
            Measure(f"{label}: a tick of {ENTRY_TICK} entries, p50", median(ticks_ms[1:]), "ms"),
            Measure(f"{label}: a tick of housekeeping", 1e3 * house_s[0], "ms"),
            Measure(f"{label}: vector index built in", built_s, "s"),
            *(Measure(f"{label}: {kind}", size, "bytes/entry") for kind, size in by_kind.items()),
        ]

    def _writer(self) -> Writer:
        """One that has its housekeeping before it."""
        return Writer(self._pool, SYSTEM_CLOCK, make.policy(), entries=entries(TIERS))

    def _ticks(self) -> Iterator[Batch]:
        """Answers to prompts that nobody asked before; the first tick has the housekeeping of the minute in it."""
        asked = iter(self._population.asked)
        for _ in range(ENTRY_TICKS + 1):
            yield [(entries(TIERS), self._answer(vector)) for vector in islice(asked, ENTRY_TICK)]

    def _answer(self, vector: Vectors) -> ResponseCompleted:
        scope = scope_id(0)
        key = make.key(
            str(uuid4()),
            scope=scope,
            exact=uuid4(),
            base=scope,
            embedder=self._embedder.version,
            embedding=encode_vector(vector),
        )
        now = SYSTEM_CLOCK.now()
        return make.completed(make.request(id=uuid4()), output_text=ANSWER, key=key, accepted_at=now, completed_at=now)


async def _written(writer: Writer, batches: Iterable[Batch]) -> AsyncIterator[float]:
    """Write some batches; gives the seconds that each took."""
    for batch in batches:
        began = time.perf_counter()
        await writer.write(batch)
        yield time.perf_counter() - began


async def sizes(pool: "Pool", table: str, rows: int) -> Mapping[str, float]:
    """Bytes a row, in its table, beside it for long values, and in the indexes."""
    found = dict(await pool.fetchrow(SIZES, table) or {})
    found["other indexes"] = found.pop("all indexes") - found["vector index"]
    return {kind: size / rows for kind, size in found.items() if size}


async def grown(counts: Sequence[int]) -> list[Measure]:
    """Measure at some sizes, the smallest first."""
    measures: list[Measure] = []
    async with AsyncExitStack() as exits:
        place = exits.enter_context(tempfile.TemporaryDirectory(prefix="forebay-growth-"))
        stack = exits.enter_context(running(Path(place) / "stack"))
        pool = await exits.enter_async_context(database.vector_pool(stack.postgres_dsn, size=1))
        writer = Writer(pool, SYSTEM_CLOCK, make.policy(), entries=entries(TIERS))
        await writer.write([])  # the housekeeping of the minute
        rows = Rows(pool, writer)
        cached = Cached(pool, stack.postgres_dsn, stack.infrastructure["postgres"].pid or 0, Embedder())
        for count in counts:
            measures += [*await rows.measure(count), *await cached.measure(count)]
    return measures

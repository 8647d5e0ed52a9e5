"""How fast the cache answers: ``make bench-cache-speed``, and with ENTRIES=1000000 for a longer run.

A lookup is what the service does for a prompt that is not in its front, done by the service's own parts: its search
(the same prompt, or embedding and the nearest ones), then its judge. All in this process, with a connection for each of
the two round trips, so that CPU time can be told.
"""

import argparse
import asyncio
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import onnxruntime
import psutil

from services.cache.front import Front
from services.cache.judgement import Judge
from services.cache.learning.lessons import Lessons
from services.cache.learning.threshold import Settings
from services.cache.lookup import Asked, Entry, Lookup, Prompt
from services.cache.search import Search
from services.cache.verification.guards import objection
from shared import database
from shared.embedding import weights
from shared.embedding.builtin import Embedder, Vectors
from shared.events import CacheKey
from shared.policy.caching import CachePolicy, FrontPolicy
from tests.bench import gptcache
from tests.bench.entries import ANSWER, STORED, Entries, exact_id, fill, running, scope_id, spread
from tests.bench.report import Measure, report
from tests.bench.texts import distinct, vectors
from tests.support import make
from tests.support.clock import ManualClock

POLICY: Final = CachePolicy()
HELD_BACK: Final = 3_000
PROBES: Final = 320
BATCH: Final = 32
ROUNDS: Final = 3
SCOPE_OF: Final = 200  # entries a scope has on average where they are spread
GPTCACHE_MOST: Final = 100_000
# The goal for memory is one for a replica that keeps this many entries.
FRONT_OF: Final = FrontPolicy(max_entries=100_000, max_bytes=256 * 2**20)
QUERIES_FIRST: Final = 68_632  # the texts of the public QQP stream come first


@dataclass(frozen=True, slots=True)
class Probe:
    """A prompt to look up: in which scope, and the entry that is nearest there by an exact scan."""

    text: str
    scope: int
    exact: int
    nearest: float


@dataclass(frozen=True, slots=True)
class Timed:
    """Milliseconds of each call, and the CPU seconds all of them took, the database's included."""

    ms: Sequence[float]
    cpu_s: float
    lookups: int

    @property
    def p50(self) -> float:
        return float(np.percentile(self.ms, 50))

    @property
    def p99(self) -> float:
        return float(np.percentile(self.ms, 99))

    @property
    def per_cpu_s(self) -> float:
        return self.lookups / self.cpu_s


class Cpu:
    """CPU seconds of this process and of PostgreSQL's."""

    def __init__(self, postmaster: int) -> None:
        self._all = psutil.Process(postmaster).children(recursive=True)

    def seconds(self) -> float:
        times = [process.cpu_times() for process in self._all]
        return time.process_time() + sum(each.user + each.system for each in times)


class Service:
    """The path of a lookup: the service's own search and judge. Each one embeds anew what another has embedded."""

    def __init__(self, lookup: Lookup) -> None:
        embedder = Embedder()
        self._version = embedder.version
        self._search = Search(embedder, lookup, ManualClock(STORED), max_prompt_chars=POLICY.max_prompt_chars)
        lessons = Lessons(Settings(threshold=POLICY.threshold), POLICY.owner_of, random.Random(1))
        self._judge = Judge(make.policy(), lessons)

    async def answer(self, probes: Sequence[Probe]) -> Sequence[bool]:
        """Whether each probe is answered, all of them asked for at once."""
        return await asyncio.gather(*map(self._answer, probes))

    async def _answer(self, probe: Probe) -> bool:
        scope = scope_id(probe.scope)
        key = CacheKey(scope=scope, exact=exact_id(probe.exact), base=scope, embedder=self._version, prompt=probe.text)
        found = await self._search(key)
        if found.exact is not None:
            return True
        considered = self._judge.consider(key.prompt, found.near, tenant="bench", counts=False)
        return any(each.against is None for each in considered)


async def timed(
    work: Callable[[Sequence[Probe]], Awaitable[Any]], probes: Sequence[Probe], size: int, cpu: Cpu
) -> Timed:
    """The probes in batches of a size; the first ones are for warming up."""
    batches = [probes[start : start + size] for start in range(0, len(probes) - size + 1, size)]
    for batch in batches[:2]:
        await work(batch)
    batches = batches[2:]
    ms, before = [], cpu.seconds()
    for batch in batches:
        began = time.perf_counter()
        await work(batch)
        ms.append(1000 * (time.perf_counter() - began))
    return Timed(ms, cpu.seconds() - before, size * len(batches))


def population(data: Path, count: int, embedder: Embedder) -> tuple[Entries, list[str], Vectors]:
    """Entries, all in scope 0, and texts that were held back with their vectors."""
    texts = distinct(data)
    found, cpu_s = vectors(embedder, texts)
    sys.stdout.write(f"{len(texts):,} distinct texts of the public sets embedded in {cpu_s:.0f} CPU s (0: kept)\n")
    back = np.random.default_rng(5).choice(QUERIES_FIRST, HELD_BACK, replace=False)
    kept = np.setdiff1d(np.arange(len(texts)), back)[:count]
    words, stored = [texts[place] for place in kept], found[kept]
    if (missing := count - len(kept)) > 0:
        rng = np.random.default_rng(6)
        origins = rng.integers(0, len(kept), missing)
        noise = rng.standard_normal((missing, stored.shape[1]), dtype=np.float32) * np.float32(0.6 / 384**0.5)
        varied = stored[origins] + noise
        varied /= np.linalg.norm(varied, axis=1, keepdims=True)
        words += [f"{words[origin]} ({number})" for number, origin in enumerate(origins)]
        stored = np.concatenate([stored, varied])
        sys.stdout.write(f"{missing:,} more entries are variants: a number behind the text, noise on its vector\n")
    stored = stored.astype(np.float16).astype(np.float32)
    return Entries(words, stored, np.zeros(count, dtype=np.int64)), [texts[place] for place in back], found[back]


def probes_of(entries: Entries, texts: Sequence[str], asked: Vectors) -> list[Probe]:
    """The held-back texts, in random scopes; in the one that holds the very nearest entry where there is a near one."""
    rng = np.random.default_rng(8)
    members = {int(scope): np.flatnonzero(entries.scopes == scope) for scope in np.unique(entries.scopes)}
    nearest = np.concatenate(
        [np.argmax(asked[start : start + 200] @ entries.vectors.T, axis=1) for start in range(0, len(texts), 200)]
    )
    probes = []
    for number, text in enumerate(texts):
        best = int(nearest[number])
        near = float(asked[number] @ entries.vectors[best]) >= POLICY.threshold
        scope = int(entries.scopes[best if near else rng.integers(len(entries.texts))])
        # The very nearest of all is the nearest of its scope; only where another scope is asked is that one compared.
        among = [best] if scope == entries.scopes[best] else members[scope]
        similarity = float((entries.vectors[among] @ asked[number]).max())
        probes.append(Probe(text, scope, 10**8 + number, similarity))
    return probes


async def scenario(
    label: str, dsn: str, postmaster: int, entries: Entries, texts: Sequence[str], asked: Vectors
) -> list[Measure]:
    """Fill, index, look up."""
    goals = ("<= 3", "<= 10", "<= 6", "<= 15") if len(entries.texts) <= 200_000 else ("<= 5", "<= 20", "", "")
    built = await fill(dsn, entries)
    probes = probes_of(entries, texts, asked)
    exact = [
        Probe(entries.texts[place], int(entries.scopes[place]), place, 1.0)
        for place in random.Random(9).sample(range(len(entries.texts)), PROBES)
    ]
    measures = [
        Measure(f"{label}: vector index built in", built, "s", "<= 600" if len(entries.texts) > 200_000 else "")
    ]
    async with database.search_pool(dsn) as pool:
        lookup = Lookup(pool, candidates=POLICY.candidates)
        await pool.fetch("SELECT 1")
        cpu = Cpu(postmaster)
        measures += await quality(label, lookup, probes, asked)
        misses = [probe for probe in probes if probe.nearest < POLICY.threshold]
        near = [probe for probe in probes if probe.nearest >= POLICY.threshold]
        answered = await _each(Service(lookup), near)
        hits = [probe for probe, yes in zip(near, answered, strict=True) if yes]
        sys.stdout.write(
            f"{label}: {len(misses)} probes far from all, {len(near)} near one, {len(hits)} of them verified\n"
        )
        kinds = {"miss": misses, "near, verified hit": hits, "exact hit": exact}
        for kind, each in kinds.items():
            single = await timed(Service(lookup).answer, each[:PROBES], 1, cpu)
            p50, p99 = goals[2:] if "near" in kind else goals[:2]
            measures += [
                Measure(f"{label}: {kind}, p50", single.p50, "ms", p50),
                Measure(f"{label}: {kind}, p99", single.p99, "ms", p99),
                Measure(f"{label}: {kind}, CPU", 1000 * single.cpu_s / single.lookups, "ms"),
            ]
        mixed = [
            probe
            for triple in zip(misses, _cycle(hits, len(misses)), _cycle(exact, len(misses)), strict=True)
            for probe in triple
        ]
        rounds = [await timed(Service(lookup).answer, mixed[: 3 * PROBES], BATCH, cpu) for _ in range(ROUNDS)]
        measures += [
            Measure(f"{label}: 32 at once, a third of each, p50", median(each.p50 for each in rounds), "ms"),
            Measure(
                f"{label}: 32 at once, a third of each",
                median(each.per_cpu_s for each in rounds),
                "per CPU s",
                ">= 700",
            ),
        ]
        rounds = [await timed(Service(lookup).answer, misses[: 3 * PROBES], BATCH, cpu) for _ in range(ROUNDS)]
        measures.append(
            Measure(f"{label}: 32 at once, misses", median(each.per_cpu_s for each in rounds), "per CPU s", ">= 700")
        )
        measures += await searches(label, lookup, probes, asked, cpu)
    return measures


async def searches(label: str, lookup: Lookup, probes: Sequence[Probe], asked: Vectors, cpu: Cpu) -> list[Measure]:
    """The round trips alone: what is left of a lookup on a machine that embeds in no time."""
    keys = {id(probe): vector for probe, vector in zip(probes, asked, strict=True)}

    async def same(batch: Sequence[Probe]) -> Sequence[Entry | None]:
        return await lookup.same([Prompt(scope_id(p.scope), exact_id(p.exact)) for p in batch], STORED)

    async def near(batch: Sequence[Probe]) -> Sequence[Sequence[Entry]]:
        return await lookup.near([Asked(scope_id(p.scope), keys[id(p)]) for p in batch], STORED)

    measures = []
    kinds: dict[str, Callable[[Sequence[Probe]], Awaitable[Any]]] = {"by key": same, "by vector": near}
    for kind, find in kinds.items():
        rounds = [await timed(find, probes[: 3 * PROBES], BATCH, cpu) for _ in range(ROUNDS)]
        one = await timed(find, probes[:PROBES], 1, cpu)
        measures += [
            Measure(f"{label}: search {kind} alone, p50", one.p50, "ms"),
            Measure(f"{label}: search {kind} alone, p99", one.p99, "ms"),
            Measure(
                f"{label}: search {kind} alone, 32 at once", median(each.per_cpu_s for each in rounds), "per CPU s"
            ),
        ]
    return measures


async def quality(label: str, lookup: Lookup, probes: Sequence[Probe], asked: Vectors) -> list[Measure]:
    """Whether the nearest entry of the scope is found."""
    found: list[Sequence[Entry]] = []
    for start in range(0, len(probes), BATCH):
        part = slice(start, start + BATCH)
        keys = [Asked(scope_id(probe.scope), vector) for probe, vector in zip(probes[part], asked[part], strict=True)]
        found += await lookup.near(keys, STORED)
    # Vectors are halves on both sides in PostgreSQL: entries that are as near as that can tell are as good.
    right = [bool(near) and near[0].similarity >= p.nearest - 1e-3 for near, p in zip(found, probes, strict=True)]
    return [
        Measure(f"{label}: recall@1 within the scope", 100 * float(np.mean(right)), "%", ">= 99"),
        Measure(f"{label}: nothing found", 100 * float(np.mean([not near for near in found])), "%", "0"),
    ]


def embedding(texts: Sequence[str]) -> list[Measure]:
    """The embedder, beside the packaged model computing in fp32."""
    new, old = Embedder(), Packaged()
    ours, theirs = (
        [_ms(embed, [[text] for text in texts[:PROBES]]) for _ in range(1)]
        for embed in (Embedder().embed_now, old.embed)
    )
    batches = [texts[start : start + BATCH] for start in range(PROBES, PROBES + 10 * BATCH, BATCH)]
    rates = []
    for embed in (new.embed_now, old.embed):
        before = time.process_time()
        for batch in batches:
            embed(batch)
        rates.append(len(batches) * BATCH / (time.process_time() - before))
    anchor = "packaged model, fp32 arithmetic"
    return [
        Measure("embedding one prompt, p50", median(ours[0]), "ms", "", median(theirs[0]), anchor),
        Measure("embedding 32 at once", rates[0], "per CPU s", "", rates[1], anchor),
    ]


class Packaged:
    """The embedder as it was: the packaged file, texts padded to the longest of the batch."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = weights.packaged(weights.PACKAGE, "model.onnx")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._tokenizer = Embedder()._tokenizer
        self._tokenizer.enable_padding()

    def embed(self, texts: Sequence[str]) -> Vectors:
        encoded = self._tokenizer.encode_batch(list(texts))
        mask = np.array([one.attention_mask for one in encoded], dtype=np.int64)
        ids = np.array([one.ids for one in encoded], dtype=np.int64)
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(mask)}
        summed = (self._session.run(None, feeds)[0] * mask[:, :, None]).sum(axis=1)
        result: Vectors = (summed / np.linalg.norm(summed, axis=1, keepdims=True)).astype(np.float32)
        return result


def anchor(folder: Path, entries: Entries, texts: Sequence[str]) -> list[Measure]:
    """GPTCache on the same entries and prompts; it searches one at a time and verifies nothing."""
    embedder, number = Embedder(), min(len(entries.texts), GPTCACHE_MOST)
    began = time.perf_counter()
    get = gptcache.filled(
        folder, entries.texts[:number], entries.vectors[:number], lambda text: embedder.embed_now([text])[0]
    )
    name = f"GPTCache 0.1.44, {number:,} entries"
    sys.stdout.write(f"{name} filled in {time.perf_counter() - began:.0f} s\n")
    before, ms, answered = time.process_time(), [], 0
    for text in texts[:PROBES]:
        start = time.perf_counter()
        answered += get(text) is not None
        ms.append(1000 * (time.perf_counter() - start))
    cpu_s = time.process_time() - before
    return [
        Measure(f"{name}: lookup, p50", median(ms), "ms"),
        Measure(f"{name}: lookup, p99", float(np.percentile(ms, 99)), "ms"),
        Measure(f"{name}: lookups", len(ms) / cpu_s, "per CPU s"),
        Measure(f"{name}: answered of prompts held back", 100 * answered / len(ms), "%"),
    ]


def memory(rules: FrontPolicy) -> None:
    """In a process of its own: the memory of embedder, verifier and a front as full as its rules let it be."""
    embedder = Embedder()
    embedder.embed_now(["How do I learn to cook?"])
    objection("How do I learn to cook?", "How can I learn cooking?")
    front = Front(max_entries=rules.max_entries, max_bytes=rules.max_bytes)
    for place in range(FRONT_OF.max_entries):
        front.put(_entry(place))
    rss = psutil.Process().memory_info().rss
    sys.stdout.write(f"{rss / 2**20} {len(front)}\n")


def remembered() -> list[Measure]:
    measures = []
    for rules in (POLICY.front, FRONT_OF):
        command = [sys.executable, "-m", __spec__.name, "--memory", rules.model_dump_json()]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rss, entries = map(float, done.stdout.split())
        measures.append(Measure(f"memory of the process, front full ({entries:,.0f} entries)", rss, "MB", "<= 400"))
    return measures


def long_prompts() -> list[Measure]:
    """How long the event loop's neighbour is kept busy by a prompt of 100,000 tokens, cut and not."""
    embedder, text = Embedder(), "lorem ipsum dolor sit amet " * 20_000
    cut = _ms(lambda each: embedder.truncated(each[0]), [[text]] * 5)
    whole = _ms(lambda each: embedder._tokenizer.encode(each[0]), [[text]] * 3)
    return [Measure("tokenising 100,000 words", median(cut), "ms", "", median(whole), "the whole text, not cut before")]


async def run(count: int, data: Path, *, with_gptcache: bool) -> None:
    embedder = Embedder()
    entries, texts, asked = population(data, count, embedder)
    measures = [*embedding(texts), *long_prompts(), *remembered()]
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as place:
        with running(Path(place) / "stack") as stack:
            postmaster = stack.infrastructure["postgres"].pid or 0
            spreads = Entries(entries.texts, entries.vectors, spread(count, max(1, count // SCOPE_OF)))
            measures += await scenario("one scope", stack.postgres_dsn, postmaster, entries, texts, asked)
            measures += await scenario("many scopes", stack.postgres_dsn, postmaster, spreads, texts, asked)
        if with_gptcache:
            measures += anchor(Path(place), entries, texts)
    report("cache_speed", measures, f"Cache, {count:,} entries, embedder {embedder.version}, {_processor()}")


def _entry(place: int) -> Entry:
    return Entry(
        entry_id=exact_id(place),
        scope=scope_id(0),
        exact=exact_id(place),
        tenant="default",
        prompt=f"What is the answer to question number {place} of all the questions there are?",
        answer=f"{place}: {ANSWER}",
        model="m",
        tier="light",
        category="static",
        reason="",
        cost_usd=0.001,
        stored_at=STORED + timedelta(seconds=place),
        expires_at=STORED + timedelta(days=1),
        keep_until=STORED + timedelta(days=2),
        hits=0,
        good=0,
        bad=0,
        similarity=1.0,
        match="exact",
    )


def _processor() -> str:
    """What decides about int8: VNNI multiplies four bytes at once."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "processor unknown"
    return "VNNI" if "vnni" in flags else "no VNNI"


def _ms(work: Callable[[Sequence[str]], object], batches: Sequence[Sequence[str]]) -> list[float]:
    taken = []
    for batch in batches:
        began = time.perf_counter()
        work(batch)
        taken.append(1000 * (time.perf_counter() - began))
    return taken


async def _each(service: Service, probes: Sequence[Probe]) -> list[bool]:
    answered: list[bool] = []
    for start in range(0, len(probes), BATCH):
        answered += await service.answer(probes[start : start + BATCH])
    return answered


def _cycle(probes: Sequence[Probe], count: int) -> list[Probe]:
    return [probes[place % len(probes)] for place in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--no-gptcache", action="store_true")
    parser.add_argument("--memory", type=FrontPolicy.model_validate_json, help="measure that alone, with this front")
    chosen = parser.parse_args()
    if chosen.memory:
        memory(chosen.memory)
    else:
        asyncio.run(run(chosen.entries, chosen.data, with_gptcache=not chosen.no_gptcache))


if __name__ == "__main__":
    main()

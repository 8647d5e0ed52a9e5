"""How many true duplicates the cache serves, and how many near misses: ``make bench-cache-quality DATA=…``.

Runs the product's own classes at their shipped defaults over the labelled files. A pair counts as served when its
cosine reaches the policy's threshold and the verifier says yes. Beside each figure stands the rule that most caches
follow, cosine 0.95 and nothing else, on the same rows with the same vectors.

Kinds of near misses that the shipped weights were not trained on are measured as they are. Where the data hold none
(the public half is what they were trained on), each group of sibling kinds is left out in turn and the classifier is
trained anew without it. The guards stay as they are: they were written with the public half in view.
"""

import argparse
import importlib
import importlib.util
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console

from infra.training import verifier as training
from services.cache.embedder import Embedder
from services.cache.verification import classifier
from services.cache.verification.guards import Pairing, objection
from services.cache.verification.verifier import Pair, Verdict, Verifier
from shared.policy import CachePolicy
from tests.bench.report import Measure, report

ANCHOR: Final = 0.95
ANCHOR_NAME: Final = f"cosine >= {ANCHOR}"
CHUNK: Final = 512
TIMED: Final = 200
# Kinds that one mechanism makes, by a word of their names: they are left out together.
SIBLINGS: Final = {
    "names": ("person in", "different people", "name", "location"),
    "numbers": ("number",),
    "negation": ("Negation",),
    "taxonomy": ("Taxonomy", "synonym"),
    "time": ("Temporal",),
    "logic": ("Logic",),
    "voice": ("passive",),
    "symmetry": ("comparison", "symmetric"),
    "opinion": ("according to",),
    "modifiers": ("odifier", "adjectives"),
    "preamble": ("reamble",),
    "paraphrase": ("paraphrase", "contraction", "typo"),
}


@dataclass(frozen=True, slots=True)
class Judged:
    """A labelled pair and what came of it."""

    pair: Pair
    same: bool
    kind: str
    verdict: Verdict | None  # None where the cosine was too low

    @property
    def served(self) -> bool:
        return self.verdict is not None and self.verdict.same

    @property
    def near(self) -> bool:
        return self.pair.similarity >= ANCHOR


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data", type=Path, help="folder of the labelled data")
    parser.add_argument("--floor", type=float, default=CachePolicy().threshold, help="least cosine similarity")
    arguments = parser.parse_args()
    embedder = Embedder()
    verifier = Verifier(embedder)
    judged = {
        name: list(judge(training.rows(arguments.data, name), embedder, verifier, arguments.floor))
        for name in ("checklist_nearmiss", "paws_qqp", "qqp_pairs", "domain_traps", "stsb")
    }
    measures = [
        *shares("near-miss", judged["checklist_nearmiss"], "<= 1 %", ">= 55 %"),
        *unseen(judged["checklist_nearmiss"], arguments.data, embedder, arguments.floor),
        *shares("PAWS-QQP", judged["paws_qqp"], "<= 10 %", ">= 30 %"),
        *hits("QQP", judged["qqp_pairs"], ">= 25 %", "<= 8 %"),
        *shares("domain traps", judged["domain_traps"], "", ""),
        *hits("STS-B", judged["stsb"], "", ""),
        *speed(judged["qqp_pairs"], embedder),
        *online(arguments.data),
    ]
    for name, rows in judged.items():
        _reasons(name, rows)
    report("cache-quality", measures, f"cache quality at cosine >= {arguments.floor}, shipped verifier")


def judge(rows: Iterator[dict[str, Any]], embedder: Embedder, verifier: Verifier, floor: float) -> Iterator[Judged]:
    """Every labelled pair through the product."""
    for chunk in _chunks(list(rows)):
        texts = sorted({text for row in chunk for text in (row["a"], row["b"])})
        vectors = dict(zip(texts, embedder.embed_now(texts), strict=True))
        pairs = [Pair(row["a"], row["b"], float(vectors[row["a"]] @ vectors[row["b"]])) for row in chunk]
        near = [n for n, pair in enumerate(pairs) if pair.similarity >= floor]
        verdicts = dict(zip(near, verifier.judge([pairs[n] for n in near]), strict=True)) if near else {}
        for n, (row, pair) in enumerate(zip(chunk, pairs, strict=True)):
            yield Judged(pair, bool(row["duplicate"]), row.get("kind", ""), verdicts.get(n))


def shares(name: str, rows: Sequence[Judged], most_false: str, least_recall: str) -> list[Measure]:
    """Of the near misses served, of the duplicates served, in per cent."""
    false, anchor_false = _share(rows, same=False)
    recall, anchor_recall = _share(rows, same=True)
    return [
        Measure(f"{name}: non-duplicates served", false, "%", most_false, anchor_false, ANCHOR_NAME),
        Measure(f"{name}: duplicates served", recall, "%", least_recall, anchor_recall, ANCHOR_NAME),
    ]


def hits(name: str, rows: Sequence[Judged], least_recall: str, most_false: str) -> list[Measure]:
    """Of the duplicates served, and of what was served labelled as no duplicate, in per cent."""
    recall, anchor_recall = _share(rows, same=True)
    false = _percent([not row.same for row in rows if row.served])
    anchor_false = _percent([not row.same for row in rows if row.near])
    return [
        Measure(f"{name}: duplicates served", recall, "%", least_recall, anchor_recall, ANCHOR_NAME),
        Measure(f"{name}: labelled false among hits", false, "%", most_false, anchor_false, ANCHOR_NAME),
    ]


def unseen(rows: Sequence[Judged], data: Path, embedder: Embedder, floor: float) -> list[Measure]:
    """Near misses of kinds that the classifier was not trained on."""
    new = [row for row in rows if row.kind not in classifier.load().kinds]
    if new:
        return shares("unseen kinds", new, "<= 1.5 %", ">= 45 %")
    pairs = training.material(data)
    table, labels, kinds = training.prepared(pairs, embedder)
    left_out: list[Judged] = []
    for group in sorted({_sibling(row.kind) for row in rows}):
        kept = np.array([_sibling(kind) != group for kind in kinds])
        without = training.fit(table[kept], labels[kept], [k for k, keep in zip(kinds, kept, strict=True) if keep])
        verifier = Verifier(embedder, trained=without)
        mine = [row for row in rows if _sibling(row.kind) == group]
        near = [row.pair for row in mine if row.pair.similarity >= floor]
        verdicts = dict(zip(near, verifier.judge(near), strict=True)) if near else {}
        left_out.extend(Judged(row.pair, row.same, row.kind, verdicts.get(row.pair)) for row in mine)
    return shares("kinds left out in training", left_out, "<= 1.5 %", ">= 45 %")


def speed(rows: Sequence[Judged], embedder: Embedder) -> list[Measure]:
    """CPU time of the guards, and of a whole verification with one forward pass for the stored prompt."""
    some = [row.pair for row in rows if row.verdict is not None][: 10 * TIMED]
    began = time.process_time()
    for pair in some:
        objection(Pairing(pair.asked, pair.stored))
    guards = (time.process_time() - began) / len(some)
    weighed = [row.pair for row in rows if row.verdict and row.verdict.probability not in {0.0, 1.0}][:TIMED]
    verifier = Verifier(embedder)
    verifier.judge([Pair(pair.asked, f"{pair.asked}?", 1.0) for pair in weighed])  # so that it has read what is asked
    began = time.process_time()
    for pair in weighed:
        verifier.judge([pair])
    whole = (time.process_time() - began) / len(weighed)
    return [
        Measure("guards, one pair", 1000 * guards, "ms CPU", "<= 0.3 ms"),
        Measure("verification, one candidate", 1000 * whole, "ms CPU", "<= 2.5 ms"),
    ]


def online(data: Path) -> list[Measure]:
    """What tests.bench.cache_stream measures on CLINC150's stream, where it is there."""
    if importlib.util.find_spec("tests.bench.cache_stream") is None:
        return []
    stream = importlib.import_module("tests.bench.cache_stream")
    return list(stream.measures(data))


def _sibling(kind: str) -> str:
    return next((group for group, marks in SIBLINGS.items() if any(mark in kind for mark in marks)), kind)


def _share(rows: Sequence[Judged], *, same: bool) -> tuple[float, float]:
    of = [row for row in rows if row.same is same]
    return _percent([row.served for row in of]), _percent([row.near for row in of])


def _percent(flags: Sequence[bool]) -> float:
    return 100 * sum(flags) / len(flags) if flags else 0.0


def _reasons(name: str, rows: Sequence[Judged]) -> None:
    """How often each reason spoke, for duplicates and others."""
    counts: defaultdict[bool, Counter[str]] = defaultdict(Counter)
    for row in rows:
        reason = "too far" if row.verdict is None else row.verdict.reason or "served"
        counts[row.same][reason] += 1
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    for same in (True, False):
        told = ", ".join(f"{reason} {count}" for reason, count in counts[same].most_common())
        console.print(f"{name}, {'the same' if same else 'not the same'}: {told}")


def _chunks(rows: Sequence[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any]]]:
    for begin in range(0, len(rows), CHUNK):
        yield rows[begin : begin + CHUNK]


if __name__ == "__main__":
    main()

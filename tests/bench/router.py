"""How much of the stronger model's gain the router recovers, and how long a decision takes: ``make bench-router``.

With HELD_OUT, heads are trained on DATA and measured on HELD_OUT, and the intervals are 95 % percentile bootstraps.
Without, DATA is cut in halves by hash of the prompt, each half is measured with a head trained on the other, three
times with other cuts, and figures and ends of intervals are means over the six. Where a set's labels are not used
(RouterArena), all of its rows are measured. Beside the head stand the rules of the policy that ships, length, and
LiteLLM's complexity router, on the same rows. Times are processor time: what a decision takes on a machine that has
nothing else to do. The figures of cascades are those of tests/bench/cascade.py, on DATA: they learn nothing.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from services.router.learning import candidate, evaluation
from services.router.learning.evaluation import Interval, Worth, worth
from services.router.learning.features import features
from services.router.learning.head import Head
from services.router.learning.rows import Labelled, part, split
from services.router.learning.training import fit
from services.router.learning.weights import Vectors
from services.router.scoring import Rules
from shared.embedding.builtin import Embedder
from shared.policy import load_policy
from shared.settings import packaged_policy
from tests.bench import cascade, texts
from tests.bench.report import Measure, report

MIXTRAL, ULAB, ARENA = "mixtral_gpt4", "ulab_llama8b_nemotron51b", "routerarena_haiku_flash2"
SETS: Final = (MIXTRAL, ULAB, "gpt4omini_gpt4o", "llama8b_llama70b", ARENA)
SALTS: Final = ("first", "second", "third")
MMLU_LABELS: Final = 1500
# A source left out is measured where it has so many rows, and the strong model gains so much on it: PGR divides by it.
SOURCE_ROWS: Final = 200
SOURCE_GAIN: Final = 0.03
RESAMPLES: Final = 400
TIMED: Final = 3000
LITELLM, LENGTH = "LiteLLM", "length"
LONG: Final = "The quick brown fox, aged 12, jumps over the lazy dog. " * 9300  # half a megabyte

Array = NDArray[np.float64]
Score = Callable[[Sequence[Labelled]], Array]


@dataclass(frozen=True, slots=True)
class Fold:
    """Rows to train on, and rows to measure on."""

    seen: list[Labelled]
    unseen: list[Labelled]


class Lab:
    """Everything that is computed once for each prompt."""

    def __init__(self, prompts: Sequence[str], rules: Rules) -> None:
        self._place = {prompt: place for place, prompt in enumerate(prompts)}
        self.vectors, _ = texts.vectors(Embedder(), prompts)
        self._features = np.array([features(prompt) for prompt in prompts])
        self._rules = np.array([rules.score(prompt).value for prompt in prompts])
        self._length = np.array([float(len(prompt)) for prompt in prompts])
        self._litellm, self.litellm_us = _litellm(prompts)

    def vector(self, prompt: str) -> Vectors:
        """Its embedding, of shape (384,)."""
        vector: Vectors = self.vectors[self._place[prompt]]
        return vector

    def head(self, seen: Sequence[Labelled]) -> Score:
        """What a head trained on some rows says of others."""
        at = self._places(seen)
        weights = fit(self._features[at], self.vectors[at], candidate.gains_of(seen))

        def score(rows: Sequence[Labelled]) -> Array:
            there = self._places(rows)
            return weights.gains(self._features[there], self.vectors[there])

        return score

    def unlearned(self) -> dict[str, Score]:
        """Scores that need no labels."""
        known = {candidate.RULES: self._rules, LENGTH: self._length, LITELLM: self._litellm}
        return {name: self._known(scores) for name, scores in known.items()}

    def _known(self, scores: Array) -> Score:
        def score(rows: Sequence[Labelled]) -> Array:
            found: Array = scores[self._places(rows)]
            return found

        return score

    def _places(self, rows: Sequence[Labelled]) -> list[int]:
        return [self._place[row.prompt] for row in rows]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data", type=Path, help="folder of the labelled data")
    parser.add_argument("--held-out", type=Path, help="folder of the same layout: measure on it, train on the other")
    arguments = parser.parse_args()
    sets = {name: _labelled(arguments.data, name) for name in SETS}
    apart = {name: _labelled(arguments.held_out, name) for name in SETS} if arguments.held_out else None
    everything = chain(*sets.values(), *(apart or {}).values())
    rules = Rules(load_policy(packaged_policy()).router)
    lab = Lab(list(dict.fromkeys(row.prompt for row in everything)), rules)

    pooled = compare(lab, folds(MIXTRAL, sets, apart))
    mmlu = compare(lab, [_few(fold) for fold in folds(MIXTRAL, sets, apart, source="mmlu")])
    ulab = compare(lab, folds(ULAB, sets, apart))
    arena_rows = sets[ARENA] + (apart or {}).get(ARENA, [])
    arena = compare(lab, [Fold(_others(sets, arena_rows), arena_rows)])
    left_out = dict(_leave_one_out(lab, sets, apart))
    _table({"Mixtral→GPT-4": pooled, "MMLU": mmlu, "ULAB": ulab, f"RouterArena {len(arena_rows)}": arena})
    _sources(left_out)

    measures = [
        *_figures("Mixtral→GPT-4 pooled", pooled, apgr=">= 0.61", cpt50="<= 35"),
        *_figures(f"MMLU, {MMLU_LABELS} labels", mmlu, apgr=">= 0.62", cpt80="<= 66"),
        *_figures("ULAB pooled", ulab, apgr=">= 0.75"),
        *_figures(f"RouterArena {len(arena_rows)}, rules", arena, of=candidate.RULES, apgr=">= 0.58"),
        *_figures(f"RouterArena {len(arena_rows)}, head of other sets", arena, apgr=""),
        _mean(left_out),
        *_timing(lab, sets[MIXTRAL], rules),
        *cascade.measures(arguments.data, rules),
    ]
    report("router", measures, "router: APGR of 1, CPT in % of the prompts")


def folds(
    name: str,
    sets: Mapping[str, Sequence[Labelled]],
    apart: Mapping[str, Sequence[Labelled]] | None,
    *,
    source: str | None = None,
) -> list[Fold]:
    """What to train on and what to measure on: the held-out rows, or halves in turn."""
    rows = [row for row in sets[name] if source in (None, row.source)]
    if apart is not None:
        return [Fold(rows, [row for row in apart[name] if source in (None, row.source)])]
    halves = [split(rows, 0.5, salt) for salt in SALTS]
    return [fold for one, other in halves for fold in (Fold(one, other), Fold(other, one))]


def compare(lab: Lab, cut: Sequence[Fold]) -> dict[str, Worth]:
    """What each scorer is worth, as the mean over the folds."""
    found: dict[str, list[Worth]] = {}
    for fold in cut:
        gains = candidate.gains_of(fold.unseen)
        for name, score in ({candidate.HEAD: lab.head(fold.seen)} | lab.unlearned()).items():
            found.setdefault(name, []).append(worth(score(fold.unseen), gains, RESAMPLES))
        found.setdefault(candidate.RANDOM, []).append(evaluation.at_random(gains, RESAMPLES))
    return {name: _mean_of(worths) for name, worths in found.items()}


def _leave_one_out(
    lab: Lab, sets: Mapping[str, Sequence[Labelled]], apart: Mapping[str, Sequence[Labelled]] | None
) -> Iterator[tuple[str, dict[str, float]]]:
    """APGR on each source, by a head that was trained on the other sources of the same pair of models."""
    for name in SETS:
        tested = sets if apart is None else apart
        sources = sorted({row.source for row in tested[name]})
        for source in sources if name != ARENA else ():
            rows = [row for row in tested[name] if row.source == source]
            seen = [row for row in sets[name] if row.source != source]
            gains = candidate.gains_of(rows)
            if len(rows) >= SOURCE_ROWS and gains.mean() >= SOURCE_GAIN and len(sources) > 1:
                scores = {candidate.HEAD: lab.head(seen)} | lab.unlearned()
                label = f"{source} ({name}, {len(rows)})"
                yield label, {who: evaluation.apgr(score(rows), gains) for who, score in scores.items()}


def _few(fold: Fold) -> Fold:
    """As many labels as the goal allows, by hash of the prompt."""
    return Fold(sorted(fold.seen, key=lambda row: part(row.prompt, "few"))[:MMLU_LABELS], fold.unseen)


def _others(sets: Mapping[str, Sequence[Labelled]], arena: Sequence[Labelled]) -> list[Labelled]:
    """All rows of other sets, but for questions that RouterArena asks as well."""
    asked = " ".join(_plain(row.prompt) for row in arena)
    rows = chain.from_iterable(rows for name, rows in sets.items() if name != ARENA)
    return [row for row in rows if _plain(row.prompt.split("\nA.")[0]) not in asked]


def _plain(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def _labelled(folder: Path, name: str) -> list[Labelled]:
    return [
        Labelled(row["prompt"], float(row["strong_quality"]) - float(row["weak_quality"]), row["source"])
        for row in texts.rows(folder, f"routing/{name}")
    ]


def _mean_of(worths: Sequence[Worth]) -> Worth:
    figures = np.array([[astuple(one) for one in (w.apgr, w.cpt50, w.cpt80)] for w in worths]).mean(axis=0)
    return Worth(*(Interval(*map(float, figure)) for figure in figures))


def _litellm(prompts: Sequence[str]) -> tuple[Array, Array]:
    """Scores and microseconds of LiteLLM's complexity router."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.litellm_scores"],
        input=json.dumps(list(prompts)),
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout.splitlines()[-1])
    return np.array(said["scores"]), np.array(said["microseconds"])


def _timing(lab: Lab, rows: Sequence[Labelled], rules: Rules) -> Iterator[Measure]:
    vectors = np.array([lab.vector(row.prompt) for row in rows])
    made = candidate.train(rows, vectors, rules, embedder="any", now=datetime.now(UTC))
    timed = rows[:TIMED]
    by_head = _microseconds(made.head, [row.prompt for row in timed], vectors)
    long = _microseconds(made.head, [LONG] * 300, vectors)
    by_rules = np.array([_took(rules.score, row.prompt) for row in timed])
    for per, limit, long_limit in ((50, "<= 100", "<= 100"), (99, "<= 1000", "<= 1000")):
        peer = float(np.percentile(lab.litellm_us, per))
        yield Measure(f"decision, p{per}", float(np.percentile(by_head, per)), "µs", limit, peer, LITELLM)
        yield Measure(f"decision on 500 kB, p{per}", float(np.percentile(long, per)), "µs", long_limit)
        yield Measure(f"decision of the rules, p{per}", float(np.percentile(by_rules, per)), "µs", "", peer, LITELLM)


def _microseconds(head: Head, prompts: Sequence[str], vectors: Vectors) -> Array:
    return np.array(
        [_took(head.score, prompt, vector) for prompt, vector in zip(prompts, vectors[: len(prompts)], strict=True)]
    )


def _took(work: Callable[..., object], *given: object) -> float:
    began = time.thread_time()
    work(*given)
    return (time.thread_time() - began) * 1e6


def _figures(name: str, worths: Mapping[str, Worth], of: str = candidate.HEAD, **goals: str) -> Iterator[Measure]:
    for figure, goal in goals.items():
        value, anchor = (getattr(worths[who], figure).value for who in (of, LITELLM))
        unit = "" if figure == "apgr" else "%"
        yield Measure(f"{name}, {figure.upper()}", value, unit, goal, anchor, LITELLM)


def _mean(left_out: Mapping[str, Mapping[str, float]]) -> Measure:
    mean = {who: float(np.mean([one[who] for one in left_out.values()])) for who in (candidate.HEAD, LITELLM)}
    name = f"leave one of {len(left_out)} sources out, mean APGR"
    return Measure(name, mean[candidate.HEAD], "", ">= 0.50", mean[LITELLM], LITELLM)


def _table(compared: Mapping[str, Mapping[str, Worth]]) -> None:
    table = Table("rows", "score", "APGR", "CPT50 %", "CPT80 %", title="with 95 % intervals", title_justify="left")
    for rows, worths in compared.items():
        for place, (name, one) in enumerate(worths.items()):
            cpt50, cpt80 = (f"{cpt.value:.1f} [{cpt.low:.1f}, {cpt.high:.1f}]" for cpt in (one.cpt50, one.cpt80))
            table.add_row("" if place else rows, name, str(one.apgr), cpt50, cpt80)
    _console().print(table)


def _sources(left_out: Mapping[str, Mapping[str, float]]) -> None:
    names = list(next(iter(left_out.values())))
    table = Table("source left out (set, rows)", *names, title="APGR on a source not trained on", title_justify="left")
    for source, scores in left_out.items():
        table.add_row(source, *(f"{scores[name]:.3f}" for name in names))
    table.add_row("mean", *(f"{np.mean([scores[name] for scores in left_out.values()]):.3f}" for name in names))
    _console().print(table)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 140)


if __name__ == "__main__":
    main()

"""How well the router tells what changes soon: ``make bench-freshness DATA=… [HELD_OUT=…]``.

Trains on the labelled questions in DATA and tests on those in HELD_OUT, a folder of the same layout. Without HELD_OUT
it cross-validates in five parts, with equal questions (also of different corpora) in one part. What is volatile is
what each corpus means by it: RecencyQA, changes within 7 days; EverGreenQA, mutable; FreshQA, fast-changing. Beside
each figure stands that of the policy's rules alone, on the same rows; beneath it, how far chance may have moved it.

Then the weights and the policy that ship, end to end. DATA had a part in these weights, HELD_OUT has none.
"""

import argparse
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from infra.training.freshness import LABELLED_IN, Example, Prepared, everyday, labelled, prepare, train
from infra.training.network import workers
from services.router.freshness.classifier import Array, Classifier
from services.router.freshness.judgement import FreshnessJudge
from services.router.freshness.reading import Reader
from services.router.freshness.rules import speaks
from services.router.vectors import Embedding
from shared.embedding.builtin import Embedder
from shared.events import Freshness, Request
from shared.policy import load_policy
from shared.policy.freshness import HORIZONS, Horizon
from shared.settings import packaged_policy
from tests.bench.report import Measure, report
from tests.bench.texts import rows, vectors
from tests.support import make

FOLDS: Final = 5
FALSE_POSITIVES: Final = 0.10
RULES_ALONE: Final = "the rules alone"
MINUTES_15: Final = 15 * 60
DAYS_7: Final = 7 * 86_400
TIMED: Final = 2_000
MOST_PROMPTS: Final = 1_000
DRAWS: Final = 1_000
LONG_PROMPT: Final = 500_000


@dataclass(frozen=True, slots=True)
class Corpus:
    """A corpus, the horizon of its label for volatile, and the goals."""

    name: str
    horizon: Horizon
    recall_goal: str = ""


CORPORA: Final = (
    Corpus("recencyqa", "7d", ">= 0.90"),
    Corpus("evergreenqa", "ever", ">= 0.80"),
    Corpus("freshqa", "1y"),
)
# Intents of CLINC150 whose answers hold for minutes, and such whose answers hold.
MOMENTARY: Final = ("weather", "exchange_rate", "traffic", "flight_status", "time", "date", "how_busy")
LASTING: Final = (
    *("definition", "translate", "spelling", "recipe", "fun_fact", "meaning_of_life", "calculator", "cook_time"),
    *("measurement_conversion", "ingredient_substitution", "tell_joke", "calories", "plug_type", "vaccines"),
)
EXERCISES: Final = ("mmlu", "gsm8k", "mt_bench")


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data", type=Path, help="folder of the labelled data")
    parser.add_argument("--held-out", type=Path, help="another one, to test on")
    arguments = parser.parse_args()
    embedder = Embedder()
    known = prepared([*labelled(arguments.data), *everyday()], embedder)
    tested = prepared(labelled(arguments.held_out), embedder) if arguments.held_out else known
    where = "held out" if arguments.held_out else f"{FOLDS}-fold"
    with workers() as pool:
        bench = Bench(known, tested, embedder, pool)
        measures = [*bench.recalls(), *bench.left_out(), *bench.shipped()]
    measures += ordinary(bench.judge, embedder, arguments.held_out or arguments.data)
    measures += speed(bench.judge, embedder, known)
    report("freshness", measures, f"freshness, {where}; recall at {FALSE_POSITIVES:.0%} false positives")


def prepared(examples: Sequence[Example], embedder: Embedder) -> Prepared:
    """Examples as the classifier sees them; their vectors are kept for the next time."""
    return prepare(examples, vectors(embedder, [each.prompt for each in examples])[0])


class Bench:
    """The classifier trained on some rows and asked about others."""

    def __init__(self, known: Prepared, tested: Prepared, embedder: Embedder, pool: Executor) -> None:
        self._known = known
        self._tested = tested
        self._pool = pool
        self._version = embedder.version
        self.judge = FreshnessJudge(load_policy(packaged_policy()).freshness)

    def recalls(self) -> Iterator[Measure]:
        """Recall at 10 % false positives, trained on other rows of all corpora."""
        logits, plain = self._cross_validated() if self._tested is self._known else self._held_out()
        said = ruled(self._tested)
        for corpus in CORPORA:
            mine = self._of(corpus)
            volatile, place = self._volatile(corpus)[mine], HORIZONS.index(corpus.horizon)
            anchor = recall(said[mine], volatile)
            found = recall(logits[mine, place], volatile)
            yield Measure(f"{corpus.name}: recall", found, "share", corpus.recall_goal, anchor, RULES_ALONE)
            yield from interval(f"{corpus.name}: recall", recall, logits[mine, place], volatile)
            found, anchor_auc = auc(logits[mine, place], volatile), auc(said[mine], volatile)
            yield Measure(f"{corpus.name}: AUC", found, "", "", anchor_auc, RULES_ALONE)
            lexical = recall(plain[mine, place], volatile)
            yield Measure(f"{corpus.name}: recall without the embedding", lexical, "share", "", anchor, RULES_ALONE)

    def left_out(self) -> Iterator[Measure]:
        """AUC on a corpus of which nothing was trained on, nor any question that it shares with the others."""
        said = ruled(self._tested)
        for corpus in CORPORA:
            mine = self._of(corpus)
            shared = {normalised(each.prompt) for each in self._tested.examples if each.corpus == corpus.name}
            others = [
                each.corpus != corpus.name and normalised(each.prompt) not in shared for each in self._known.examples
            ]
            logits = asked(self._trained(np.array(others)), self._tested.part(mine))[0]
            volatile, scores = self._volatile(corpus)[mine], logits[:, HORIZONS.index(corpus.horizon)]
            name, anchor = f"{corpus.name} left out: AUC", auc(said[mine], volatile)
            yield Measure(name, auc(scores, volatile), "", ">= 0.80", anchor, RULES_ALONE)
            yield from interval(name, auc, scores, volatile)

    def shipped(self) -> Iterator[Measure]:
        """What the product does: the share of volatile questions kept for 15 minutes, of lasting ones for 7 days."""
        ttl = np.array(
            [
                self.judge.judge(make.request(each.prompt), Embedding(vector, self._version)).ttl_s
                for each, vector in zip(self._tested.examples, self._tested.vectors, strict=True)
            ]
        )
        for corpus in CORPORA:
            mine = self._of(corpus)
            volatile = self._volatile(corpus)[mine]
            short, week = ttl[mine] <= MINUTES_15, ttl[mine] >= DAYS_7
            yield Measure(f"{corpus.name}, shipped: volatile kept 15 min", float(short[volatile].mean()), "share")
            yield Measure(f"{corpus.name}, shipped: volatile kept 7 d", float(week[volatile].mean()), "share")
            yield Measure(f"{corpus.name}, shipped: others kept 7 d", float(week[~volatile].mean()), "share")

    def _cross_validated(self) -> tuple[Array, Array]:
        folds = np.array([_fold(each.prompt) for each in self._known.examples])
        measured = np.array([each.corpus != "everyday" for each in self._known.examples])
        full, plain = (np.zeros((len(folds), len(HORIZONS)), np.float32) for _ in range(2))
        for fold in range(FOLDS):
            mine = (folds == fold) & measured
            full[mine], plain[mine] = asked(self._trained(~mine), self._known.part(mine))
        return full, plain

    def _held_out(self) -> tuple[Array, Array]:
        return asked(train(self._known, self._version, self._pool), self._tested)

    def _trained(self, on: NDArray[np.bool_]) -> Classifier:
        return train(self._known.part(on), self._version, self._pool)

    def _of(self, corpus: Corpus) -> NDArray[np.bool_]:
        return np.array([each.corpus == corpus.name for each in self._tested.examples])

    def _volatile(self, corpus: Corpus) -> NDArray[np.bool_]:
        place = HORIZONS.index(corpus.horizon)
        return np.array([each.targets[place] == 1 for each in self._tested.examples])


def asked(classifier: Classifier, about: Prepared) -> tuple[Array, Array]:
    """Logits of shape (rows, horizons), with the embedding and without it."""
    return (
        classifier.full.logits(np.hstack((about.vectors, about.features))),
        classifier.plain.logits(about.features),
    )


def ruled(about: Prepared) -> NDArray[np.float64]:
    """1 where a rule of the shipped policy says that the answer changes soon, else 0; shape (rows,)."""
    policy, reader = load_policy(packaged_policy()).freshness, Reader()
    readings = [reader.read(each.prompt) for each in about.examples]
    lasting, soon = policy.categories["static"].rules, policy.categories["dynamic"].rules
    return np.array(
        [
            float(
                not any(speaks(rule, reading, LABELLED_IN) for rule in lasting)
                and any(speaks(rule, reading, LABELLED_IN) for rule in soon)
            )
            for reading in readings
        ]
    )


def interval(
    name: str, figure: Callable[[Array, NDArray[np.bool_]], float], scores: Array, truth: NDArray[np.bool_]
) -> Iterator[Measure]:
    """The ends of a figure's 95 % percentile-bootstrap interval over the questions; what was trained stays as it is."""
    rng = np.random.default_rng(0)
    figures = [figure(scores[drawn], truth[drawn]) for drawn in rng.integers(0, len(truth), (DRAWS, len(truth)))]
    for end, share in (("lower", 0.025), ("upper", 0.975)):
        yield Measure(f"{name}, {end} end of 95 %", float(np.quantile(figures, share)), "")


def recall(scores: NDArray[Any], truth: NDArray[np.bool_]) -> float:
    """Share of the true that score higher than all but a tenth of the others; of ties, the share that fits."""
    others = np.sort(scores[~truth])[::-1]
    allowed = FALSE_POSITIVES * len(others)
    edge = others[int(allowed)]
    above, at = (others > edge).sum(), (others == edge).sum()
    fits = (allowed - above) / at
    return float((scores[truth] > edge).mean() + fits * (scores[truth] == edge).mean())


def auc(scores: NDArray[Any], truth: NDArray[np.bool_]) -> float:
    """Probability that a true one scores higher than another; ties count half."""
    values, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    true, others = truth.sum(), (~truth).sum()
    return float((ranks[truth].sum() - true * (true + 1) / 2) / (true * others)) if len(values) else 0.5


def normalised(prompt: str) -> str:
    """What two spellings of one question have in common."""
    return " ".join(Reader().read(prompt).words)


def _fold(prompt: str) -> int:
    return int(hashlib.sha256(normalised(prompt).encode()).hexdigest(), 16) % FOLDS


def ordinary(judge: FreshnessJudge, embedder: Embedder, data: Path) -> Iterator[Measure]:
    """Prompts that are no trivia: what an assistant is asked for (CLINC150), and exercises.

    None of them was trained on; the intents of CLINC150 were looked at while the rules were written.
    """
    asked_for = rows(data, "cache/clinc150_stream")
    exercises = rows(data, "routing/mixtral_gpt4")
    sets = {
        "CLINC150, about this moment": [row["query"] for row in asked_for if row["intent"] in MOMENTARY],
        "CLINC150, lasting": [row["query"] for row in asked_for if row["intent"] in LASTING],
        **{name: [row["prompt"] for row in exercises if row["source"] == name] for name in EXERCISES},
    }
    for name, prompts in sets.items():
        ttl = [each.ttl_s for each in judged(judge, embedder, prompts[:: max(1, len(prompts) // MOST_PROMPTS)])]
        yield Measure(f"{name}: kept 15 min", float(np.mean([one <= MINUTES_15 for one in ttl])), "share")
        yield Measure(f"{name}: kept 7 d", float(np.mean([one >= DAYS_7 for one in ttl])), "share")


def judged(judge: FreshnessJudge, embedder: Embedder, prompts: Sequence[str]) -> Iterator[Freshness]:
    """What the product makes of prompts."""
    for prompt, vector in zip(prompts, vectors(embedder, prompts)[0], strict=True):
        yield judge.judge(make.request(prompt), Embedding(vector, embedder.version))


def speed(judge: FreshnessJudge, embedder: Embedder, about: Prepared) -> Iterator[Measure]:
    """Time of one decision, given the embedding: the median of many, and the longest prompt the doors take."""
    pairs = [(make.request(each.prompt), vector) for each, vector in zip(about.examples, about.vectors, strict=True)]
    spent = [_spent_us(judge, request, vector, embedder.version) for request, vector in pairs[:TIMED]]
    yield Measure("decision given the embedding, p50", float(np.median(spent)), "µs", "<= 50")
    yield Measure("decision given the embedding, p99", float(np.quantile(spent, 0.99)), "µs", "<= 1000")
    for name, text in {"prose": "the weather was fine and ", "code": "if (x[1]) { return 2; }\n"}.items():
        request = make.request(text * (LONG_PROMPT // len(text)))
        longest = [_spent_us(judge, request, pairs[0][1], embedder.version) for _ in range(50)]
        yield Measure(f"decision, 500 kB of {name}, p50", float(np.median(longest)), "µs", "<= 1000")


def _spent_us(judge: FreshnessJudge, request: Request, vector: Array, version: str) -> float:
    began = time.perf_counter_ns()
    judge.judge(request, Embedding(vector, version))
    return (time.perf_counter_ns() - began) / 1000


if __name__ == "__main__":
    main()

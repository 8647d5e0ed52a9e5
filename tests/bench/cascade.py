"""What cascades recover, and what they cost: different cheap models on the same prompts, by answers on record.

The sets have one answer of each model, so agreement of two models can be measured, and agreement of two samples of one
model can not. Answers are what the sets' makers took from the end of a text that reasons: they are compared as
inference compares texts. Tokens are characters by four, prices those of late 2024.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.inference.cascade.agreement import plain
from services.router.learning import evaluation
from services.router.learning.evaluation import Interval
from services.router.scoring import Rules
from tests.bench import texts
from tests.bench.report import Measure

MINI, FLASH, HAIKU = "gpt-4o-mini-2024-07-18", "gemini-1.5-flash", "claude-3-haiku-20240307"
STRONG: Final = "gpt-4o-2024-08-06"
# US dollars per million tokens, in and out.
PRICES: Final[Mapping[str, tuple[float, float]]] = {
    MINI: (0.15, 0.6),
    FLASH: (0.075, 0.3),
    HAIKU: (0.25, 1.25),
    STRONG: (2.5, 10.0),
}
# Of the strong model's price to the first cheap one's, from what it was.
RATIOS: Final = (PRICES[STRONG][0] / PRICES[MINI][0], 10.0, 5.0, 3.0)
CHARS_PER_TOKEN: Final = 4
RESAMPLES: Final = 1000
SEED: Final = 20_261_125

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Answered:
    """What one model said to one prompt; ``said`` is None where it came to no answer."""

    said: str | None
    right: bool
    usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Cascaded:
    """Rows run through a cascade.

    Attributes:
        passed: whether a cheap answer stood.
        quality: of what was answered, and of what the first cheap model and the strong one would have.
        usd: of all calls, and of asking the strong model at once.
    """

    passed: NDArray[np.bool_]
    quality: Array
    weak: Array
    strong: Array
    usd: Array
    strong_usd: Array

    @property
    def escalated(self) -> float:
        """Share of prompts that the strong model got."""
        return float(1 - self.passed.mean())

    def recovered(self) -> Interval:
        """Share of the gap between the first cheap model and the strong one."""
        return _resampled(self.quality - self.weak, self.strong - self.weak)

    def cost(self, times: float = 1.0) -> Interval:
        """Share of what the strong model alone would cost, if the cheap ones cost so many times what they do."""
        own = np.where(self.passed, 0.0, self.strong_usd)
        return _resampled(times * (self.usd - own) + own, self.strong_usd)

    def apgr(self) -> float:
        """Of disagreement as a score: what differs goes to the strong model first, in random order."""
        return evaluation.apgr(1.0 - self.passed.astype(np.float64), self.strong - self.weak)


def run(rows: Sequence[Mapping[str, Answered]], first: Sequence[str], strong: str) -> Cascaded:
    """A cascade over the models of ``first`` in turn, of which more than half must agree."""
    picked = [_picked([row[model] for model in first]) for row in rows]
    ends = [row[strong] if answer is None else answer for row, (answer, _) in zip(rows, picked, strict=True)]
    usd = [
        sum(row[model].usd for model in first[:calls]) + (row[strong].usd if answer is None else 0.0)
        for row, (answer, calls) in zip(rows, picked, strict=True)
    ]
    return Cascaded(
        passed=np.array([answer is not None for answer, _ in picked]),
        quality=np.array([end.right for end in ends], dtype=float),
        weak=np.array([row[first[0]].right for row in rows], dtype=float),
        strong=np.array([row[strong].right for row in rows], dtype=float),
        usd=np.array(usd),
        strong_usd=np.array([row[strong].usd for row in rows]),
    )


def measures(data: Path, rules: Rules) -> Iterator[Measure]:
    """The figures of both sets, beside those of the rules on the same prompts."""
    raw = texts.rows(data, "routing/cascade_zeroeval")
    scores = np.array([rules.score(row["prompt"]).value for row in raw])
    rows = [_zeroeval(row) for row in raw]
    for name, first in (("4o-mini, flash", (MINI, FLASH)), ("4o-mini, flash, haiku", (MINI, FLASH, HAIKU))):
        done = run(rows, first, STRONG)
        gains = done.strong - done.weak
        yield Measure(f"{name} → 4o, APGR", done.apgr(), "", "", evaluation.apgr(scores, gains), "rules")
        weak_usd = np.array([row[first[0]].usd for row in rows])
        there = _recovered_at_cost(scores, gains, weak_usd, done)
        yield from _told(f"{name} → 4o", done, there, "rules, same cost")
        for ratio in RATIOS:
            cost = done.cost(PRICES[STRONG][0] / PRICES[MINI][0] / ratio)
            told = f"{name} → 4o, cost where 4o is {ratio:.3g} times 4o-mini [{_ends(cost)}]"
            yield Measure(told, 100 * cost.value, "% of 4o alone")
    raw = texts.rows(data, "routing/cascade_mmlu_pro")
    scores = np.array([rules.score(row["prompt"]).value for row in raw])
    rows = [_mmlu_pro(row) for row in raw]
    for name, first, strong in (
        ("llama 8b, mixtral → llama 70b", ("llama-3.1-8b", "mixtral-8x7b"), "llama-3.1-70b"),
        ("flash, llama 70b → pro", ("gemini-1.5-flash-002", "llama-3.1-70b"), "gemini-1.5-pro-002"),
    ):
        done = run(rows, first, strong)
        there = _recovered_at(scores, done.strong - done.weak, done.escalated)
        yield from _told(f"MMLU-Pro, {name}", done, there, "rules, as many")


def _told(name: str, done: Cascaded, anchor: float, anchor_name: str) -> Iterator[Measure]:
    gap = done.recovered()
    yield Measure(f"{name}, gap recovered [{_ends(gap)}]", 100 * gap.value, "%", "", 100 * anchor, anchor_name)
    yield Measure(f"{name}, escalated", 100 * done.escalated, "% of prompts")


def _picked(answers: Sequence[Answered]) -> tuple[Answered | None, int]:
    """The first answer that more than half give, and how many were asked until that was clear."""
    needed, asked = len(answers) // 2 + 1, 0
    best: list[Answered] = []
    while needed - len(best) <= len(answers) - asked:
        asked += needed - len(best)
        said = [answer for answer in answers[:asked] if answer.said is not None]
        groups = [[other for other in said if other.said == answer.said] for answer in said]
        best = max(groups, key=len, default=[])
        if len(best) >= needed:
            return best[0], asked
    return None, asked


def _zeroeval(row: Mapping[str, Any]) -> dict[str, Answered]:
    return {
        model: Answered(
            said=plain(said["answer"]) if said["group"] >= 0 else None,
            right=said["correct"],
            usd=_usd(model, row["prompt"], said["out_chars"]) if model in PRICES else 0.0,
        )
        for model, said in row["models"].items()
    }


def _mmlu_pro(row: Mapping[str, Any]) -> dict[str, Answered]:
    return {model: Answered(letter, letter == row["gold"]) for model, letter in row["pred"].items()}


def _usd(model: str, prompt: str, out_chars: int) -> float:
    per_input, per_output = PRICES[model]
    return (len(prompt) * per_input + out_chars * per_output) / CHARS_PER_TOKEN / 1e6


def _recovered_at(scores: Array, gains: Array, share: float) -> float:
    """Of the gap, where the prompts of the highest scores go to the strong model, so many of them."""
    curve = evaluation.recovered(scores, gains, np.random.default_rng(SEED))
    return float(np.interp(share, evaluation.GRID, curve))


def _recovered_at_cost(scores: Array, gains: Array, weak_usd: Array, done: Cascaded) -> float:
    """Of the gap, where so many prompts go to the strong model that all cost what the cascade did."""
    order = np.lexsort((np.random.default_rng(SEED).random(len(scores)), -scores))
    dearer = weak_usd.sum() + np.cumsum((done.strong_usd - weak_usd)[order])
    there = int(np.searchsorted(dearer, done.usd.sum()))
    return float(gains[order][:there].sum() / gains.sum())


def _resampled(of: Array, to: Array) -> Interval:
    """A ratio of sums over the rows, with its 95 % percentile-bootstrap interval."""
    drawn = np.random.default_rng(SEED).integers(0, len(of), (RESAMPLES, len(of)))
    low, high = np.percentile(of[drawn].sum(axis=1) / to[drawn].sum(axis=1), [2.5, 97.5])
    return Interval(float(of.sum() / to.sum()), float(low), float(high))


def _ends(interval: Interval) -> str:
    return f"{100 * interval.low:.0f}, {100 * interval.high:.0f}"

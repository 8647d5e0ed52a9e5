"""From labelled prompts to a head that was measured on prompts it has not seen."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

import numpy as np

from services.router.learning import gate
from services.router.learning.evaluation import Array, Worth, at_random, worth
from services.router.learning.features import features
from services.router.learning.head import Figure, Head, Record
from services.router.learning.rows import InvalidRows, Labelled, digest, part
from services.router.learning.training import LEAST_ROWS, fit
from services.router.learning.weights import Vectors
from services.router.scoring import Rules

HELD_OUT: Final = 0.3
SHARE: Final = 0.25
HEAD, RULES, RANDOM = "head", "rules", "random"


@dataclass(frozen=True, slots=True)
class Measured:
    """What scores are worth on the same rows: of the head, where there is one, of the rules, and at random."""

    rows: int
    worth: dict[str, Worth]
    verdict: gate.Verdict | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A head, and how it did on the rows held out."""

    head: Head
    measured: Measured


def train(
    rows: Sequence[Labelled],
    vectors: Vectors,
    rules: Rules,
    *,
    embedder: str,
    now: datetime,
    held_out: float = HELD_OUT,
    share: float = SHARE,
) -> Candidate:
    """Fit a head on a part of the rows and measure it on the rest.

    Args:
        rows: labelled prompts.
        vectors: their embeddings, unit vectors of shape (len(rows), dimensions).
        rules: what it has to beat.
        embedder: version of the embedder.
        now: for the record.
        held_out: share of the prompts to measure on, by their hash.
        share: of the prompts that the head's threshold is to send up.

    Raises:
        InvalidRows: too few of them, on either side.
        NothingToGain: the strong model is no better on the rows held out.
    """
    seen = np.array([part(row.prompt) >= held_out for row in rows])
    for count, use in ((int(seen.sum()), "to train on"), (int((~seen).sum()), "held out")):
        if count < LEAST_ROWS:
            raise InvalidRows(f"{count} rows {use}, of {len(rows)}: at least {LEAST_ROWS} are needed")
    described, gains = describe(rows), gains_of(rows)
    weights = fit(described[seen], vectors[seen], gains[seen])
    unseen = [row for row, known in zip(rows, seen, strict=True) if not known]
    scores = weights.gains(described[~seen], vectors[~seen])
    measured = measure(unseen, rules, scores)
    assert measured.verdict is not None, "there are scores of a head"
    record = Record(
        trained_at=now,
        rows=int(seen.sum()),
        digest=digest(rows),
        held_out=held_out,
        held_out_rows=len(unseen),
        sources=dict(Counter(row.source for row in rows if row.source)),
        metrics={
            name: {
                figure: Figure(**asdict(value))
                for figure, value in (("apgr", one.apgr), ("cpt50", one.cpt50), ("cpt80", one.cpt80))
            }
            for name, one in measured.worth.items()
        },
        better=Figure(**asdict(measured.verdict.better)),
    )
    threshold = float(np.quantile(scores, 1 - share))
    prompts = [row.prompt for row, known in zip(rows, seen, strict=True) if known]
    head = Head.make(weights, embedder=embedder, threshold=threshold, record=record, prompts=prompts)
    return Candidate(head, measured)


def measure(rows: Sequence[Labelled], rules: Rules, scores: Array | None = None) -> Measured:
    """What a head's scores of these rows are worth, beside the rules and random.

    Raises:
        InvalidRows: too few of them for intervals that mean something.
        NothingToGain: the strong model is no better on these rows.
    """
    if len(rows) < LEAST_ROWS:
        raise InvalidRows(f"{len(rows)} rows to measure on: at least {LEAST_ROWS} are needed")
    gains = gains_of(rows)
    by_rules = np.array([rules.score(row.prompt).value for row in rows])
    known = {} if scores is None else {HEAD: worth(scores, gains)}
    return Measured(
        rows=len(rows),
        worth=known | {RULES: worth(by_rules, gains), RANDOM: at_random(gains)},
        verdict=None if scores is None else gate.judge(scores, by_rules, gains),
    )


def scores_of(head: Head, rows: Sequence[Labelled], vectors: Vectors) -> Array:
    """A head's scores of labelled prompts."""
    return head.arithmetic.gains(describe(rows), vectors)


def describe(rows: Sequence[Labelled]) -> Array:
    """Features of shape (len(rows), COUNT)."""
    return np.array([features(row.prompt) for row in rows])


def gains_of(rows: Sequence[Labelled]) -> Array:
    """Gains of shape (len(rows),)."""
    return np.array([row.gain for row in rows])

"""Rows to learn from where each prompt was answered by one tier only, and the answer was rated.

What the other tier would have made of it is unknown, so the gain is estimated per prompt, doubly robustly (Robins,
Rotnitzky and Zhao 1994; cross-fitted as in Kennedy, arXiv:2004.14497):

    gain = m_s - m_w + [strong] (q - m_s) / e - [weak] (q - m_w) / (1 - e)

m_s and m_w are what a regression expects of either tier on this prompt, and e is the chance that such a prompt went to
the strong tier: the one with which it was drawn where that is on record, else estimated. What is estimated is fitted on
other prompts, those of the other half. Where a head is to be trained on some rows and measured on others, each side is
estimated by itself, in halves of its own: were the regressions shared, the head could learn their mistakes from the one
side and be found right by the same mistakes on the other.

Where a router sent all prompts of a kind to one tier there is nothing to compare, and no formula helps: so
``by_chance`` says how much of that was left to chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.router.learning.rows import InvalidRows, Labelled, Rating, part
from services.router.learning.training import LEAST_ROWS, fit
from services.router.learning.weights import Array, Vectors

# Ratings of either tier in each part that something is fitted on.
LEAST_OF_EACH: Final = LEAST_ROWS
# Weights held back as far as a head's would leave much of the difference between the tiers' prompts in the estimate.
RIDGE: Final = 1.0
# Chances are kept away from 0 and 1, so that no single rating counts for more than twenty.
LEAST_CHANCE: Final = 0.05

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Estimated:
    """Rows with estimated gains.

    Attributes:
        by_chance: share of the variance of who answered that the prompts do not explain: 1 where it was drawn by lot,
            0 where a rule decided.
    """

    rows: list[Labelled]
    by_chance: float


def estimate(
    ratings: Sequence[Rating], features: Array, vectors: Vectors, *, weak: str, strong: str, held_out: float = 0.0
) -> Estimated:
    """Gains of rated prompts, with features (n, COUNT) and unit vectors (n, dimensions).

    Args:
        ratings: of answers by one of the two tiers.
        features: of their prompts.
        vectors: likewise.
        weak: the weaker tier.
        strong: the stronger one.
        held_out: share of the prompts, by their hash, that a head will be measured on; 0 where none is trained.

    Raises:
        InvalidRows: a tier is neither of the two, or one has too few ratings.
    """
    others = sorted({rating.tier for rating in ratings} - {weak, strong})
    if others:
        raise InvalidRows(f"ratings of the tiers {', '.join(others)}: only {weak} and {strong} are compared")
    went_up = np.array([rating.tier == strong for rating in ratings])
    quality = np.array([rating.good for rating in ratings])
    drawn = np.array([_drawn(rating, strong) for rating in ratings])
    parts = _parts(ratings, held_out)
    for tier, of_tier in ((strong, went_up), (weak, ~went_up)):
        least = min(int((each & of_tier).sum()) for each, _ in parts)
        if least < LEAST_OF_EACH:
            raise InvalidRows(
                f"{int(of_tier.sum())} ratings of answers by {tier}, {least} of them in one of the {len(parts)} parts "
                f"they are cut into: at least {LEAST_OF_EACH} of each tier are needed in each part"
            )
    gains, chance = np.empty(len(ratings)), np.empty(len(ratings))
    for here, there in parts:
        up, down = (
            fit(features[there & answered], vectors[there & answered], quality[there & answered], RIDGE).gains(
                features[here], vectors[here]
            )
            for answered in (went_up, ~went_up)
        )
        chance[here] = _chance(features, vectors, went_up, drawn, here, there)
        e, q, strongly = chance[here].clip(LEAST_CHANCE, 1 - LEAST_CHANCE), quality[here], went_up[here]
        gains[here] = up - down + strongly * (q - up) / e - ~strongly * (q - down) / (1 - e)
    by_chance = float(((went_up - chance) ** 2).mean() / went_up.var())
    rows = [Labelled(rating.prompt, float(gain)) for rating, gain in zip(ratings, gains, strict=True)]
    return Estimated(rows, min(by_chance, 1.0))


def _parts(ratings: Sequence[Rating], held_out: float) -> list[tuple[Flags, Flags]]:
    """What is estimated, each time, and what is fitted on for it: the other half of the same side."""
    held = np.array([part(rating.prompt) < held_out for rating in ratings])
    half = np.array([part(rating.prompt, "half") < 0.5 for rating in ratings])  # noqa: PLR2004 - a half
    sides = (held, ~held) if held_out else (~held,)
    return [parts for side in sides for parts in ((side & half, side & ~half), (side & ~half, side & half))]


def _drawn(rating: Rating, strong: str) -> float:
    """The chance of the strong tier, where it was drawn by lot; NaN where a rule decided, or nobody knows."""
    if rating.chance in (None, 1.0):
        return np.nan
    return rating.chance if rating.tier == strong else 1 - rating.chance


def _chance(features: Array, vectors: Vectors, went_up: Flags, drawn: Array, here: Flags, there: Flags) -> Array:
    """The chance of the strong tier of some prompts: as drawn, or as the others that were not drawn let expect."""
    undrawn = there & np.isnan(drawn)
    base = undrawn if undrawn.sum() >= LEAST_ROWS else there
    expected = fit(features[base], vectors[base], went_up[base].astype(float), RIDGE).gains(
        features[here], vectors[here]
    )
    return np.where(np.isnan(drawn[here]), expected, drawn[here])

"""Rows to learn from where each prompt was answered by one tier only, and the answer was rated.

What the other tier would have made of it is unknown, so the gain is estimated per prompt, doubly robustly (Robins,
Rotnitzky and Zhao 1994; cross-fitted as in Kennedy, arXiv:2004.14497):

    gain = m_s - m_w + [strong] (q - m_s) / e - [weak] (q - m_w) / (1 - e)

m_s and m_w are what a regression expects of either tier on this prompt, e is the chance that such a prompt went to the
strong tier, and all three are fitted on the other half of the prompts. Where a router sent all prompts of a kind to one
tier there is nothing to compare, and no formula helps: so ``by_chance`` says how much of that was left to chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.router.learning.rows import InvalidRows, Labelled, Rating, part
from services.router.learning.training import fit
from services.router.learning.weights import Array, Vectors

LEAST_OF_EACH: Final = 200
# Weights held back as far as a head's would leave much of the difference between the tiers' prompts in the estimate.
RIDGE: Final = 1.0
# Chances are kept away from 0 and 1, so that no single rating counts for more than twenty.
LEAST_CHANCE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Estimated:
    """Rows with estimated gains.

    Attributes:
        by_chance: share of the variance of who answered that the prompts do not explain: 1 where it was drawn by lot,
            0 where a rule decided.
    """

    rows: list[Labelled]
    by_chance: float


def estimate(ratings: Sequence[Rating], features: Array, vectors: Vectors, *, weak: str, strong: str) -> Estimated:
    """Gains of rated prompts, with features (n, COUNT) and unit vectors (n, dimensions).

    Raises:
        InvalidRows: a tier is neither of the two, or one has too few ratings.
    """
    others = sorted({rating.tier for rating in ratings} - {weak, strong})
    if others:
        raise InvalidRows(f"ratings of the tiers {', '.join(others)}: only {weak} and {strong} are compared")
    went_up = np.array([rating.tier == strong for rating in ratings])
    for tier, count in ((strong, int(went_up.sum())), (weak, int((~went_up).sum()))):
        if count < LEAST_OF_EACH:
            raise InvalidRows(f"{count} ratings of answers by {tier}: at least {LEAST_OF_EACH} of each tier are needed")
    quality = np.array([rating.good for rating in ratings])
    gains, chance = np.empty(len(ratings)), np.empty(len(ratings))
    half = np.array([part(rating.prompt, "half") < 0.5 for rating in ratings])  # noqa: PLR2004 - a half
    for here in (half, ~half):
        there = ~here
        expected_up = fit(features[there & went_up], vectors[there & went_up], quality[there & went_up], RIDGE)
        expected_down = fit(features[there & ~went_up], vectors[there & ~went_up], quality[there & ~went_up], RIDGE)
        up = expected_up.gains(features[here], vectors[here])
        down = expected_down.gains(features[here], vectors[here])
        chance[here] = fit(features[there], vectors[there], went_up[there].astype(float), RIDGE).gains(
            features[here], vectors[here]
        )
        e, q, strongly = chance[here].clip(LEAST_CHANCE, 1 - LEAST_CHANCE), quality[here], went_up[here]
        gains[here] = up - down + strongly * (q - up) / e - ~strongly * (q - down) / (1 - e)
    by_chance = float(((went_up - chance) ** 2).mean() / went_up.var())
    rows = [Labelled(rating.prompt, float(gain)) for rating, gain in zip(ratings, gains, strict=True)]
    return Estimated(rows, min(by_chance, 1.0))

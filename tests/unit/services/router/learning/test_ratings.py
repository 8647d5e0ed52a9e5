"""Gains from ratings of one answer a prompt."""

import numpy as np
import pytest

from services.router.learning.features import features
from services.router.learning.ratings import Estimated, estimate
from services.router.learning.rows import InvalidRows, Rating
from tests.unit.services.router.learning.conftest import made_up, unit_vectors

COUNT = 2000


def rated(chance: dict[str, float], seed: int = 0) -> tuple[list[Rating], np.ndarray]:
    """Strong answers are always good, weak ones where there is nothing to gain; who answers is by chance."""
    rng, rows = np.random.default_rng(seed), made_up(COUNT, told=0.9)
    ratings = []
    for row in rows:
        strong = rng.random() < chance[row.source]
        ratings.append(
            Rating(prompt=row.prompt, good=1.0 if strong else 1 - row.gain, tier="premium" if strong else "light")
        )
    return ratings, np.array([row.gain for row in rows])


def estimated(ratings: list[Rating]) -> Estimated:
    described = np.array([features(rating.prompt) for rating in ratings])
    return estimate(ratings, described, unit_vectors(len(ratings)), weak="light", strong="premium")


def test_what_both_tiers_answered_by_chance_gives_the_gain_without_bias() -> None:
    ratings, gains = rated({"digits": 0.5, "words": 0.5})
    found = estimated(ratings)
    guessed = np.array([row.gain for row in found.rows])
    digits = np.arange(COUNT) % 2 == 0
    assert guessed[digits].mean() == pytest.approx(gains[digits].mean(), abs=0.08)
    assert guessed[~digits].mean() == pytest.approx(gains[~digits].mean(), abs=0.08)
    assert found.by_chance > 0.9


def test_that_mostly_one_tier_answered_a_kind_of_prompt_is_made_up_for() -> None:
    ratings, gains = rated({"digits": 0.8, "words": 0.2})
    guessed = np.array([row.gain for row in estimated(ratings).rows])
    digits = np.arange(COUNT) % 2 == 0
    assert guessed[digits].mean() == pytest.approx(gains[digits].mean(), abs=0.12)
    assert guessed[~digits].mean() == pytest.approx(gains[~digits].mean(), abs=0.12)


def test_where_each_kind_went_to_one_tier_nothing_was_compared() -> None:
    ratings, _ = rated({"digits": 1.0, "words": 0.0})
    assert estimated(ratings).by_chance < 0.1


def test_too_few_of_a_tier_and_unknown_tiers_are_refused() -> None:
    ratings, _ = rated({"digits": 0.0, "words": 0.0})
    with pytest.raises(InvalidRows, match="0 ratings of answers by premium: at least 200"):
        estimated(ratings)
    with pytest.raises(InvalidRows, match="tiers large"):
        estimated([*ratings, Rating(prompt="p", good=1.0, tier="large")])

"""Gains from ratings of one answer a prompt."""

import numpy as np
import pytest

from services.router.learning.features import features
from services.router.learning.ratings import Estimated, estimate
from services.router.learning.rows import InvalidRows, Rating, part
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


def estimated(ratings: list[Rating], held_out: float = 0.0) -> Estimated:
    described = np.array([features(rating.prompt) for rating in ratings])
    vectors = unit_vectors(len(ratings))
    return estimate(ratings, described, vectors, weak="light", strong="premium", held_out=held_out)


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
    with pytest.raises(
        InvalidRows, match=r"0 ratings of answers by premium, 0 of them in one of the 2 parts.*at least 50"
    ):
        estimated(ratings)
    with pytest.raises(InvalidRows, match="tiers large"):
        estimated([*ratings, Rating(prompt="p", good=1.0, tier="large")])


def test_what_is_held_out_and_what_is_trained_on_know_nothing_of_each_other() -> None:
    ratings, _ = rated({"digits": 0.5, "words": 0.5})
    held = np.array([part(rating.prompt) < 0.3 for rating in ratings])
    for side in (held, ~held):
        others = [
            r if here else r.model_copy(update={"good": 1 - r.good}) for r, here in zip(ratings, side, strict=True)
        ]
        was, now = (np.array([row.gain for row in estimated(each, 0.3).rows]) for each in (ratings, others))
        assert (was[side] == now[side]).all()
        assert (was[~side] != now[~side]).all()


def test_a_chance_that_is_on_record_is_believed() -> None:
    """One of many ratings was drawn with one chance in ten: it counts ten times, less what was expected of it."""
    ratings, _ = rated({"digits": 0.5, "words": 0.5})
    at = next(place for place, one in enumerate(ratings) if one.tier == "premium")

    def gain(**changes: float) -> float:
        changed = [one.model_copy(update=changes) if place == at else one for place, one in enumerate(ratings)]
        return estimated(changed).rows[at].gain

    weights = [gain(good=1.0, chance=chance) - gain(good=0.0, chance=chance) for chance in (0.1, 0.5)]
    assert weights == pytest.approx([10, 2])
    decided, unknown = gain(chance=1.0), gain()
    assert decided == unknown


def test_where_all_was_drawn_by_lot_nothing_has_to_be_estimated_of_it() -> None:
    ratings, gains = rated({"digits": 0.8, "words": 0.2})
    known = {True: {"premium": 0.8, "light": 0.2}, False: {"premium": 0.2, "light": 0.8}}
    digits = np.arange(COUNT) % 2 == 0
    drawn = [
        one.model_copy(update={"chance": known[bool(kind)][one.tier]})
        for one, kind in zip(ratings, digits, strict=True)
    ]
    guessed = np.array([row.gain for row in estimated(drawn).rows])
    assert guessed[digits].mean() == pytest.approx(gains[digits].mean(), abs=0.1)
    assert guessed[~digits].mean() == pytest.approx(gains[~digits].mean(), abs=0.1)

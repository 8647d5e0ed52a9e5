"""The pairs that the verifier is trained on."""

import random
from pathlib import Path

import numpy as np

from infra.training.pairs import Labelled, Unaware, generated
from infra.training.verifier import LICENCES, fit, write
from services.cache.verification import classifier
from services.cache.verification.features import NAMES
from services.cache.verification.guards import Pairing, objection

SOURCES = [
    ("food", "How do I bake fresh bread at home?"),
    ("food", "What is the best recipe for onion soup?"),
    ("travel", "Can you tell me where the old castle is"),
]


def pairs(seed: int) -> list[Labelled]:
    return generated(SOURCES, 60, random.Random(seed))


def test_generated_pairs_are_past_the_guards_and_of_both_sorts() -> None:
    made = pairs(1)
    assert len(made) == 60
    assert {pair.same for pair in made} == {True, False}
    assert all(objection(Pairing(pair.a, pair.b)) is None and pair.a != pair.b for pair in made)


def test_the_same_seed_makes_the_same_pairs() -> None:
    assert pairs(3) == pairs(3)
    assert pairs(3) != pairs(4)


def test_a_dictionary_without_synonyms_leaves_them_over() -> None:
    texts = ("How do I buy a car?", "How do I purchase a car?")
    assert not Pairing(*texts).leftover
    assert Unaware(*texts).leftover


def test_no_set_for_research_only_is_trained_on() -> None:
    assert not {name for name in LICENCES if "qqp" in name or "stsb" in name}


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    table = np.random.default_rng(0).normal(size=(80, len(NAMES))).astype(np.float32)
    labels = table[:, 0] > 0
    trained = fit(table, labels, ["one"] * 80)
    file = tmp_path / "weights.json"
    write(file, trained)
    read = classifier.load(file)
    np.testing.assert_allclose(read.probability(table), trained.probability(table), atol=1e-2)
    assert (trained.probability(table)[labels] > 0.5).mean() > 0.9

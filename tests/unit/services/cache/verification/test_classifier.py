"""The weights that are shipped, and what they are applied to."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.cache.embedder import Embedder
from services.cache.verification import classifier
from services.cache.verification.features import NAMES, features
from services.cache.verification.guards import Pairing
from shared.errors import StartupError


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder()


def test_the_shipped_weights_say_where_they_come_from() -> None:
    stored = json.loads(classifier.SHIPPED.read_text())
    assert set(stored["trained_on"]) == {"checklist_nearmiss", "domain_traps", "clinc150_stream", "generated"}
    assert not {"qqp_pairs", "paws_qqp", "stsb"} & set(stored["trained_on"])
    loaded = classifier.load()
    assert loaded.weights.shape == (len(NAMES),)
    assert len(loaded.kinds) > 20
    assert classifier.SHIPPED.stat().st_size < 10_000


def test_weights_for_other_features_are_refused(tmp_path: Path) -> None:
    stored = json.loads(classifier.SHIPPED.read_text()) | {"features": ["one"]}
    file = tmp_path / "old.json"
    file.write_text(json.dumps(stored))
    with pytest.raises(StartupError, match="train-verifier"):
        classifier.load(file)


def test_a_probability_lies_between_0_and_1() -> None:
    wild = np.array([[1e9] * len(NAMES), [-1e9] * len(NAMES)], dtype=np.float32)
    probability = replace(classifier.load(), bias=0.0).probability(wild)
    assert ((probability >= 0) & (probability <= 1)).all()


def test_features_are_the_same_for_both_directions(embedder: Embedder) -> None:
    one, other = "How do I bake fresh bread at home?", "What is the best way to bake bread?"
    a, b = embedder.read_now([one, other])
    there, back = features(Pairing(one, other), a, b, 0.9), features(Pairing(other, one), b, a, 0.9)
    np.testing.assert_allclose(there, back, atol=1e-4)
    named = dict(zip(NAMES, there.tolist(), strict=True))
    assert named["added"] == 2
    assert named["shortfall"] == pytest.approx(0.1)

"""The network: what it computes, how it is kept, and what it must not say."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.freshness.classifier import Classifier, Network, together
from shared.policy.freshness import HORIZONS


def network(seed: int, inputs: int, hidden: int = 3) -> Network:
    rng = np.random.default_rng(seed)
    shapes = ((inputs, len(HORIZONS)), (inputs, hidden), (hidden,), (hidden, len(HORIZONS)), (len(HORIZONS),))
    return Network(*(rng.normal(size=shape).astype(np.float32) for shape in shapes))


def classifier(seed: int = 0) -> Classifier:
    return Classifier("v1", "test/1", ("a", "b"), network(seed, inputs=4), network(seed + 1, inputs=2))


def test_one_hidden_layer_beside_a_direct_path() -> None:
    ones = np.ones(len(HORIZONS), np.float32)
    small = Network(ones[None, :] * 2, np.array([[0.5]]), np.array([1.0]), ones[None, :] * 3, ones * 4)
    assert small.logits(np.array([6.0])) == pytest.approx([2 * 6 + 3 * np.tanh(0.5 * 6 + 1) + 4] * len(HORIZONS))


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_what_changes_within_a_day_changes_within_a_week(seed: int, prompt: int) -> None:
    features = np.random.default_rng(prompt).normal(size=2).astype(np.float32)
    for vector in (None, features[::-1]):
        chances = [*classifier(seed).probabilities(features, vector).values()]
        assert chances == sorted(chances)
        assert all(0 <= chance <= 1 for chance in chances)


def test_many_prompts_at_once_and_one_by_one_are_the_same() -> None:
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    small = network(0, inputs=4)
    assert small.logits(x) == pytest.approx(np.stack([small.logits(row) for row in x]), abs=1e-5)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=4))
def test_together_they_say_the_mean(seeds: list[int]) -> None:
    several = [network(seed, inputs=4) for seed in seeds]
    x = np.random.default_rng(1).normal(size=4).astype(np.float32)
    one = together(several)
    raw = np.mean([n.bias + x @ n.direct + np.tanh(x @ n.hidden + n.lift) @ n.output for n in several], axis=0)
    assert one.logits(x) == pytest.approx(np.maximum.accumulate(raw), abs=1e-4)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    written, path = classifier(), tmp_path / "weights.npz"
    written.save(path)
    read = Classifier.load(path)
    assert (read.version, read.embedder, read.features) == ("v1", "test/1", ("a", "b"))
    features, vector = np.array([1, -1], np.float32), np.array([0.6, 0.8], np.float32)
    for of in (vector, None):
        assert read.probabilities(features, of) == pytest.approx(written.probabilities(features, of), abs=0.01)


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        classifier().save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_weights_for_other_horizons_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    np.savez(path, horizons=np.array(["1h", "1d"]))
    with pytest.raises(ValueError, match=r"weights\.npz: made for the horizons 1h, 1d; train anew"):
        Classifier.load(path)

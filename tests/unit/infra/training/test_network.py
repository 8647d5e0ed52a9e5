"""What a network learns from labels that know only some of the horizons."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.training.network import Labelled, Shape, _partners, fit
from services.router.freshness.classifier import Array

SHAPE = Shape(hidden=16, epochs=150, dropout=0.0)
ROWS = 400


def inputs(seed: int = 0) -> Array:
    return np.random.default_rng(seed).choice([-1, 1], (ROWS, 3)).astype(np.float32)


def labelled(x: Array, targets: Array, corpus: Array | None = None) -> Labelled:
    belongs = np.zeros(len(x), np.intp) if corpus is None else corpus.astype(np.intp)
    return Labelled(x, targets.astype(np.float32), belongs, np.ones(len(x), np.float32))


def both(first: Array) -> Array:
    """The same target for two horizons."""
    return np.stack((first, first), axis=1)


def test_it_learns_what_no_straight_line_parts() -> None:
    x = inputs()
    network = fit(labelled(x, both((x[:, 0] != x[:, 1]).astype(np.float32))), SHAPE, seed=0)
    unseen = inputs(1)
    assert ((network.logits(unseen)[:, 0] > 0) == (unseen[:, 0] != unseen[:, 1])).all()


def test_an_unknown_target_teaches_nothing() -> None:
    x = inputs()
    truth = np.stack((x[:, 0] > 0, x[:, 0] > 0), axis=1).astype(np.float32)
    truth[x[:, 1] > 0] = np.nan
    wrong = np.where(np.isnan(truth), 1 - both((x[:, 0] > 0).astype(np.float32)), truth)
    unseen = inputs(1)
    told = fit(labelled(x, truth), SHAPE, seed=0).logits(unseen)[:, 0]
    misled = fit(labelled(x, wrong), SHAPE, seed=0).logits(unseen)[:, 0]
    assert ((told > 0) == (unseen[:, 0] > 0)).all()
    assert not ((misled > 0) == (unseen[:, 0] > 0)).all()


def test_how_much_of_a_corpus_changes_is_the_corpus_own_matter() -> None:
    """Nothing in the prompts tells the two apart; in the first nearly all change, in the other nearly none."""
    x, corpus = np.zeros((ROWS, 3), np.float32), np.arange(ROWS) % 2
    truth = (np.random.default_rng(0).random(ROWS) < np.where(corpus == 0, 0.95, 0.05)).astype(np.float32)
    network = fit(labelled(x, both(truth), corpus.astype(np.float32)), SHAPE, seed=0)
    assert network.logits(x[0])[0] == pytest.approx(0, abs=0.5)


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(0, 1000))
def test_a_mixture_is_of_two_rows_of_one_corpus(corpora: list[int], seed: int) -> None:
    corpus = np.array(corpora, np.intp)
    partners = _partners(np.random.default_rng(seed), corpus)
    assert sorted(partners) == list(range(len(corpus)))
    assert np.array_equal(corpus[partners], corpus)


def test_the_same_seed_gives_the_same_network() -> None:
    x = inputs()
    rows, shape = labelled(x, both((x[:, 0] > 0).astype(np.float32))), Shape(hidden=4, epochs=3)
    one, same, other = (fit(rows, shape, seed).hidden for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)

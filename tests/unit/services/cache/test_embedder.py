"""Prompts to vectors, by the real model."""

import numpy as np
import pytest

from services.cache.embedder import DIMENSIONS, Embedder


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder()


async def test_vectors_have_length_one_and_the_dimensions_of_the_table(embedder: Embedder) -> None:
    vectors = await embedder.embed(["Hello?", "x" * 5000, "日本語", " "])
    assert vectors.shape == (4, DIMENSIONS)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4), abs=1e-5)


async def test_equal_texts_in_a_batch_have_equal_vectors(embedder: Embedder) -> None:
    one, _, two = await embedder.embed_each(["What is it?", "Something quite different and longer", "What is it?"])
    assert (one == two).all()


async def test_another_wording_is_nearer_than_another_question(embedder: Embedder) -> None:
    asked, same, other = await embedder.embed_each(
        ["What is the capital of France?", "Tell me France's capital city.", "How do I boil an egg?"]
    )
    assert asked @ same > 0.8
    assert asked @ other < 0.4


def test_the_version_names_model_and_weights(embedder: Embedder) -> None:
    assert embedder.version.startswith("all-MiniLM-L6-v2/")

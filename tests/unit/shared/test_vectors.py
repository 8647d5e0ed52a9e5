"""Embeddings as text."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.vectors import decode_vector, encode_vector


@given(st.lists(st.floats(-1, 1, width=16)))
def test_a_vector_of_half_floats_survives_the_journey(vector: list[float]) -> None:
    assert decode_vector(encode_vector(vector)).tolist() == vector


@given(st.lists(st.floats(-1, 1), max_size=384))
def test_a_vector_keeps_the_precision_of_half_floats_in_two_bytes_a_dimension(vector: list[float]) -> None:
    text = encode_vector(vector)
    assert decode_vector(text).tolist() == pytest.approx(vector, rel=2**-10, abs=2**-24)
    assert len(text) == 4 * math.ceil(2 * len(vector) / 3)


def test_the_text_is_the_same_on_every_machine() -> None:
    assert encode_vector((0.5, -2.0)) == "ADgAwA=="
    assert decode_vector("ADgAwA==").tolist() == [0.5, -2.0]


@pytest.mark.parametrize("text", ["AD", "ADgA", "ü"])
def test_what_is_no_vector_is_no_surprise(text: str) -> None:
    with pytest.raises(ValueError):
        decode_vector(text)

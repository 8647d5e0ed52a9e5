"""What the head sees of a prompt."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.learning.features import ANALYSED_CHARS, COUNT, NAMES, features


def named(prompt: str) -> dict[str, float]:
    return dict(zip(NAMES, features(prompt), strict=True))


@given(st.text())
def test_any_text_has_all_features_and_they_are_finite(prompt: str) -> None:
    found = features(prompt)
    assert found.shape == (COUNT,)
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("What is 12?", "digits"),
        ("What is 12?", "questions"),
        ("What is 12?", "asks what or who"),
        ("Which?\nA. one\nB) two", "options to choose from"),
        ("Solve it", "asks to calculate"),
        ("\\frac{1}{2}", "LaTeX"),
        ("naïve", "other scripts"),
        ("a line\nand another", "lines"),
        ("The ____ is blue", "blanks to fill"),
    ],
)
def test_a_feature_sees_what_it_is_named_for(prompt: str, name: str) -> None:
    assert named(prompt)[name] > named("plain words")[name]


def test_words_are_counted_once_and_in_any_case() -> None:
    assert named("PROVE it, prove it")["asks to prove"] == 1


def test_behind_the_beginning_only_the_length_counts() -> None:
    start = "x" * ANALYSED_CHARS
    one, other = named(start + "?" * 1000), named(start + "7" * 1000)
    assert one == other
    assert one["length"] > named(start)["length"]


def test_half_a_megabyte_takes_no_longer_than_its_beginning() -> None:
    began = time.process_time()
    for _ in range(20):
        features("word 1, " * 65_000)
    assert time.process_time() - began < 0.5

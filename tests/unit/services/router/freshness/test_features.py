"""What a prompt looks like in numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.freshness.features import features, names
from services.router.freshness.reading import Reader

READER = Reader()
YEAR = 2026


def seen(prompt: str) -> dict[str, float]:
    """The features that are not 0, by name."""
    values = features(READER.read(prompt), READER.classes, YEAR).tolist()
    return {name: value for name, value in zip(names(READER.classes), values, strict=True) if value}


@pytest.mark.parametrize(
    ("prompt", "has", "has_not"),
    [
        ("Who is the president?", {"opens with who", "office", "is", "short", "question mark", "no names"}, {"was"}),
        ("Was it cold in 1963?", {"opens with was", "was", "names a year long past", "digits"}, {"is", "no years"}),
        ("The winner of 2025", {"names last year or a later one"}, {"names this year or a later one"}),
        ("The winner of 2026", {"names last year or a later one", "names this year or a later one"}, {"long"}),
        ("Summarise it", {"opens otherwise"}, {"question mark", "opens with what"}),
        ("Has Rome the oldest bridge?", {"has", "names", "superlative"}, {"no names"}),
        ("Is it in the west?", {"is"}, {"superlative"}),
        ("Add 15% to it", {"a per cent sign", "a number at once", "digits"}, {"question mark"}),
        ("why " * 17, {"long", "very long"}, {"short"}),
    ],
)
def test_what_is_seen(prompt: str, has: set[str], has_not: set[str]) -> None:
    found = set(seen(prompt))
    assert has <= found
    assert not has_not & found


def test_a_year_is_near_or_past_by_the_year_that_is_now() -> None:
    reading = READER.read("In 2024")
    index = names(READER.classes).index("names a year long past")
    assert [features(reading, READER.classes, year)[index] for year in (2024, 2025, 2026)] == [0, 0, 1]


def test_names_are_told_apart() -> None:
    assert len(set(names(READER.classes))) == len(names(READER.classes))


@given(st.text(max_size=3000))
def test_any_prompt_has_finite_features_of_about_the_same_size(prompt: str) -> None:
    values = features(READER.read(prompt), READER.classes, YEAR)
    assert values.shape == (len(names(READER.classes)),)
    assert values.dtype == np.float32
    assert ((values >= 0) & (values <= 2)).all()

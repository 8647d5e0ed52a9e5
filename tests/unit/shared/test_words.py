"""Finding listed words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.words import word_pattern

words = st.lists(st.from_regex(r"[a-z][a-z'-]{0,8}[a-z]", fullmatch=True), min_size=1, max_size=5)


@given(words)
def test_each_word_is_found_in_any_case_as_a_whole_word(listed: list[str]) -> None:
    pattern = word_pattern(listed)
    for word in listed:
        for form in (word, word.upper(), f"so {word}, yes", f"({word})"):
            assert pattern.search(form)


@given(words)
def test_a_part_of_a_word_is_not_it(listed: list[str]) -> None:
    pattern = word_pattern(listed)
    assert not any(pattern.search(f"z{word}z") for word in listed if "-" not in word and "'" not in word)


def test_no_words_find_nothing() -> None:
    assert word_pattern([]).search("anything at all") is None


@pytest.mark.parametrize("special", ["c++", "a.b", "what's", "(x)", "$"])
def test_words_are_taken_literally(special: str) -> None:
    assert word_pattern([special]).search(f"about {special} today")
    assert not word_pattern(["a.b"]).search("axb")


def test_the_longest_of_several_is_found() -> None:
    found = word_pattern(["now", "now and then"]).search("every now and then")
    assert found
    assert found[0] == "now and then"

"""Prompts as words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache.verification.lexicon import lemma, lexicon, participle
from services.cache.verification.words import words


def texts(text: str) -> list[str]:
    return [word.text for word in words(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What's up?", ["what", "is", "up"]),
        ("I can't, won't and don’t", ["i", "can", "not", "will", "not", "and", "do", "not"]),
        ("Ann's dog", ["ann", "dog"]),
        ("twenty-one of three", ["21", "of", "3"]),
        ("C, C++ and C#", ["c", "c++", "and", "c#"]),
        ("5kg for $3", ["5", "kg", "for", "$", "3"]),
        ("no one", ["no", "one"]),
        ("", []),
    ],
)
def test_a_text_is_taken_apart(text: str, expected: list[str]) -> None:
    assert texts(text) == expected


@given(st.text(max_size=80))
def test_every_word_lies_where_it_says(text: str) -> None:
    for word in words(text):
        assert 0 <= word.start < word.end <= len(text)


@pytest.mark.parametrize(
    "forms",
    [
        ("buy", "buys", "buying", "bought"),
        ("make", "makes", "making", "made"),
        ("study", "studies", "studied", "studying"),
        ("child", "children"),
        ("stop", "stopped"),
    ],
)
def test_the_forms_of_a_word_share_a_lemma(forms: tuple[str, ...]) -> None:
    assert len({lemma(form) for form in forms}) == 1


@pytest.mark.parametrize(
    ("one", "other"), [("left", "leave"), ("teach", "teacher"), ("universe", "university"), ("this", "thi")]
)
def test_other_words_do_not(one: str, other: str) -> None:
    assert lemma(one) != lemma(other)


def test_the_lexicon_knows_opposites_and_synonyms_both_ways() -> None:
    known = lexicon()
    assert lemma("sell") in known.antonyms[lemma("buy")]
    assert lemma("buy") in known.antonyms[lemma("sell")]
    assert known.synonymous(lemma("purchase"), lemma("buy"))
    assert known.synonymous(lemma("brave"), lemma("courageous"))
    assert known.akin(lemma("arrive"), lemma("arrival"))
    assert not known.synonymous(lemma("buy"), lemma("sell"))


def test_a_participle_is_known() -> None:
    assert participle("bought")
    assert participle("seized")
    assert not participle("house")

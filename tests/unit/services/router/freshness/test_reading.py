"""What is read of a prompt: its words, what they are about, the years it names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.freshness.reading import HEAD_CHARS, TAIL_CHARS, Found, Lexicon, Reader, load_lexicon

LEXICON = Lexicon({"moment": "right now | today", "ahead": "next | predict*", "numbers": "now"})


def about(prompt: str) -> dict[str, Found]:
    return dict(Reader(LEXICON).read(prompt).about)


def test_words_are_in_lower_case_and_without_possessives() -> None:
    assert Reader().read("Today’s news: what's NEW, e-mail 3.5 or don't?").words == [
        *("today", "news", "what", "new", "e-mail", "3.5", "or", "dont")
    ]


def test_the_classes_that_occur_each_with_the_phrase_that_was_found_first() -> None:
    assert about("Is it open right now, or only today?") == {
        "moment": Found("right now", 3),
        "numbers": Found("now", 4),
    }


def test_a_phrase_is_found_as_a_whole_only() -> None:
    assert about("It is right, nowadays.") == {}
    assert about("right") == {}


def test_what_begins_as_a_starred_word_is_found_as_it_stands() -> None:
    assert about("What do they PREDICTED?") == {"ahead": Found("predicted", 3)}
    assert about("unpredictable") == {}


def test_the_years_a_prompt_names() -> None:
    assert Reader().read("From 1066 to 2026, not 12026, 2100 or 2026th, in the 90s").years == [1066, 2026]


def test_of_a_long_prompt_the_beginning_and_the_end_are_read() -> None:
    reading = Reader(LEXICON).read("today " + "x " * 300_000 + "next")
    assert len(reading.text) == HEAD_CHARS + 1 + TAIL_CHARS
    assert set(reading.about) == {"moment", "ahead"}
    assert about("x " * HEAD_CHARS + "today " + "x " * TAIL_CHARS) == {}


@given(st.text(max_size=300))
def test_what_is_found_stands_where_it_is_said_to_stand(prompt: str) -> None:
    reading = Reader().read(prompt)
    for found in reading.about.values():
        phrase = found.phrase.split()
        assert list(reading.words[found.place : found.place + len(phrase)]) == phrase


@pytest.mark.parametrize("name", load_lexicon().classes)
def test_every_class_of_the_lexicon_that_ships_can_be_found(name: str) -> None:
    lexicon = load_lexicon()
    phrases = [*(phrase for listed in lexicon._whole.values() for phrase, of in listed if of == name)]
    begun = [(beginning,) for beginning, of in lexicon._begun if of == name]
    for phrase in (*phrases, *begun):
        assert name in Reader(lexicon).read(" ".join(phrase)).about, phrase

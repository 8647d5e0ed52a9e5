"""When two answers say the same: in doubt they don't."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.cascade.agreement import meaning, options, plain
from shared.events import Request
from tests.support import make

CHOICE = "Which is the capital of France?\nA. Rome\nB) Paris\n(C) Lyon\nD. none of these"
WORDS = st.lists(st.from_regex(r"[A-Za-z]{1,8}", fullmatch=True), min_size=1, max_size=6)


def wanted(kind: str = "json_object") -> Request:
    said: dict[str, Any] = {"type": kind}
    if kind == "json_schema":
        said |= {"name": "x", "schema": {"type": "array"}}
    return make.request(text={"format": said})


def agree(one: str, other: str, request: Request | None = None) -> bool:
    asked = request or make.request()
    said = meaning(asked, one)
    return said is not None and said == meaning(asked, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Paris", " paris.\n"),
        ("Paris", "**Paris**"),
        ("Yes, it is.", "yes it is"),
        ("“Paris”", '"Paris"'),
        ("café", "cafe\u0301"),
        ("540", "540.0"),
        ("$1,234.00", "$1234"),
        ("−15", "-15"),
        ("It’s 5:", "it's 5"),
        ("Straße", "STRASSE"),
    ],
)
def test_the_same_in_other_spelling(one: str, other: str) -> None:
    assert agree(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("15", "-15"),
        ("3.5", "35"),
        ("3.10", "3.1"),
        ("007", "7"),
        ("5%", "5"),
        ("$5", "€5"),
        ("x²", "x2"),
        ("f'(x)", "f(x)"),
        ("5!", "5"),
        ("[1, 2]", "(1, 2)"),
        ("(1,200)", "(1200)"),
        ("1,20", "120"),
        ("a/b", "a b"),
        ("Paris", "Paris and Lyon"),
        ("it is", "it is not"),
        (".", "?"),
    ],
)
def test_what_may_mean_something_else_differs(one: str, other: str) -> None:
    assert not agree(one, other)


@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12))
def test_numbers_agree_when_they_are_equal_however_they_are_written(one: int, other: int) -> None:
    for spelling in (f"{other}", f"{other:,}", f"{other:,}.00", f" **{other}**. ", f"{other}".replace("-", "−")):
        assert agree(f"{one}", spelling) is (one == other)


@given(st.lists(st.text("aA1,.-( \n*", min_size=1), min_size=3, max_size=3))
def test_agreement_is_an_equivalence(texts: list[str]) -> None:
    one, two, three = texts
    assert agree(one, one)
    assert agree(one, two) is agree(two, one)
    if agree(one, two) and agree(two, three):
        assert agree(one, three)


@given(WORDS, st.sampled_from([" ", "\n", "\t  ", "\u00a0"]), st.sampled_from(["", ".", "?", "**"]), st.booleans())
def test_case_space_and_marks_at_the_ends_of_words_say_nothing(words: list[str], gap: str, end: str, up: bool) -> None:
    other = gap.join(word.upper() if up else word.lower() for word in words) + end
    assert agree(" ".join(words), other)


@given(WORDS, WORDS)
def test_other_words_are_another_answer(one: list[str], other: list[str]) -> None:
    alike = [word.casefold() for word in one] == [word.casefold() for word in other]
    assert agree(" ".join(one), " ".join(other)) is alike


@given(st.text(max_size=60))
def test_any_text_can_be_told(text: str) -> None:
    assert meaning(make.request(), text) == ("text", plain(text))


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ('{"a": 1, "b": [true, null]}', '{ "b": [true, null],\n "a": 1.0 }', True),
        ('{"a": 1}', '{"a": true}', False),
        ('{"a": "Paris"}', '{"a": "paris"}', False),
        ('{"a": [1, 2]}', '{"a": [2, 1]}', False),
        ('{"a": 1}', '{"a": 1, "b": 2}', False),
    ],
)
def test_json_is_compared_by_value(one: str, other: str, alike: bool) -> None:
    assert agree(one, other, wanted()) is alike
    assert agree(one, other, wanted("json_schema")) is alike


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON_VALUES, max_size=4))
def test_json_agrees_with_itself_in_any_layout_and_order(value: dict[str, Any]) -> None:
    turned = dict(reversed(value.items()))
    assert agree(json.dumps(value), json.dumps(turned, indent=3, ensure_ascii=False), wanted())


@pytest.mark.parametrize(
    "text", ["", "Paris", '{"a": 1', '```json\n{"a": 1}\n```', '{"a": NaN}', "[1]", "7", "[" * 100_000]
)
def test_what_is_not_the_json_that_was_asked_for_agrees_with_nothing(text: str) -> None:
    assert not agree(text, text, wanted())


def test_a_schema_may_ask_for_another_value_than_an_object() -> None:
    assert agree("[1]", "[1.0]", wanted("json_schema"))


@pytest.mark.parametrize(
    "prompt",
    [
        "What is the capital of France?",
        "A. Rome",
        "A. Rome\nC. Paris",
        "B. Rome\nC. Paris",
        "Compare plan A. with plan B. and say why",
        "A. one\nB. two\nD. four",
    ],
)
def test_not_every_list_is_a_choice(prompt: str) -> None:
    assert not options(prompt)


def test_of_several_lists_the_last_one_is_the_question() -> None:
    assert options(f"Example:\nA. one\nB. two\nC. three\nD. four\nE. five\n\n{CHOICE}") == {
        "A": "Rome",
        "B": "Paris",
        "C": "Lyon",
        "D": "none of these",
    }


@pytest.mark.parametrize(
    "text",
    [
        "B",
        " (B)",
        "**B**",
        "B.",
        "B) Paris",
        "B. Paris, which has been the capital since 987.",
        "Paris",
        "paris.",
        "France's capital lies on the Seine. The answer is (B).",
        "Rome is in Italy, so not A.\nAnswer: B",
        "Answer: **B**",
        "First I thought the answer is A. It is not: the answer is B.",
    ],
)
def test_who_picks_the_same_option_agrees(text: str) -> None:
    request = make.request(CHOICE)
    assert meaning(request, text) == ("choice", "B")


@pytest.mark.parametrize(
    "text",
    [
        "A city on the Seine",
        "The answer: a city",
        "The answer: A city on the Seine",
        "A. Rome\nB. Paris\nC. Lyon",
        "I don't know",
        "E",
        "The answer is E.",
    ],
)
def test_what_picks_none_is_compared_as_text(text: str) -> None:
    assert meaning(make.request(CHOICE), text) == ("text", plain(text))

"""What a prompt asks, and about what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache.verification.questions import question


@pytest.mark.parametrize(
    ("text", "kinds", "content"),
    [
        ("How do I boil an egg?", ("how",), ["boil", "egg"]),
        ("What is a good way to boil an egg?", ("how",), ["boil", "egg"]),
        ("In order to boil an egg, what should I do?", ("how",), ["boil", "egg"]),
        ("If I want to boil an egg, what should you do?", ("how",), ["boil", "egg"]),
        ("Can you tell me how to boil an egg", ("how",), ["boil", "egg"]),
        ("What is the fastest way to boil an egg?", ("how",), ["fastest", "boil", "egg"]),
        ("Is it safe?", ("whether",), ["saf"]),
        ("Do you think you can swim?", ("whether",), ["swim"]),
        ("How old is Ann?", ("how old",), ["ann"]),
        ("Where can you buy milk?", ("where",), ["buy", "milk"]),
        ("In Python, how do I sort?", ("how",), ["python", "sort"]),
        ("Paris weather", ("",), ["paris", "weather"]),
        ("What is your aim, and why?", ("what",), ["aim"]),
        ("", (), []),
    ],
)
def test_the_frame_is_told_from_the_content(text: str, kinds: tuple[str, ...], content: list[str]) -> None:
    q = question(text)
    assert q.kinds == kinds
    assert [q.words[i].lemma for i in q.content] == content


def test_where_two_persons_meet_they_are_content() -> None:
    assert [question("Do you love me?").words[i].text for i in question("Do you love me?").content] == [
        "you",
        "love",
        "me",
    ]


@given(st.text(max_size=80))
def test_no_word_is_both_frame_and_content(text: str) -> None:
    q = question(text)
    assert not q.frame & set(q.content)
    assert list(q.content) == sorted(q.content)

"""What a prompt is counted under, and which prompts a topic concerns."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.topics import MOST_WORDS, concerns, keys, term, words


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("What are the latest results of the World Cup?", ["latest", "result", "world", "cup"]),
        ("What's James’ view on Müller's boxes and cities?", ["jame", "view", "muller", "box", "city"]),
        ("Is there news about the goods?", ["news", "goods"]),  # their singulars would be words that every text has
        ("How do I ...?", []),
        ("東京の地震", ["東京の地震"]),
        ("서울의 지진, ＭÜ１ です", ["서울의", "지진", "mu1", "です"]),
        ("か が \u304b\u3099", ["か", "が", "が"]),
        ("हिन्दी й и", ["हिन्दी", "й", "и"]),
        ("1\ufe0f\u20e3 ❤️", []),
        ("ISO 9001 vs. ISO 14001", ["iso", "9001", "vs", "iso", "14001"]),
        ("", []),
    ],
)
def test_the_words_of_a_prompt_are_those_that_tell_it_from_others(prompt: str, expected: list[str]) -> None:
    assert words(prompt) == expected


def test_a_prompt_is_counted_under_its_words_and_each_two_side_by_side_once() -> None:
    assert keys("the world cup, the World Cup!") == ["world", "cup", "world cup", "cup world"]


def test_a_long_prompt_is_read_at_its_beginning() -> None:
    assert len(words("word9 " * 5000)) == MOST_WORDS
    assert len(keys(" ".join(f"w{n}" for n in range(5000)))) == 2 * MOST_WORDS - 1


@pytest.mark.parametrize(
    ("terms", "prompt", "expected"),
    [
        (["earthquake tokyo"], "Was there an earthquake in Tokyo?", True),
        (["earthquake tokyo"], "Tokyo: two earthquakes?", True),
        (["earthquake tokyo"], "Was there an earthquake in Lima?", False),
        (["lima", "tokyo"], "Was there an earthquake in Lima?", True),
        (["cat"], "How do I concatenate?", False),
    ],
)
def test_a_prompt_concerns_a_topic_in_which_all_words_of_a_term_occur(
    terms: list[str], prompt: str, expected: bool
) -> None:
    assert concerns([term(each) for each in terms], frozenset(words(prompt))) is expected


@given(
    st.one_of(
        st.text(max_size=80),
        st.text("abehisxy'’ ", max_size=30),
        st.text("éeかがカﾞ\u3099\u0301\u0308İǆ한ㄱᄒ़कि", max_size=50),
    )
)
@example("xes")
def test_every_key_of_a_prompt_is_a_term_of_the_same_words(prompt: str) -> None:
    found = frozenset(words(prompt))
    for key in keys(prompt):
        assert term(key)
        assert set(term(key)) == set(key.split(" "))
        assert concerns([term(key)], found)

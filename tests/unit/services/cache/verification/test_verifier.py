"""Between similar and the same: what must never be served."""

import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache.embedder import Embedder, Reading
from services.cache.verification import verifier as verification
from services.cache.verification.verifier import LEFTOVER_FLOOR, Pair, Verifier
from tests.support.guards import differs

text = st.text(max_size=60)
words = st.sampled_from(["how", "many", "days", "has", "the", "long", "month", "of", "rain", "and", "wind"])
sentences = st.lists(words, min_size=1, max_size=8).map(" ".join)
numbers = st.integers(0, 10**6) | st.decimals(0, 10**4, places=2, allow_nan=False)


@given(text, text)
def test_the_order_of_the_two_does_not_matter(one: str, other: str) -> None:
    assert differs(one, other) == differs(other, one)


@given(text)
def test_a_text_never_differs_from_itself(one: str) -> None:
    assert differs(one, one) is None


@given(sentences, sentences, numbers, numbers)
def test_a_changed_number_is_always_noticed(before: str, after: str, one: Any, other: Any) -> None:
    verdict = differs(f"{before} {one} {after}", f"{before} {other} {after}")
    if float(one) != float(other):
        assert verdict == "numbers"
    elif str(one) == str(other):
        assert verdict is None


@given(sentences, numbers)
def test_a_number_that_is_gone_is_noticed(before: str, number: Any) -> None:
    assert differs(f"{before} {number}", before) == "numbers"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the capital of France?", "Tell me the capital of France."),
        ("How do I boil an egg?", "how do i boil an egg"),
        ("What is 1,000 in words?", "What is 1000 in words"),
        ("Name three rivers", "Name 3 rivers"),
        ("The 2nd law", "the 2nd law"),
        ("Can't I go?", "Can’t I go?"),
        ("I do not like it", "I don't like it"),
        ("", ""),
    ],
)
def test_another_wording_is_the_same_question(one: str, other: str) -> None:
    assert differs(one, other) is None


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        ("Interest over 3 months", "Interest over 4 months", "numbers"),
        ("Interest over three months", "Interest over four months", "numbers"),
        ("Is it -5 degrees", "Is it 5 degrees", "numbers"),
        ("Costs 1.5 dollars", "Costs 15 dollars", "numbers"),
        ("the 2nd law", "the 3rd law", "numbers"),
        ("the first law", "the third law", "numbers"),
        ("In the year 1999?", "In the year 2001?", "numbers"),
        ("half of it", "twice of it", "numbers"),
        ("Is it safe?", "Is it not safe?", "negation"),
        ("Can I take it?", "Can't I take it?", "negation"),
        ("Foods with sugar", "Foods without sugar", "negation"),
        ("Is it safe to eat?", "Is it unsafe to eat?", "negation"),
        ("is it legal", "is it illegal", "negation"),
        ("What does Paris cost?", "What does London cost?", "names"),
        ("Who is Ann Lee?", "Who is Ann Fox?", "names"),
        ("Tell me of Henry VII", "Tell me of Henry VIII", "names"),
        ("How do I use GPT4?", "How do I use GPT5?", "numbers"),
    ],
)
def test_what_differs_is_noticed_with_its_reason(one: str, other: str, reason: str) -> None:
    assert differs(one, other) == reason


@given(sentences, st.sampled_from(["not", "never", "without", "no"]))
def test_a_negation_more_is_noticed(sentence: str, negation: str) -> None:
    assert differs(sentence, f"{sentence} {negation}") == "negation"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("install python2 on linux", "install python3 on linux"),
        ("bugs of version 1.5.2", "bugs of version 1.5.3"),
        ("write 1e5 in full", "write 1e6 in full"),
        ("what is f(1,2)", "what is f(12)"),
        ("is .5 a lot", "is .6 a lot"),
        ("plot x²", "plot x³"),
        ("count to twenty-one", "count to twenty"),
        ("the eleventh president", "the twelfth president"),
        ("convert 3 feet 5 inches", "convert 5 feet 3 inches"),
        ("how many is 7 minus 4", "how many is 4 minus 7"),
    ],
)
def test_numbers_are_noticed_however_they_are_written(one: str, other: str) -> None:
    assert differs(one, other) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("meals with sugar and salt", "meals with no sugar and no salt"),
        ("should I stay or go", "should I never stay and never go"),
    ],
)
def test_two_negations_are_not_none(one: str, other: str) -> None:
    assert differs(one, other) == "negation"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Paris weather", "London weather"),
        ("France: what is its capital?", "Spain: what is its capital?"),
    ],
)
def test_names_are_noticed_wherever_they_stand(one: str, other: str) -> None:
    assert differs(one, other) == "names"


def test_a_strange_prompt_takes_no_longer_than_an_ordinary_one() -> None:
    strange = "\n" * 400 + "A " * 200
    began = time.process_time()
    differs(strange, strange)
    assert time.process_time() - began < 0.1


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder()


@pytest.fixture(scope="module")
def verifier(embedder: Embedder) -> Verifier:
    return Verifier(embedder)


def test_the_same_text_is_the_same_question_unread(verifier: Verifier) -> None:
    (verdict,) = verifier.judge([Pair("¿Qué?", "¿qué?", 1.0)])
    assert verdict == verification.Verdict(same=True, probability=1.0, reason=None)


def test_each_pair_has_its_verdict(verifier: Verifier) -> None:
    verdicts = verifier.judge(
        [
            Pair("How do I boil an egg?", "What is the best way to boil an egg?", 0.93),
            Pair("How do I boil an egg?", "How do I boil two eggs?", 0.97),
            Pair("How do I boil an egg?", "How do I boil a fresh egg?", LEFTOVER_FLOOR - 0.01),
            Pair("What do cats eat in the wild, far away?", "What do rockets eat?", 0.99),
        ]
    )
    assert [verdict.reason for verdict in verdicts] == [None, "numbers", "content", "content"]
    assert verdicts[0].same
    assert verdicts[0].probability > 0.5
    assert verifier.judge([]) == []


def test_the_threshold_is_the_least_probability(embedder: Embedder) -> None:
    pair = Pair("How do I boil an egg?", "What is the best way to boil an egg?", 0.93)
    (verdict,) = Verifier(embedder, threshold=1.0).judge([pair])
    assert verdict.reason == "classifier"
    assert 0 < verdict.probability < 1


def test_what_the_model_cannot_read_to_its_end_is_not_verified(verifier: Verifier) -> None:
    long = "How do I write " + "very " * 300 + "well?"
    (verdict,) = verifier.judge([Pair(long, f"{long}?", 1.0)])
    assert verdict.reason == "unreadable"


class Counting:
    """An embedder that counts what it reads."""

    def __init__(self, embedder: Embedder) -> None:
        self.read: list[str] = []
        self._embedder = embedder

    def read_now(self, texts: Sequence[str]) -> Sequence[Reading]:
        self.read.extend(texts)
        return self._embedder.read_now(texts)


def test_a_stored_prompt_is_read_once_and_forgotten_in_time(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "READINGS_KEPT", 2)
    counting = Counting(embedder)
    verifier = Verifier(counting)
    pair = Pair("How do I boil an egg?", "how can I boil an egg", 0.95)
    verifier.judge([pair])
    verifier.judge([pair])
    assert len(counting.read) == 2
    verifier.judge([Pair("What is it for?", "What's it for", 0.95)])
    verifier.judge([pair])
    assert len(counting.read) == 6

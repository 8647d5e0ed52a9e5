"""What a prompt looks like."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.signals import _CLAUSE, _CODE, _MATHS, _SENTENCE, _STEPS, Signals, Sought, Text, _clauses
from shared.policy.routing import Weights
from tests.support import make

POLICY = make.policy().router
SIGNALS = Signals(POLICY.length, POLICY.words)


def fired(prompt: str) -> set[str]:
    return {name for name, _ in SIGNALS.fired(Text.read(prompt))}


@pytest.mark.parametrize(
    ("prompt", "signal"),
    [
        ("Hello there", "short"),
        ("word " * 40, "long"),
        ("Tidy this up: def run(x): pass", "code"),
        ("Tidy this up: ```x```", "code"),
        ("Which rows does SELECT a FROM b give me back", "code"),
        ("Write me a little REGEX for dates please", "code"),
        ("Could you work out 12 * 7 for me today", "maths"),
        ("Could you solve this equation for me today", "maths"),
        ("Please prove that there are infinitely many primes", "reasoning"),
        ("Walk me through it Step by Step if you can", "reasoning"),
        ("Just tell me the capital of France right away", "simple"),
        ("First wash it well, then dry it in the sun", "steps"),
        ("Please write a text:\n- about cats\n- in French", "constraints"),
        ("Please write a text:\n1. about cats\n2) in French", "constraints"),
        ("A cat, a dog, a cow, a pig, and a hen went home", "clauses"),
        ("Where do they live? And what do they eat?", "questions"),
    ],
)
def test_a_signal_fires_on_what_it_is_about(prompt: str, signal: str) -> None:
    assert signal in fired(prompt)


def test_an_ordinary_sentence_fires_nothing() -> None:
    assert fired("Please tell my friend about your nice long holiday") == set()


@pytest.mark.parametrize(
    ("prompt", "signal"),
    [
        ("Please improve my bathroom today", "reasoning"),
        ("Please write a text:\n- about cats", "constraints"),
        ("A cat, a dog, a cow went home", "clauses"),
        ("A cat, a dog. A cow, a pig. A hen, a rat.", "clauses"),
        ("Where do they live?", "questions"),
        ("He came first in the race today", "steps"),
    ],
)
def test_a_signal_does_not_fire_on_less(prompt: str, signal: str) -> None:
    assert signal not in fired(prompt)


def test_the_length_is_counted_at_its_limits() -> None:
    assert "short" in fired("word " * 3)
    assert "short" not in fired("word " * 4)
    assert "long" not in fired("word " * 39)
    assert "long" in fired("word " * 40)


@given(st.text())
def test_every_signal_has_a_weight_and_fires_at_most_once_with_its_evidence(prompt: str) -> None:
    found = list(SIGNALS.fired(Text.read(prompt)))
    names = [name for name, _ in found]
    assert set(names) <= set(Weights.model_fields)
    assert len(set(names)) == len(names)
    assert all(evidence and len(evidence) <= 60 for _, evidence in found)


@given(st.lists(st.sampled_from(["word", "12", "?", "naïve"]), max_size=30))
def test_tokens_are_words_and_marks(parts: list[str]) -> None:
    assert Text.read(" ".join(parts)).tokens == len(parts)


@pytest.mark.parametrize(
    "strange",
    [
        pytest.param("The cat sat. " * 1500, id="prose"),
        pytest.param("a" * 20_000, id="one long word"),
        pytest.param("first " * 3500, id="first"),
        pytest.param("\n" * 6000 + "x", id="line ends"),
        pytest.param("." * 6000 + "x", id="dots"),
        pytest.param("SELECT " * 3500, id="SELECT"),
    ],
)
def test_a_strange_prompt_takes_no_longer_than_an_ordinary_one(strange: str) -> None:
    began = time.process_time()
    list(SIGNALS.fired(Text.read(strange)))
    assert time.process_time() - began < 0.2


PIECES = [
    *(
        "```",
        "#include",
        "=>",
        "SELECT a FROM b",
        "};",
        "run(x):",
        "def f(",
        "(",
        "x",
        "select",
        "\\frac",
        "$a$",
        "b ^ 2",
    ),
    *("12 * 7", "3/4", "=", "5 - 2", "well-known", "√", "first", "Then", "next", "Step 3", "step", "steps", "Finally"),
    *(
        ",",
        ";",
        ":",
        ".",
        "?",
        "!",
        "Although",
        "given that",
        "given",
        "so that",
        "so",
        "WHICH",
        "switch",
        "\n- ",
        "\n1. ",
    ),
    *("c++", "pros and cons", "trade-off", "my last order", "What's", "prove", "improve", "straße", "STRASSE", "naïve"),
]
PROMPTS = st.lists(st.sampled_from(PIECES) | st.text(st.characters(codec="ascii"), max_size=4), max_size=25).flatmap(
    lambda parts: st.sampled_from([" ", "", "\n"]).map(lambda between: between.join(parts))
)
PHRASES = ("c++", "pros and cons", "trade-off", "what's", "prove", "straße", "#include")


@given(PROMPTS)
def test_what_is_not_searched_would_not_have_been_found(prompt: str) -> None:
    text = Text.read(prompt)
    for sought in (_CODE, _MATHS, _STEPS, Sought.phrases(PHRASES), Sought.phrases(["my * order", "* order", "pre*"])):
        found, expected = sought.search(text), sought.pattern.search(prompt)
        assert (found and found.span()) == (expected and expected.span())
    clauses = max(len(_CLAUSE.findall(sentence)) for sentence in _SENTENCE.split(prompt))
    assert (_clauses(text) if clauses >= 4 else 0) == (clauses if clauses >= 4 else 0)


def test_a_phrase_that_begins_with_any_word_is_looked_for_everywhere() -> None:
    text = Text.read("where is the last order")
    assert Sought.phrases(["* order"]).search(text)
    assert Sought.phrases(["prove"]).search(text) is None
    assert Sought.phrases([]).search(text) is None

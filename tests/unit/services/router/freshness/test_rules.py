"""What the rules make of prompts, one by one; all together they are tested in test_judgement.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.freshness.reading import Reader
from services.router.freshness.rules import speaks
from shared.policy.freshness import RULES, Rule

READER = Reader()
YEAR = 2026


def said(rule: Rule, prompt: str) -> str | None:
    return speaks(rule, READER.read(prompt), YEAR)


@pytest.mark.parametrize(
    ("rule", "prompt", "evidence"),
    [
        ("task", "Translate: what's the weather today?", "translate"),
        ("task", "Could you please write me a short poem about rain?", "write … poem"),
        ("task", "def f(x):\n    return x", "def f(x)"),
        ("task", "Which is right? A) one B) two", "A … B …"),
        (
            "task",
            "Tom has 3 apples and buys 4 more, " + "and so on and on " * 5 + "then eats 2.",
            "an exercise with its own",
        ),
        ("moment", "Is the shop open right now?", "right now"),
        ("moment", "I need to know the time", "know the time"),
        ("moment", "what date it is, please", "what date it is"),
        ("price", "How many yen do I get for five dollars?", "yen … dollars"),
        ("recent", "Any word on the latest launch?", "latest"),
        ("price", "What is the price of silver?", "price of"),
        ("weather", "Do I need an umbrella in Oslo?", "need an umbrella"),
        ("score", "Show me the standings", "standings"),
        ("news", "Headlines, please", "headlines"),
        ("office", "Who is the prime minister of Japan?", "who … prime minister"),
        ("year", "Which films come out in 2027?", "the year 2027"),
    ],
)
def test_a_rule_says_what_made_it_speak(rule: Rule, prompt: str, evidence: str) -> None:
    found = said(rule, prompt)
    assert found is not None
    assert found.startswith(evidence)


@pytest.mark.parametrize(
    ("rule", "prompt"),
    [
        ("task", "What is the capital of France?"),
        ("task", "Write this week's weather report"),
        ("task", "Act as an adviser: what is the price of gold?"),
        ("moment", "Today I learned to swim"),
        ("moment", "Tell me the date of the battle of Hastings"),
        ("moment", "How do I show what time it is in Python?"),
        ("price", "How many dollars are a million dollars?"),
        ("price", "Explain how dollars and euros differ"),
        ("price", "How many francs were five dollars in 1913?"),
        ("recent", "I was asked yesterday about Rome"),
        ("price", "What was the price of bread in 1920?"),
        ("weather", "Explain how the weather forms"),
        ("office", "Who was the president of the USA?"),
        ("office", "Who was the first king of Spain?"),
        ("office", "Who is president of the USA in 1963?"),
        ("office", "Is the president the one who signs?"),
        ("year", "Who won in 2025?"),
        ("year", "What will the world be like in 2028?"),
    ],
)
def test_a_rule_says_nothing(rule: Rule, prompt: str) -> None:
    assert said(rule, prompt) is None


@given(st.sampled_from(RULES), st.text(max_size=600), st.integers(1990, 2090))
def test_what_a_rule_says_is_in_the_prompts_own_words_and_short(rule: Rule, prompt: str, year: int) -> None:
    found = speaks(rule, READER.read(prompt), year)
    assert found is None or 0 < len(found) <= len(prompt) + 40


@given(st.text(max_size=200), st.integers(1990, 2090))
def test_years_are_counted_from_the_one_that_is_now(prompt: str, year: int) -> None:
    reading = READER.read(f"{prompt} {year} ")
    assert speaks("year", reading, year)
    assert not speaks("year", READER.read(f"in {year}"), year + 1)

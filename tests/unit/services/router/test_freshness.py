"""How long an answer may be reused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.freshness import FreshnessRules
from shared.policy import load_policy
from shared.policy.freshness import FreshnessPolicy
from shared.settings import packaged_policy
from tests.support import make

RULES = FreshnessRules(make.policy().freshness)


@pytest.mark.parametrize(
    ("prompt", "category", "ttl_s"),
    [
        ("What happened TODAY?", "dynamic", 900),
        ("What is it right now?", "dynamic", 900),
        ("What is the capital of France?", "static", 7 * 86_400),
        ("Does todays matter", "static", 7 * 86_400),
    ],
)
def test_the_words_of_a_prompt_decide(prompt: str, category: str, ttl_s: int) -> None:
    found = RULES.judge(prompt)
    assert (found.category, found.ttl_s) == (category, ttl_s)


def test_the_reason_names_the_word() -> None:
    assert "'right now'" in RULES.judge("What is it RIGHT NOW?").reason
    assert RULES.judge("What is it?").reason


def test_the_first_category_of_the_file_wins() -> None:
    rules = FreshnessRules(
        FreshnessPolicy.model_validate(
            {
                "default": "rest",
                "categories": {
                    "news": {"ttl": "1m", "words": ["news"]},
                    "sport": {"ttl": "1h", "words": ["score", "news"]},
                    "rest": {"ttl": "1d"},
                },
            }
        )
    )
    assert [rules.judge(prompt).category for prompt in ("score and news", "the score", "neither")] == [
        "news",
        "sport",
        "rest",
    ]


@given(st.text())
def test_every_prompt_has_a_category_of_the_policy(prompt: str) -> None:
    found = RULES.judge(prompt)
    assert found.ttl_s == make.policy().freshness.categories[found.category].ttl


@pytest.mark.parametrize(
    "prompt", ["What's the weather in Rome?", "Who won yesterday?", "latest news", "What is the stock price of X?"]
)
def test_the_policy_that_ships_knows_what_changes(prompt: str) -> None:
    assert FreshnessRules(load_policy(packaged_policy()).freshness).judge(prompt).category == "dynamic"

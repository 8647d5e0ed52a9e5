"""The score of the rules."""

import pytest

from services.router.scoring import Rules
from tests.support import make

RULES = Rules(make.policy(router__weights__length=0.1).router)
PLAIN = "my friend went on a very nice holiday"


def test_of_two_alike_the_longer_one_scores_higher() -> None:
    one, other = RULES.score(PLAIN), RULES.score(f"{PLAIN} {PLAIN}")
    assert other.value - one.value == pytest.approx(0.1)
    assert other.fired == ("length: 16 tokens (+0.242)",)


def test_length_alone_is_no_signal() -> None:
    assert not RULES.score(PLAIN).informed
    assert RULES.score(f"{PLAIN} step by step").informed


def test_a_short_prompt_loses_nothing_by_its_length() -> None:
    assert RULES.score("prove it").fired == ("short: 2 tokens (-1)", "reasoning: 'prove' (+3)")

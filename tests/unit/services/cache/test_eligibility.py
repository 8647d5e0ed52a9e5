"""What the cache may do for a request."""

import pytest

from services.cache.eligibility import LOOKED_THROUGH_CHARS, Eligibility, Eligible
from shared.events import CacheControl
from shared.policy import load_policy
from shared.settings import packaged_policy
from tests.support import make

NEVER = {"personal": ("my order", "my * order"), "moment": ("what time is it",)}


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("Where is my order?", "personal"),
        ("WHERE IS MY LAST ORDER", "personal"),
        ("hey, what time is it in Oslo", "moment"),
    ],
)
def test_what_the_policy_never_caches_is_neither_served_nor_kept(prompt: str, reason: str) -> None:
    assert Eligible(NEVER).judge(make.request(prompt)) == Eligibility(reads=False, stores=False, reason=reason)


@pytest.mark.parametrize("before", [LOOKED_THROUGH_CHARS - 15, LOOKED_THROUGH_CHARS, 3 * LOOKED_THROUGH_CHARS])
def test_what_is_asked_behind_a_long_text_is_seen_too(before: int) -> None:
    judge = Eligible(NEVER).judge
    assert judge(make.request("x" * before + " Where is my order?")).reason == "personal"
    assert judge(make.request("Where is my order? " + "x" * before)).reason == "personal"


@pytest.mark.parametrize("prompt", ["How do I order a pizza?", "my very last order", "dummy order"])
def test_other_prompts_take_part(prompt: str) -> None:
    assert Eligible(NEVER).judge(make.request(prompt)) == Eligibility()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (CacheControl(no_cache=True), Eligibility(reads=False, reason="no-cache")),
        (CacheControl(max_age_s=0), Eligibility(reads=False, reason="no-cache")),
        (CacheControl(max_age_s=60), Eligibility()),
        (CacheControl(no_store=True), Eligibility(stores=False, reason="no-store")),
        (CacheControl(no_cache=True, no_store=True), Eligibility(False, False, "no-cache, no-store")),
    ],
)
def test_the_caller_is_obeyed(said: CacheControl, expected: Eligibility) -> None:
    assert Eligible({}).judge(make.request(cache_control=said)) == expected


@pytest.mark.parametrize(
    "prompt",
    [
        "What is my checking account balance right now?",
        "Where is my package?",
        "what time is it",
        "List my last 5 transactions",
        "Show my current pending transactions.",
    ],
)
def test_the_policy_that_ships_knows_personal_prompts(prompt: str) -> None:
    assert not Eligible(load_policy(packaged_policy()).cache.never).judge(make.request(prompt)).reads


@pytest.mark.parametrize("prompt", ["How do I cook rice?", "What is a bank account?", "How does a card payment work?"])
def test_the_policy_that_ships_leaves_common_questions(prompt: str) -> None:
    assert Eligible(load_policy(packaged_policy()).cache.never).judge(make.request(prompt)).reads

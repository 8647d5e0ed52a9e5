"""Whether two answers say the same."""

from collections.abc import Sequence

import numpy as np
import pytest

from services.cache.learning.agreement import agreement, contradict
from shared.embedding.builtin import Vectors


async def at_right_angles(texts: Sequence[str]) -> Vectors:
    return np.eye(2, dtype=np.float32)[: len(texts)]


async def opposite(texts: Sequence[str]) -> Vectors:
    return np.array([[1, 0], [-1, 0]], dtype=np.float32)


async def test_equal_words_agree_without_a_look_at_their_meaning() -> None:
    assert await agreement(at_right_angles, "It is  Paris.\n", "It is Paris.") == 1.0


async def test_else_the_similarity_counts_and_is_never_negative() -> None:
    assert await agreement(at_right_angles, "Paris", "London") == 0.0
    assert await agreement(opposite, "Paris", "London") == 0.0


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("4 months", "3 months", True),
        ("Mount Everest, 8849 m.", "Everest is 8849 m high, first climbed in 1953.", False),
        ("It depends.", "About 7 days.", False),
        ("1, 2", "2, 3", True),
        ("word " * 50 + "3", "4", False),
    ],
)
def test_numbers_that_cannot_both_be_meant_contradict(one: str, other: str, expected: bool) -> None:
    assert contradict(one, other) is expected
    assert contradict(other, one) is expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Yes, it is safe to take ibuprofen with alcohol.", "No, it is not safe to take ibuprofen with alcohol."),
        ("Refunds are allowed within a month.", "Refunds are not allowed within a month."),
        ("You can cancel at any time.", "You cannot cancel at any time."),
        ("We open on Monday.", "We open on Sunday."),
        ("It is legal.", "It is illegal."),
        ("It costs 5 dollars.", "It costs 7 dollars."),
    ],
)
def test_two_answers_of_which_one_denies_the_other_contradict(one: str, other: str) -> None:
    assert contradict(one, other)
    assert contradict(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Paris.", "The capital of France is Paris."),
        ("It has 1,000 rows.", "1000 rows."),
        ("You can't cancel.", "No, you cannot cancel."),
    ],
)
def test_two_answers_of_which_one_says_more_do_not(one: str, other: str) -> None:
    assert not contradict(one, other)

"""The same words in another order."""

import pytest

from services.cache.verification.alignment import align
from services.cache.verification.questions import question
from services.cache.verification.roles import reordered


def moved(one: str, other: str) -> bool:
    a, b = question(one), question(other)
    return reordered(a, b, align(a, b))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Is Ann engaged to Bob?", "Is Bob engaged to Ann?"),
        ("Is Ann dating Bob?", "Is Bob dating Ann?"),
        ("Did Ann keep the car?", "Was the car kept by Ann?"),
        ("What is the difference between cats and dogs?", "What is the difference between dogs and cats?"),
        ("Is Ann a doctor or a nurse?", "Is Ann a nurse or a doctor?"),
        ("Is Ann a Russian actor?", "Is Ann an actor and Russian?"),
        ("Are cats louder than dogs?", "What is louder, dogs or cats?"),
        ("Which laptop is best for school?", "Which is the best laptop for school?"),
        ("How do I raise website traffic?", "How do I raise the traffic of a website?"),
        ("In winter, what do bears eat?", "What do bears eat in winter?"),
        ("Compare red, green and blue", "Compare blue, red and green"),
        ("Who do fans think is the best singer?", "Who is the best singer according to fans?"),
    ],
)
def test_a_harmless_order(one: str, other: str) -> None:
    assert not moved(one, other)
    assert not moved(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Did Ann hit Bob?", "Did Bob hit Ann?"),
        ("Did Ann buy the farm?", "Was Ann bought by the farm?"),
        ("Is Ann beating Bob?", "Is Bob beating Ann?"),
        ("Are cats louder than dogs?", "Are dogs louder than cats?"),
        ("How do I fly from Rome to Oslo?", "How do I fly from Oslo to Rome?"),
        ("Why do black cats fear white dogs?", "Why do white cats fear black dogs?"),
        ("Should I sell apples and buy pears?", "Should I buy apples and sell pears?"),
        ("Do you love me?", "Do I love you?"),
        ("Does he like her?", "Does she like him?"),
        ("Can a non-smoker live with a smoker?", "Can a smoker live with a non-smoker?"),
    ],
)
def test_an_order_that_changes_who_does_what(one: str, other: str) -> None:
    assert moved(one, other)
    assert moved(other, one)

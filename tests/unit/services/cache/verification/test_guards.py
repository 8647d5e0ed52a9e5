"""Prompts that try to fool the guards; each line was written by hand."""

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache.verification.guards import FORBIDDING, objection

FOOLERS = """
numbers  | How long is three weeks?              | How long is four weeks?
numbers  | the first law of motion               | the third law of motion
numbers  | What happened on March 3, 2024?       | What happened on March 4, 2024?
units    | What weighs 5 kg?                     | What weighs 5 lb?
units    | How far is 10 km?                     | How far is 10 miles?
units    | How much is it in dollars?            | How much is it in euros?
units    | Is it 5 pm in Tokyo?                  | Is it 5 am in Tokyo?
negation | Is this mushroom edible?              | Is this mushroom inedible?
negation | Which vaccine works?                  | Which vaccine doesn't work?
negation | How do I install Python?              | How do I uninstall Python?
antonyms | How do I buy gold?                    | How do I sell gold?
antonyms | What should I eat before a run?       | What should I eat after a run?
antonyms | How do I open a long position?        | How do I open a short position?
antonyms | How do I lose weight?                 | How do I gain weight?
antonyms | What is the largest planet?           | What is the smallest planet?
antonyms | How can I become more patient?        | How can I become less patient?
antonyms | How do I encrypt a file?              | How do I decrypt a file?
names    | Who was King Henry?                   | Who was King Charles?
names    | What does a ticket to Oslo cost?      | What does a ticket to Rome cost?
question | When did the war start?               | Where did the war start?
question | How old is he?                        | How tall is he?
question | Why is it cold?                       | Is it cold?
person   | What should I call my dog?            | What should I call her dog?
tense    | Is Ann a nurse?                       | Did Ann use to be a nurse?
tense    | Is Ann a nurse?                       | Was Ann a nurse?
reference| How can I improve this poem?          | How could I improve this poem?
roles    | Did Ann hit Bob?                      | Did Bob hit Ann?
roles    | How to convert USD to EUR             | How to convert EUR to USD
content  | Is Ann a nurse?                       | Is Ann becoming a nurse?
content  | Is Ann an author?                     | Is Ann a famous author?
content  | Is Ann an author?                     | Is Ann a good author?
content  | Is that cat on the sofa?              | Is that dog on the sofa?
content  | write a poem about love               | write a story about love
content  | ¿Cómo puedo comprar acciones?         | ¿Cómo puedo vender acciones?
unreadable | 巴黎的天气怎么样                     | 伦敦的天气怎么样
""".strip().splitlines()
ALIKE = """
What is the capital of France?        | Tell me the capital of France.
Name three rivers                     | Name 3 rivers
How do I boil an egg?                 | In order to boil an egg, what should you do?
How do I purchase a car?              | how to buy a car
Is that cat hiding on the bed?        | Is that cat somehow hiding on the bed?
How do I earn with my blog?           | What is a good way to earn with your blog?
What're some plane hacks?             | What are some plane hacks?
Can I earn money online?              | Do you think I can earn money online?
巴黎的天气怎么样                        | 巴黎的天气怎么样
""".strip().splitlines()
HERE = Path(__file__).parent


def pairs(name: str) -> list[list[str]]:
    """The columns of a table beside this file; a line break in a prompt is written as in Python."""
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    return [[column.replace("\\n", "\n") for column in line.split("\t")] for line in lines]


sentences = st.lists(
    st.sampled_from(
        ["how", "why", "does", "the", "old", "cat", "not", "like", "3", "dogs", "in", "Rome", "before", "two"]
    ),
    max_size=9,
).map(" ".join)

words = st.sampled_from(["how", "many", "days", "has", "the", "long", "month", "of", "rain", "and", "wind"])
phrases = st.lists(words, min_size=1, max_size=8).map(" ".join)
numbers = st.integers(0, 10**6) | st.decimals(0, 10**4, places=2, allow_nan=False)


@pytest.mark.parametrize("line", FOOLERS)
def test_a_fooler_is_refused_for_its_reason(line: str) -> None:
    reason, one, other = (part.strip() for part in line.split("|"))
    assert objection(one, other) == reason
    assert objection(other, one) == reason


@pytest.mark.parametrize("line", ALIKE)
def test_another_wording_is_not(line: str) -> None:
    one, other = (part.strip() for part in line.split("|"))
    assert objection(one, other) is None


@given(sentences, sentences)
def test_guards_speak_for_both_directions(one: str, other: str) -> None:
    assert (objection(one, other) is None) == (objection(other, one) is None)


@given(st.text(max_size=60))
def test_a_text_never_differs_from_itself(one: str) -> None:
    assert objection(one, one) is None
    assert objection(one, f" {one} ") is None


@given(sentences, st.integers(0, 999), st.integers(0, 999))
def test_a_changed_digit_is_always_refused(text: str, one: int, other: int) -> None:
    found = objection(f"{text} {one}", f"{text} {other}")
    assert (found == "numbers") == (one != other)


@given(st.text(max_size=60), st.text(max_size=60))
def test_the_order_of_the_two_does_not_matter(one: str, other: str) -> None:
    assert objection(one, other) == objection(other, one)


@given(phrases, phrases, numbers, numbers)
def test_a_changed_number_is_always_noticed(before: str, after: str, one: Any, other: Any) -> None:
    verdict = objection(f"{before} {one} {after}", f"{before} {other} {after}")
    if float(one) != float(other):
        assert verdict == "numbers"
    elif str(one) == str(other):
        assert verdict is None


@given(phrases, numbers)
def test_a_number_that_is_gone_is_noticed(before: str, number: Any) -> None:
    assert objection(f"{before} {number}", before) == "numbers"


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
    assert objection(one, other) is None


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
        ("Tell me of Henry VII", "Tell me of Henry VIII", "numbers"),
        ("How do I use GPT4?", "How do I use GPT5?", "numbers"),
    ],
)
def test_what_differs_is_noticed_with_its_reason(one: str, other: str, reason: str) -> None:
    assert objection(one, other) == reason


@given(phrases, st.sampled_from(["not", "never", "without", "no"]))
def test_a_negation_more_is_noticed(sentence: str, negation: str) -> None:
    assert objection(sentence, f"{sentence} {negation}") == "negation"


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
    assert objection(one, other) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("meals with sugar and salt", "meals with no sugar and no salt"),
        ("should I stay or go", "should I never stay and never go"),
    ],
)
def test_two_negations_are_not_none(one: str, other: str) -> None:
    assert objection(one, other) == "negation"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Paris weather", "London weather"),
        ("France: what is its capital?", "Spain: what is its capital?"),
    ],
)
def test_names_are_noticed_wherever_they_stand(one: str, other: str) -> None:
    assert objection(one, other) == "names"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("b " * 250, "c " * 250),
        ("list c " * 125, "list d " * 125),
        ("b c " * 125, "Aa " * 250),
        ("1 " * 250, "$ " * 250),
        ("\n" * 400 + "A " * 200, "B " * 200),
        (" ".join(f"w{n}" for n in range(250)), " ".join(f"v{n}" for n in range(250))),
        ("not " * 250, "unsafe safe " * 125),
    ],
)
def test_a_strange_prompt_takes_hardly_longer_than_an_ordinary_one(one: str, other: str) -> None:
    def seconds(last: str) -> float:
        began = time.process_time()
        objection(f"{one} {last}", f"{other} {last}")
        objection(f"{other} {last}", f"{one} {last}")
        return time.process_time() - began

    # 2 to 15 ms on a quiet core; of several, as the collector may run in any of them. What is quadratic takes seconds.
    assert min(map(seconds, ("first", "second", "third"))) < 0.2


def test_prompts_that_sceptics_wrote_to_fool_it_are_refused() -> None:
    """Each was served by cosine 0.8 alone; the first column is the guard that speaks first."""
    table = pairs("foolers.tsv")
    assert len(table) > 500
    assert [(objection(one, other), one, other) for _, one, other in table] == [(*row,) for row in table]
    assert {reason for reason, *_ in table} >= FORBIDDING - {"unreadable"}


def test_their_rephrasings_are_not() -> None:
    table = pairs("rephrasings.tsv")
    assert len(table) > 100
    assert {(one, other): objection(one, other) for one, other in table} == dict.fromkeys(map(tuple, table))

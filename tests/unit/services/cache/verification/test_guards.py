"""Prompts that try to fool the guards; each line was written by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache.verification.guards import Pairing, objection

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
order    | Did Ann hit Bob?                      | Did Bob hit Ann?
order    | How to convert USD to EUR             | How to convert EUR to USD
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
sentences = st.lists(
    st.sampled_from(
        ["how", "why", "does", "the", "old", "cat", "not", "like", "3", "dogs", "in", "Rome", "before", "two"]
    ),
    max_size=9,
).map(" ".join)


@pytest.mark.parametrize("line", FOOLERS)
def test_a_fooler_is_refused_for_its_reason(line: str) -> None:
    reason, one, other = (part.strip() for part in line.split("|"))
    assert objection(Pairing(one, other)) == reason
    assert objection(Pairing(other, one)) == reason


@pytest.mark.parametrize("line", ALIKE)
def test_another_wording_is_not(line: str) -> None:
    one, other = (part.strip() for part in line.split("|"))
    assert objection(Pairing(one, other)) is None


@given(sentences, sentences)
def test_guards_speak_for_both_directions(one: str, other: str) -> None:
    assert (objection(Pairing(one, other)) is None) == (objection(Pairing(other, one)) is None)


@given(st.text(max_size=60))
def test_a_text_never_differs_from_itself(one: str) -> None:
    assert objection(Pairing(one, one)) is None
    assert objection(Pairing(one, f" {one} ")) is None


@given(sentences, st.integers(0, 999), st.integers(0, 999))
def test_a_changed_digit_is_always_refused(text: str, one: int, other: int) -> None:
    found = objection(Pairing(f"{text} {one}", f"{text} {other}"))
    assert (found == "numbers") == (one != other)

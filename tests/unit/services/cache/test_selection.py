"""Which entries an invalidation means, and for how long it is remembered."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache import selection
from services.cache.lookup import Entry
from services.cache.scope import normalised
from services.cache.selection import REMEMBERED, Forgotten, Meant, Read
from tests.support.clock import START, ManualClock
from tests.support.replica import entry, invalidation

ENTRY = entry("How tall is the Eiffel Tower in Paris?")
ids = st.integers(0, 2**128 - 1).map(lambda number: UUID(int=number))
words = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,10}", fullmatch=True)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=40).filter(str.strip)
# What a selector says of an entry, and how: the field of the entry, and another value for it.
FIELDS: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "entry_id": ("entry_id", ids),
    "scope": ("scope", ids),
    "tenant": ("tenant", words),
    "category": ("category", words),
    "model": ("model", words),
    "prompt": ("prompt", texts.map(normalised)),
}


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    changes = {field: draw(values) for field, values in FIELDS.values()}
    return entry(**changes, tier=draw(words), stored_at=START - timedelta(seconds=draw(st.integers(0, 10**9))))


def selects(of: Entry, at: Any = START, **selector: Any) -> bool:
    return Meant.by(invalidation(at, **selector), ManualClock()).covers(Read(of))


@given(entries(), st.sets(st.sampled_from(sorted(FIELDS)), min_size=1))
def test_what_an_entry_says_of_itself_selects_it(of: Entry, said: set[str]) -> None:
    assert selects(of, **{name: getattr(of, FIELDS[name][0]) for name in said})


@given(entries(), st.sets(st.sampled_from(sorted(FIELDS)), min_size=1), st.data())
def test_one_thing_that_is_not_so_and_it_is_not_selected(of: Entry, said: set[str], data: st.DataObject) -> None:
    selector = {name: getattr(of, FIELDS[name][0]) for name in said}
    wrong = data.draw(st.sampled_from(sorted(said)))
    field, values = FIELDS[wrong]
    selector[wrong] = data.draw(values.filter(lambda value: value not in (getattr(of, field), of.tier)))
    assert not selects(of, **selector)


def test_everything_is_everything_that_was_stored_by_then() -> None:
    assert selects(ENTRY)
    assert selects(ENTRY, ENTRY.stored_at)


@given(st.integers(0, 10**12))
def test_what_was_stored_after_an_invalidation_stays(after_us: int) -> None:
    later = replace(ENTRY, stored_at=START + timedelta(microseconds=1 + after_us))
    assert not selects(later)
    assert not selects(later, entry_id=later.entry_id)


def test_everything_with_another_condition_is_what_meets_that_condition() -> None:
    assert not selects(ENTRY, everything=True, tenant="other")


def test_a_model_is_meant_by_its_name_or_by_its_tier() -> None:
    assert selects(ENTRY, model="local/tiny")
    assert selects(ENTRY, model="light")
    assert not selects(ENTRY, model="local")


@pytest.mark.parametrize("prompt", [ENTRY.prompt, f"  {ENTRY.prompt}\n"])
def test_a_prompt_is_the_very_prompt_as_the_cache_keeps_it(prompt: str) -> None:
    assert selects(ENTRY, prompt=prompt)
    assert not selects(ENTRY, prompt=prompt.lower())


@pytest.mark.parametrize(
    ("topic", "selected"),
    [
        ("Eiffel", True),
        ("eiffel PARIS", True),
        ("paris, eiffel!", True),
        ("Eiff", False),
        ("Eiffel Berlin", False),
        ("...", False),
        ("_", False),
    ],
)
def test_a_topic_is_all_of_its_words_in_any_case_and_order(topic: str, *, selected: bool) -> None:
    assert selects(ENTRY, topic=topic) == selected


def test_a_topic_without_a_word_means_nothing_and_not_everything() -> None:
    assert not selects(entry("?!"), topic="?!")


def test_a_topic_is_read_in_the_form_that_prompts_are_kept_in() -> None:
    assert selects(entry("Où est le café?"), topic="cafe\N{COMBINING ACUTE ACCENT}")


def test_words_are_compared_by_their_first_hundred_characters_as_in_the_table() -> None:
    assert selects(entry("x" * 120), topic="x" * 110)


@given(texts, st.integers(0, 5))
def test_each_word_of_a_prompt_is_a_topic_of_it(prompt: str, place: int) -> None:
    found = "".join(c if c.isalnum() else " " for c in normalised(prompt)).split()
    if found:
        assert selects(entry(normalised(prompt)), topic=found[place % len(found)])


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_older_than_counts_from_the_invalidation(age_s: int, older_than_s: int) -> None:
    old = entry(stored_at=START - timedelta(seconds=age_s))
    assert selects(old, older_than_s=older_than_s) == (age_s >= older_than_s)


def test_what_is_younger_than_ten_years_is_not_older_than_that() -> None:
    assert not selects(ENTRY, older_than_s=315_360_000)


def test_the_forgotten_are_those_of_any_invalidation() -> None:
    forgotten = Forgotten(ManualClock())
    assert ENTRY not in forgotten
    forgotten.remember(invalidation(tenant="acme"))
    forgotten.remember(invalidation(tenant="other"))
    assert ENTRY in forgotten
    assert replace(ENTRY, tenant="third") not in forgotten


def test_an_invalidation_is_remembered_as_long_as_old_answers_may_be_on_their_way_from_when_it_was_heard() -> None:
    clock = ManualClock()
    forgotten = Forgotten(clock)
    forgotten.remember(invalidation(START - timedelta(seconds=30), tenant="acme"))
    clock.skip(REMEMBERED.total_seconds())
    forgotten.remember(invalidation(clock.now(), tenant="other"))
    assert ENTRY in forgotten
    clock.skip(1)
    forgotten.remember(invalidation(clock.now(), tenant="other"))
    assert ENTRY not in forgotten


def test_an_invalidation_from_the_future_counts_from_now() -> None:
    forgotten = Forgotten(ManualClock())
    (meant,) = forgotten.remember(invalidation(START + timedelta(days=1)))
    assert meant.at == START
    assert replace(ENTRY, stored_at=START + timedelta(seconds=1)) not in forgotten
    assert ENTRY in forgotten


def test_an_invalidation_that_is_heard_again_is_remembered_once() -> None:
    forgotten = Forgotten(ManualClock())
    said = invalidation(tenant="acme")
    assert forgotten.remember(said) == forgotten.remember(said)
    assert len(forgotten._known) == 1


def test_words_are_looked_for_once_however_many_topics_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten = Forgotten(ManualClock())
    for number in range(50):
        forgotten.remember(invalidation(topic=f"topic {number}"))
    split: list[str] = []
    words_of = selection._words

    def counted(text: str) -> frozenset[str]:
        split.append(text)
        return words_of(text)

    monkeypatch.setattr(selection, "_words", counted)
    assert ENTRY not in forgotten
    assert split == [ENTRY.prompt]


def test_a_long_prompt_is_not_kept_in_memory() -> None:
    forgotten = Forgotten(ManualClock())
    (meant,) = forgotten.remember(invalidation(prompt="x" * 500_000))
    assert meant.said.prompt is None
    assert replace(ENTRY, prompt="x" * 500_000) in forgotten


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Forgotten:
    """Remembers three at the most."""
    monkeypatch.setattr(selection, "MOST_REMEMBERED", 3)
    return Forgotten(ManualClock())


def test_where_too_many_are_remembered_all_of_the_tenant_with_the_most_is_forgotten(few: Forgotten) -> None:
    few.remember(invalidation(tenant="other", model="elsewhere"))
    for minutes in (5, 4, 3):
        found = few.remember(invalidation(START - timedelta(minutes=minutes), tenant="acme", model="elsewhere"))
    assert [each.covers(Read(ENTRY)) for each in found] == [False, False]
    old = replace(ENTRY, stored_at=START - timedelta(minutes=3))
    assert [each.covers(Read(old)) for each in found] == [False, True]
    assert old in few
    assert ENTRY not in few
    assert replace(old, tenant="other") not in few
    assert len(few._known) == 2


def test_where_too_many_are_about_single_entries_the_first_is_remembered_no_more(few: Forgotten) -> None:
    said = [entry() for _ in range(4)]
    for each in said:
        few.remember(invalidation(entry_id=each.entry_id))
    assert [each in few for each in said] == [False, True, True, True]


def test_where_too_many_are_about_all_tenants_everything_is_forgotten(few: Forgotten) -> None:
    for number in range(4):
        few.remember(invalidation(model=str(number)))
    assert replace(ENTRY, tenant="any") in few

"""Whose turn it is."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from shared.turns import BULK, BULK_EVERY, INTERACTIVE, Turns

ITEMS = st.lists(st.tuples(st.sampled_from((INTERACTIVE, BULK)), st.sampled_from("abc"), st.booleans()))


def waiting(*lines: tuple[str, str, int]) -> Turns[str]:
    """Turns with so many of a priority and tenant, named by tenant and number."""
    turns: Turns[str] = Turns()
    for priority, tenant, count in lines:
        for number in range(count):
            turns.add(f"{tenant}{number}", priority, tenant, aside=False)
    return turns


def order(turns: Turns[str]) -> list[str]:
    return list(iter(turns.next, None))


def test_tenants_take_turns_however_many_each_has() -> None:
    assert order(waiting((INTERACTIVE, "a", 4), (INTERACTIVE, "b", 2))) == ["a0", "b0", "a1", "b1", "a2", "a3"]


def test_who_comes_late_is_next_but_one() -> None:
    turns = waiting((INTERACTIVE, "a", 10_000))
    turns.next()
    turns.add("b0", INTERACTIVE, "b", aside=False)
    assert [turns.next(), turns.next()] == ["a1", "b0"]


def test_interactive_requests_come_first_but_bulk_gets_one_in_ten() -> None:
    found = order(waiting((INTERACTIVE, "a", 30), (BULK, "b", 30)))
    places = [place for place, name in enumerate(found[:33]) if name.startswith("b")]
    assert places == [9, 19, 29]
    assert BULK_EVERY == 10
    assert len(found) == 60


def test_bulk_that_comes_later_has_saved_up_no_turns() -> None:
    turns = waiting((INTERACTIVE, "a", 50))
    for _ in range(20):
        turns.next()
    turns.add("b0", BULK, "b", aside=False)
    assert [turns.next() for _ in range(10)].index("b0") == 9


def test_what_was_set_aside_before_is_older_than_what_was_not() -> None:
    turns: Turns[str] = Turns()
    turns.add("new", INTERACTIVE, "a", aside=False)
    turns.add("old", INTERACTIVE, "a", aside=True)
    assert order(turns) == ["old", "new"]


def names(excess: Iterable[tuple[str, str, str]]) -> list[str]:
    return [item for item, _, _ in excess]


def test_who_has_many_waiting_is_set_aside_in_order_and_the_others_stay() -> None:
    turns = waiting((INTERACTIVE, "a", 3), (INTERACTIVE, "b", 2))
    assert list(turns.excess(2)) == [(f"a{n}", INTERACTIVE, "a") for n in range(3)]
    assert order(turns) == ["b0", "b1"]


def test_who_has_some_set_aside_already_gets_the_rest_behind_them() -> None:
    turns = waiting((INTERACTIVE, "a", 1))
    turns.add("old", INTERACTIVE, "a", aside=True)
    assert names(turns.excess(5)) == ["a0"]
    assert order(turns) == ["old"]


def test_bulk_of_many_tenants_is_in_the_way_as_that_of_one_is() -> None:
    turns = waiting((BULK, "a", 1), (BULK, "b", 1), (BULK, "c", 1), (INTERACTIVE, "d", 1))
    assert names(turns.excess(2)) == ["a0", "b0", "c0"]
    assert order(turns) == ["d0"]


@given(ITEMS, st.integers(0, 5))
def test_everything_gets_its_turn_or_is_taken_out_once(items: list[tuple[str, str, bool]], most: int) -> None:
    turns: Turns[int] = Turns()
    for number, (priority, tenant, aside) in enumerate(items):
        turns.add(number, priority, tenant, aside=aside)
    out = [item for item, _, _ in turns.excess(most)]
    assert not any(items[number][2] for number in out)
    some = [turns.next()] if len(out) < len(items) else []
    assert sorted([*out, *some, *turns.drain()]) == list(range(len(items)))  # type: ignore[type-var]
    assert turns.next() is None

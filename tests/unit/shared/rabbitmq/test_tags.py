"""Which deliveries are acknowledged, and in how many frames."""

from hypothesis import given
from hypothesis import strategies as st

from shared.rabbitmq.tags import Tags


def tags(count: int) -> Tags:
    """So many deliveries came."""
    found = Tags()
    for tag in range(1, count + 1):
        found.came(tag)
    return found


def test_all_that_is_done_from_the_oldest_on_is_one_frame() -> None:
    some = tags(5)
    some.done([3, 1, 2])
    assert some.to_ack() == (3, [])


def test_what_is_done_behind_one_that_is_not_is_told_alone() -> None:
    some = tags(5)
    some.done([2, 4, 1])
    assert some.to_ack() == (2, [4])
    some.done([3])
    assert some.to_ack() == (3, [])  # 4 is settled already, and only 5 is open
    some.done([5])
    assert some.to_ack() == (5, [])


def test_what_was_handed_back_holds_nothing_up() -> None:
    some = tags(3)
    some.returned([1])
    some.done([2])
    assert some.to_ack() == (2, [])


def test_nothing_done_is_nothing_told() -> None:
    assert tags(3).to_ack() == (None, [])


def test_what_is_told_is_forgotten_while_an_older_one_takes_its_time() -> None:
    some = tags(1)
    for tag in range(2, 100):
        some.came(tag)
        some.done([tag])
        assert some.to_ack() == (None, [tag])
    assert len(some) == 1


def test_there_is_one_answer_for_each() -> None:
    some = tags(2)
    some.done([2, 2])
    some.done([2])
    assert some.returned([1, 2]) == [1]
    assert some.to_ack() == (2, [])
    some.done([1, 2])
    assert some.to_ack() == (None, [])


@given(st.data())
def test_each_is_settled_once_and_none_that_is_under_way(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 30))
    order = data.draw(st.permutations(range(1, count + 1)))
    back = data.draw(st.sets(st.sampled_from(order)))
    some, unsettled, finished = tags(count), set(range(1, count + 1)), set[int]()
    while order:
        part = [order.pop() for _ in range(min(len(order), data.draw(st.integers(1, 5))))]
        some.returned(tag for tag in part if tag in back)
        some.done(tag for tag in part if tag not in back)
        unsettled -= back & set(part)
        finished |= set(part)
        upto, single = some.to_ack()
        told = {tag for tag in unsettled if upto is not None and tag <= upto} | set(single)
        assert len(set(single)) == len(single)
        assert set(single) <= unsettled
        assert told <= finished
        unsettled -= told
    assert not unsettled

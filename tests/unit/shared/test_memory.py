"""The routing of the broker in memory; the rest of it is held to the contract suite."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import BrokerUnavailable, TopologyConflict, Unroutable
from shared.memory import MemoryBroker, matches
from shared.topology import ACCEPTED, RECORDS, Queue, Topology
from tests.support import make
from tests.support.clock import ManualClock

words = st.text("abc", min_size=1, max_size=3)
keys = st.lists(words, min_size=1, max_size=5).map(".".join)
patterns = st.lists(words | st.sampled_from("*#"), min_size=1, max_size=5).map(".".join)


def as_expression(pattern: str) -> str:
    """The same pattern as a regular expression over words that each end with a dot."""
    parts = {"*": r"[^.]+\.", "#": r"(?:[^.]+\.)*"}
    return "".join(parts.get(word, re.escape(word) + r"\.") for word in pattern.split("."))


@given(patterns, keys)
def test_patterns_mean_what_they_mean_in_rabbitmq(pattern: str, key: str) -> None:
    assert matches(pattern, key) == bool(re.fullmatch(as_expression(pattern), key + "."))


@given(keys)
def test_a_key_matches_itself_and_everything(key: str) -> None:
    assert matches(key, key)
    assert matches("#", key)
    assert matches(f"{key}.#", key)
    assert not matches(f"{key}.*", key)


@given(keys, st.integers(1, 6))
def test_stars_count_words(key: str, stars: int) -> None:
    assert matches(".".join("*" * stars), key) == (stars == len(key.split(".")))


async def test_nothing_is_published_while_the_broker_is_away() -> None:
    broker = MemoryBroker()
    await broker.declare(Topology((), (RECORDS,)))
    broker.connected = False
    with pytest.raises(BrokerUnavailable):
        await broker.publish([make.message(make.accepted())])
    assert broker.depth(RECORDS.name) == 0


async def test_a_message_nobody_takes_is_an_error_only_if_it_is_mandatory() -> None:
    broker = MemoryBroker()
    with pytest.raises(Unroutable):
        await broker.publish([make.message(make.accepted())])
    await broker.publish([make.message(make.accepted(), mandatory=False)])


async def test_a_queue_declared_as_something_else_is_a_conflict() -> None:
    broker = MemoryBroker()
    await broker.declare(Topology((), (RECORDS,)))
    with pytest.raises(TopologyConflict, match=RECORDS.name):
        await broker.declare(Topology((), (Queue(RECORDS.name, (), dead_letters=True),)))


async def test_what_is_parked_comes_back_in_order_though_the_broker_is_out_of_reach() -> None:
    clock = ManualClock()
    broker = MemoryBroker(clock=clock)
    (parking,) = ACCEPTED.parking
    await broker.declare(Topology((), (ACCEPTED, parking)))
    for body in (b"1", b"2"):
        await broker.publish([make.message(make.accepted(), exchange="", routing_key=parking.name, body=body)])
        await clock.advance(1.5)
    broker.connected = False
    assert [[one.body for one in broker.peek(queue.name)] for queue in (ACCEPTED, parking)] == [[b"1"], [b"2"]]
    await clock.advance(0.5)
    assert [one.body for one in broker.peek(ACCEPTED.name)] == [b"1", b"2"]

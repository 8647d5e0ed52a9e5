"""The routing of the broker in memory; the rest of it is held to the contract suite."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import BrokerUnavailable, TopologyConflict, Unroutable
from shared.memory import MemoryBroker, matches
from shared.topology import RECORDS, Queue, Topology
from tests.support import make

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

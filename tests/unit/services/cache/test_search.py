"""Searching: what is asked of the embedder and of the table, how often, and what becomes of their absence."""

import asyncio
from typing import Any, cast

import numpy as np
import pytest

from services.cache.lookup import Asked
from services.cache.search import Found, Search
from shared.errors import BrokerUnavailable
from tests.support import make
from tests.support.clock import ManualClock
from tests.support.replica import FakeEmbedder, FakeLookup, entry, near, vector


class Searching:
    """A search, and those it asks."""

    def __init__(self) -> None:
        self.embedder, self.lookup = FakeEmbedder({"a": 0.1, "b": 0.2}), FakeLookup()
        self.clock = ManualClock()
        self.search = Search(self.embedder, cast("Any", self.lookup), self.clock, max_prompt_chars=20)


@pytest.fixture
def searching() -> Searching:
    return Searching()


async def test_it_finds_the_entry_of_the_same_prompt_and_embeds_nothing(searching: Searching) -> None:
    searching.lookup.exact = entry("a")
    assert await searching.search(make.key("a")) == Found(None, exact=searching.lookup.exact)
    (prompt,) = searching.lookup.prompts
    assert (prompt.scope, prompt.exact) == (make.key("a").scope, make.key("a").exact)
    assert (searching.embedder.embedded, searching.lookup.asked) == ([], [])


async def test_an_entry_of_the_same_prompt_that_is_of_no_use_is_looked_past(searching: Searching) -> None:
    searching.lookup.exact, searching.lookup.nearest = entry("a"), [near()]
    found = await searching.search(make.key("a"), lambda each: each is not searching.lookup.exact)
    assert found.vector is not None
    assert (found.exact, found.near, found.trouble) == (None, searching.lookup.nearest, "")


async def test_it_finds_the_nearest_by_the_vector_of_the_prompt(searching: Searching) -> None:
    searching.lookup.nearest = [near()]
    found = await searching.search(make.key("a"))
    assert (found.exact, found.near, found.trouble) == (None, searching.lookup.nearest, "")
    assert found.vector is not None
    assert np.array_equal(found.vector, vector(0.1))
    (asked,) = searching.lookup.asked
    assert asked.scope == make.key().scope
    assert asked.vector is found.vector


async def test_many_at_once_share_a_batch_and_its_round_trips(searching: Searching) -> None:
    batches: list[int] = []
    same, nearest = searching.lookup.same, searching.lookup.near

    async def counted(asked: Any, now: Any) -> Any:
        batches.append(len(asked))
        await asyncio.sleep(0)
        return await (nearest if isinstance(asked[0], Asked) else same)(asked, now)

    searching.lookup.same = searching.lookup.near = counted  # type: ignore[method-assign, assignment]
    found = await asyncio.gather(*(searching.search(make.key(prompt)) for prompt in "ab" * 10))
    assert sum(batches) == 2 * 20
    assert len(batches) <= 2 * 3
    assert [np.array_equal(each.vector, vector(0.1)) for each in found if each.vector is not None] == [True, False] * 10


async def test_a_long_prompt_is_not_embedded(searching: Searching) -> None:
    assert await searching.search(make.key("x" * 21)) == Found(None, trouble="too long to be matched by meaning")
    assert (searching.embedder.embedded, searching.lookup.asked) == ([], [])
    assert len(searching.lookup.prompts) == 1
    assert (await searching.search.embedded(make.key("x" * 20, embedding=None))).embedding is not None


async def test_a_prompt_the_model_reads_in_part_only_has_no_vector(searching: Searching) -> None:
    searching.embedder.refused = {"a"}
    assert await searching.search(make.key("a")) == Found(None, trouble="too long to be matched by meaning")
    assert searching.lookup.asked == []


async def test_while_the_embedder_is_away_the_same_prompt_is_found_all_the_same(searching: Searching) -> None:
    searching.embedder.error = BrokerUnavailable("any error of ours")
    assert await searching.search(make.key("a")) == Found(None, trouble="the embedder is away")
    searching.lookup.exact = entry("a")
    assert (await searching.search(make.key("a"))).exact is searching.lookup.exact
    assert (await searching.search.embedded(make.key("a", embedding=None))).embedding is None


async def test_where_the_table_is_away_the_vector_stays(searching: Searching) -> None:
    searching.lookup.away = True
    found = await searching.search(make.key("a"))
    assert found.vector is not None
    assert (found.exact, found.near, found.trouble) == (None, (), "the cache cannot be read")


async def test_what_is_no_error_of_ours_is_not_hidden(searching: Searching) -> None:
    searching.embedder.error = ValueError("a mistake")
    with pytest.raises(ValueError, match="a mistake"):
        await searching.search(make.key("a"))


def test_its_version_is_the_embedders(searching: Searching) -> None:
    assert searching.search.embedder_version == "fake/1"


async def test_a_database_that_does_not_answer_is_left_alone_for_a_moment(searching: Searching) -> None:
    searching.lookup.away = True
    assert (await searching.search(make.key("a"))).trouble == "the cache cannot be read"
    asked = len(searching.lookup.prompts)
    searching.lookup.away, searching.lookup.exact = False, entry("a")
    assert (await searching.search(make.key("a"))).trouble == "the cache cannot be read"
    assert len(searching.lookup.prompts) == asked
    searching.clock.skip(2)
    assert (await searching.search(make.key("a"))).exact is searching.lookup.exact

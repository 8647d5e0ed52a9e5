"""Answers that are brought along: under which key, for how long, and which are refused."""

from typing import Any

import pytest

from shared.errors import BrokerUnavailable, UndecodableMessage
from shared.events import CacheFilled, CacheWarm, ResponseCompleted
from shared.vectors import decode_vector
from tests.support import make
from tests.support.clock import START
from tests.support.replica import PROMPT, Replica, vector


def warm(**changes: Any) -> CacheWarm:
    fields = {"request": make.request(PROMPT), "output_text": "Paris.", "tier": "light", "cost_usd": 0.5}
    return CacheWarm.model_validate(fields | changes)


async def brought(replica: Replica, event: CacheWarm) -> CacheFilled:
    (filled,) = await replica.warming.brought(event)
    assert isinstance(filled, CacheFilled)
    return filled


async def test_an_answer_that_is_brought_along_becomes_an_entry() -> None:
    replica = Replica({PROMPT: 0.3})
    event = warm(answered_by="a person")
    filled = await brought(replica, event)
    assert (filled.entry_id, filled.tenant, filled.origin) == (event.request.id, "acme", "warm")
    assert (filled.output_text, filled.model, filled.tier, filled.cost_usd) == ("Paris.", "a person", "light", 0.5)
    assert filled.completed_at == START
    key = replica.handler.key(event.request)
    assert filled.key.model_copy(update={"embedding": None}) == key
    assert filled.key.embedding is not None
    assert decode_vector(filled.key.embedding) == pytest.approx(vector(0.3), abs=1e-3)


async def test_it_is_served_once_it_was_heard_of() -> None:
    replica = Replica()
    await replica.hear(await brought(replica, warm()))
    (event,) = await replica.ask(make.request(PROMPT))
    assert isinstance(event, ResponseCompleted)
    assert (event.output_text, event.saved_usd) == ("Paris.", 0.5)


async def test_it_is_kept_as_long_as_its_category_says() -> None:
    replica = Replica()
    assert (await brought(replica, warm())).freshness == make.freshness(
        category="static", ttl_s=7 * 86_400, reason="brought along"
    )
    dynamic = (await brought(replica, warm(category="dynamic"))).freshness
    assert (dynamic.category, dynamic.ttl_s) == ("dynamic", 900)


async def test_a_category_nobody_knows_is_a_mistake_that_names_those_there_are() -> None:
    with pytest.raises(UndecodableMessage, match="'weekly'; known: dynamic, static, slow"):
        await Replica().warming.brought(warm(category="weekly"))


async def test_those_of_a_pool_share_what_one_of_them_brought() -> None:
    replica = Replica(pools={"both": ["acme", "other"]})
    await replica.hear(await brought(replica, warm()))
    (event,) = await replica.ask(make.request(PROMPT, tenant="other"))
    assert isinstance(event, ResponseCompleted)


async def test_while_the_embedder_is_away_it_is_brought_for_the_same_prompt() -> None:
    replica = Replica()
    replica.embedder.error = BrokerUnavailable("any error of ours")
    assert (await brought(replica, warm())).key.embedding is None


async def test_brought_twice_it_is_the_same_entry() -> None:
    replica = Replica()
    event = warm()
    assert await brought(replica, event) == await brought(replica, event)

"""Telling over HTTP that a topic trends, or has settled."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from services.ingest.admission import Admission
from services.ingest.cache_door import CacheDoor
from services.ingest.entries import Entries
from services.ingest.http_door import HttpDoor, application
from services.ingest.identity import Identities
from services.ingest.intake import Intake
from services.ingest.rating_door import RatingDoor
from services.ingest.results import Results
from services.ingest.topic_door import TopicDoor
from shared import envelope
from shared.clock import Clock
from shared.errors import BrokerUnavailable
from shared.events import Event, TopicSettled, TopicTrending
from shared.topology import CACHE_EVENTS
from tests.support import make
from tests.support.broker import WatchedBroker
from tests.support.clock import START, ManualClock
from tests.support.pool import FakePool


class House:
    """The door with everything behind it."""

    def __init__(self) -> None:
        self.broker = WatchedBroker()
        self.clock: Clock = ManualClock()
        self.stopping = asyncio.Event()
        pool = FakePool()
        results, identities = Results(pool.as_pool, keep=100), Identities("a secret")
        intake = Intake(make.policy(), self.clock, max_body_bytes=1000)
        admission = Admission(make.policy(), self.broker, self.clock)
        http = HttpDoor(intake, identities, results, admission, self, max_wait_s=5)
        cache = CacheDoor(intake, identities, results, Entries(pool.as_pool), self)
        ratings = RatingDoor(intake, identities, results, self)
        app = application(http, cache, TopicDoor(intake, self), ratings, "1.0")
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")

    async def tell(self, body: object, tenant: str = "acme") -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.client.post("/v1/topics", content=content, headers={"Forebay-Tenant": tenant})

    def events(self) -> list[Event]:
        return [envelope.decode(message) for message in self.broker.published]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    async with house.client, house.broker.subscribe(CACHE_EVENTS, prefetch=10):
        yield house


async def test_a_topic_is_announced_for_the_tenant_alone(house: House) -> None:
    response = await house.tell({"terms": ["Opening hours"], "trending": True, "for": "2h", "reason": "May"})
    assert response.status_code == 202
    (event,) = house.events()
    assert event == TopicTrending(
        terms=("Opening hours",),
        tenant="acme",
        origin="told",
        reason="May",
        since=START,
        until=START + timedelta(hours=2),
    )
    assert response.json() == {
        "object": "topic",
        "topic_id": str(event.subject),
        "terms": ["Opening hours"],
        "trending": True,
        "until": "2026-01-02T05:04:05Z",
    }


async def test_an_hour_is_meant_where_nothing_is_said_and_seconds_will_do(house: House) -> None:
    await house.tell({"terms": ["tea"]})
    await house.tell({"terms": ["tea"], "for": 90})
    until = [event.until - START for event in house.events() if isinstance(event, TopicTrending)]
    assert until == [timedelta(hours=1), timedelta(seconds=90)]


async def test_the_same_topic_settles_however_it_is_spelt(house: House) -> None:
    trending = (await house.tell({"terms": ["world cup", "finals"]})).json()
    settled = await house.tell({"terms": ["Final", "Cup World"], "trending": False})
    assert (settled.status_code, settled.json()["until"]) == (202, None)
    assert settled.json()["topic_id"] == trending["topic_id"]
    event = house.events()[-1]
    assert isinstance(event, TopicSettled)
    assert (event.tenant, event.origin, event.settled_at) == ("acme", "told", START)
    assert (await house.tell({"terms": ["world cup", "finals"]}, "beta")).json()["topic_id"] != trending["topic_id"]


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        (b"nonsense", "", "Invalid JSON"),
        ({}, "/terms", "Field required"),
        ({"terms": []}, "/terms", "at least 1 item"),
        ({"terms": ["the"]}, "/terms/0", "has no word that tells some prompts from others"),
        ({"terms": ["tea", "a\x00"]}, "/terms/1", "NUL"),
        ({"terms": ["x" * 201]}, "/terms/0", "at most 200"),
        ({"terms": [f"tea{n}" for n in range(51)]}, "/terms", "at most 50 items"),
        ({"terms": "tea"}, "/terms", "valid array"),
        ({"terms": ["tea"], "for": "soon"}, "/for", "write seconds as a number, or text such as '15m'"),
        ({"terms": ["tea"], "for": 0}, "/for", "greater than or equal to 1"),
        ({"terms": ["tea"], "for": "8d"}, "/for", "less than or equal to 604800"),
        ({"terms": ["tea"], "trending": "yes"}, "/trending", "valid boolean"),
        ({"terms": ["tea"], "trending": False, "for": "1h"}, "", "only with a topic that is trending"),
        ({"terms": ["tea"], "reason": "a\x00"}, "/reason", "NUL"),
        ({"terms": ["tea"], "tenant": "beta"}, "/tenant", "Extra inputs"),
        ({"terms": ["tea"], "lasting": 5}, "/lasting", "Extra inputs"),
    ],
    ids=repr,
)
async def test_what_is_wrong_is_a_problem_and_nothing_is_published(
    house: House, body: Any, pointer: str, detail: str
) -> None:
    response = await house.tell(body)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    found = response.json()
    assert (found.get("pointer", ""), detail in found["detail"]) == (pointer, True), found
    assert house.events() == []


async def test_without_the_broker_s_confirm_nothing_is_promised(house: House) -> None:
    house.broker.failures = [BrokerUnavailable("no confirm")]
    assert (await house.tell({"terms": ["tea"]})).status_code == 503
    assert (await house.tell({"terms": ["tea"]}, "A B")).status_code == 400
    assert (await house.tell({"terms": ["tea"], "reason": "x" * 1000})).status_code == 413


@pytest.mark.parametrize("trending", [True, False])
async def test_it_is_promised_only_where_somebody_heard_it(trending: bool) -> None:
    house = House()
    async with house.client:
        assert (await house.tell({"terms": ["tea"], "trending": trending})).is_error
        async with house.broker.subscribe(CACHE_EVENTS, prefetch=10):
            assert (await house.tell({"terms": ["tea"], "trending": trending})).status_code == 202
    assert [message.mandatory for message in house.broker.published] == [True]


async def test_the_api_describes_this_call_too(house: House) -> None:
    document = (await house.client.get("/openapi.json")).json()
    body = document["paths"]["/v1/topics"]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    schema = document["components"]["schemas"][body.rsplit("/", 1)[-1]]
    assert schema["examples"]
    assert "told for everybody" in schema["properties"]["trending"]["description"]

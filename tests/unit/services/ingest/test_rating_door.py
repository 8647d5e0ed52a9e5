"""Saying over HTTP how good an answer was."""

import asyncio
import json
from collections.abc import AsyncIterator

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
from shared.events import RequestRated, ResponseCompleted
from tests.support import make
from tests.support.broker import WatchedBroker
from tests.support.clock import START, ManualClock
from tests.support.pool import FakePool


class House:
    """The door with everything behind it."""

    def __init__(self, broker: WatchedBroker) -> None:
        self.broker = broker
        self.pool = FakePool()
        self.clock: Clock = ManualClock()
        self.stopping = asyncio.Event()
        self.results, self.identities = Results(self.pool.as_pool, keep=100), Identities("a secret")
        intake = Intake(make.policy(), self.clock, max_body_bytes=1000)
        admission = Admission(make.policy(), broker, self.clock)
        http = HttpDoor(intake, self.identities, self.results, admission, self, max_wait_s=5)
        cache = CacheDoor(intake, self.identities, self.results, Entries(self.pool.as_pool), self)
        ratings = RatingDoor(intake, self.identities, self.results, self)
        app = application(http, cache, TopicDoor(intake, self), ratings, "1.0")
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")

    async def rate(self, request_id: object, body: object, tenant: str = "acme") -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Forebay-Tenant": tenant}
        return await self.client.post(f"/v1/requests/{request_id}/rating", content=content, headers=headers)

    async def answered(self) -> ResponseCompleted:
        """A result of the tenant ``acme`` that has been heard."""
        result = make.completed()
        await self.results.heard(result)
        return result

    def ratings(self) -> list[RequestRated]:
        """What was published; nothing else may be."""
        events = [envelope.decode(message) for message in self.broker.published]
        ratings = [event for event in events if isinstance(event, RequestRated)]
        assert len(ratings) == len(events)
        return ratings


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House(await WatchedBroker.ready())
    async with house.client:
        yield house


async def test_a_rating_is_published_in_the_name_of_the_tenant(house: House) -> None:
    result = await house.answered()
    response = await house.rate(result.request_id, {"quality": 0.25, "comment": "too long"})
    assert response.status_code == 202
    (rated,) = house.ratings()
    assert (rated.request_id, rated.tenant, rated.quality, rated.comment) == (
        *(result.request_id, "acme", 0.25, "too long"),
    )
    assert rated.rated_at == START
    assert response.json() == {
        "object": "rating",
        "rating_id": str(rated.rating_id),
        "request_id": str(result.request_id),
        "quality": 0.25,
        "rated_at": "2026-01-02T03:04:05Z",
    }


async def test_each_word_is_one_of_its_own(house: House) -> None:
    result = await house.answered()
    for quality in (0, 1):
        assert (await house.rate(result.request_id, {"quality": quality})).status_code == 202
    first, second = house.ratings()
    assert first.rating_id != second.rating_id
    assert [first.quality, second.quality] == [0.0, 1.0]


async def test_the_answer_may_be_known_from_its_row_alone(house: House) -> None:
    event = make.completed()
    house.pool.rows = [
        {"digest": "d", "replay": 0, "status": "completed", "body": event.model_dump_json(exclude={"key"})}
    ]
    assert (await house.rate(event.request_id, {"quality": 1})).status_code == 202


async def test_made_up_ids_and_those_of_others_are_404(house: House) -> None:
    result = await house.answered()
    for request_id, tenant in ((make.new_id(), "acme"), ("nonsense", "acme"), (result.request_id, "globex")):
        response = await house.rate(request_id, {"quality": 1}, tenant)
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert house.ratings() == []


async def test_without_an_answer_there_is_nothing_to_rate(house: House) -> None:
    response = await house.rate(house.identities.new("acme", START), {"quality": 1})
    assert (response.status_code, response.json()["detail"]) == (409, "this request has no answer yet")
    failed = make.failed()
    await house.results.heard(failed)
    response = await house.rate(failed.request_id, {"quality": 1})
    assert response.status_code == 409
    assert "given no answer: rate_limited" in response.json()["detail"]
    assert house.ratings() == []


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"nonsense", ""),
        ({}, "/quality"),
        ({"quality": 1.01}, "/quality"),
        ({"quality": -0.01}, "/quality"),
        ({"quality": "1"}, "/quality"),
        ({"quality": True}, "/quality"),
        (b'{"quality": NaN}', "/quality"),
        ({"quality": 1, "comment": "a\x00"}, "/comment"),
        ({"quality": 1, "comment": "a" * 401}, "/comment"),
        ({"quality": 1, "tenant": "globex"}, "/tenant"),
    ],
    ids=repr,
)
async def test_what_is_wrong_is_a_problem_and_nothing_is_published(house: House, body: object, pointer: str) -> None:
    result = await house.answered()
    response = await house.rate(result.request_id, body)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json().get("pointer", "") == pointer
    assert house.ratings() == []


async def test_without_the_broker_s_confirm_nothing_is_promised(house: House) -> None:
    result = await house.answered()
    house.broker.failures = [BrokerUnavailable("no confirm")]
    assert (await house.rate(result.request_id, {"quality": 1})).status_code == 503


async def test_the_api_describes_this_call_too(house: House) -> None:
    document = (await house.client.get("/openapi.json")).json()
    call = document["paths"]["/v1/requests/{request_id}/rating"]["post"]
    body = call["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    assert document["components"]["schemas"][body.rsplit("/", 1)[-1]]["examples"]
    assert {"202", "404", "409"} <= set(call["responses"])

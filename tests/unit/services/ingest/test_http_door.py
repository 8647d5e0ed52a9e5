"""The HTTP door, from the outside."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

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
from shared.errors import BrokerUnavailable, PublishRefused, Unroutable
from shared.events import CacheControl, Priority, Request, RequestAccepted, RequestCancelled
from shared.policy import Policy
from shared.topology import CANCELLATIONS
from tests.support import make
from tests.support.broker import WatchedBroker
from tests.support.brownout import aged
from tests.support.clock import START, ManualClock, settled
from tests.support.pool import FakePool

HELLO = {"input": "hello"}


class House:
    """The door with everything behind it."""

    def __init__(self, broker: WatchedBroker, policy: Policy, max_wait_s: float) -> None:
        self.broker = broker
        self.pool = FakePool()
        self.hands = ManualClock()
        self.clock: Clock = self.hands
        self.admission = Admission(policy, broker, self.clock)
        self.results = Results(self.pool.as_pool, keep=100, follow=self.admission.finished)
        self.identities = Identities("a secret")
        intake = Intake(policy, self.clock, max_body_bytes=1000)
        self.stopping = asyncio.Event()
        self.door = HttpDoor(intake, self.identities, self.results, self.admission, self, max_wait_s=max_wait_s)
        self.cache = CacheDoor(intake, self.identities, self.results, Entries(self.pool.as_pool), self)
        ratings = RatingDoor(intake, self.identities, self.results, self)
        self.app = application(self.door, self.cache, TopicDoor(intake, self), ratings, "1.0")
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://test")

    def accepted(self) -> list[Request]:
        """The requests that were published."""
        events = [envelope.decode(message) for message in self.broker.published]
        return [event.request for event in events if isinstance(event, RequestAccepted)]

    async def post(self, body: object = HELLO, **headers: str) -> httpx.Response:
        """``POST /v1/requests``; underscores in header names stand for dashes."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post("/v1/requests", content=content, headers=named)

    async def get(self, request_id: object, tenant: str = "default") -> httpx.Response:
        return await self.client.get(f"/v1/requests/{request_id}", headers={"Forebay-Tenant": tenant})


@asynccontextmanager
async def opened(max_wait_s: float = 5, **policy: Any) -> AsyncIterator[House]:
    house = House(await WatchedBroker.ready(), make.policy(**policy), max_wait_s)
    async with house.client:
        yield house


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with opened() as one:
        yield one


def problem(response: httpx.Response, status: int, code: str) -> dict[str, str]:
    """The problem document of a response."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, str] = response.json()
    assert found["code"] == code
    return found


async def test_an_accepted_request_has_a_place_to_ask_at(house: House) -> None:
    response = await house.post()
    assert response.status_code == 202
    shown = response.json()
    assert shown["status"] == "queued"
    assert response.headers["location"] == f"/v1/requests/{shown['id']}"
    assert (await house.client.get(response.headers["location"])).json()["id"] == shown["id"]


async def test_the_broker_has_the_request_before_the_client_has_its_id(house: House) -> None:
    response = await house.post(Forebay_Tenant="acme", Forebay_Priority="bulk")
    (request,) = house.accepted()
    assert str(request.id) == response.json()["id"]
    assert (request.tenant, request.priority, request.prompt) == ("acme", Priority.BULK, "hello")
    assert request.accepted_at == START


async def test_the_trace_of_the_client_goes_along(house: House) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    await house.post(traceparent=f"00-{trace}-b7ad6b7169203331-01")
    assert trace in str(house.broker.published[0].headers["traceparent"])


@pytest.mark.parametrize("error", [BrokerUnavailable("no confirm"), PublishRefused("full")])
async def test_without_the_brokers_confirm_nothing_is_accepted(house: House, error: Exception) -> None:
    house.broker.failures = [error]
    response = await house.post()
    problem(response, 503, getattr(error, "code", ""))
    assert int(response.headers["retry-after"]) > 0
    assert "location" not in response.headers


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"nonsense", ""),
        ({}, "/input"),
        ({"input": "x", "temperature": 9}, "/temperature"),
        ({"input": "x", "model": "huge"}, "/model"),
    ],
)
async def test_a_body_that_is_wrong_is_a_problem_and_nothing_is_published(
    house: House, body: object, pointer: str
) -> None:
    assert problem(await house.post(body), 400, "invalid_request")["pointer"] == pointer
    assert house.broker.published == []


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Forebay-Tenant", "A B"),
        ("Forebay-Priority", "urgent"),
        ("Idempotency-Key", ""),
        ("Idempotency-Key", "k" * 256),
        ("Cache-Control", "max-age"),
        ("Cache-Control", "max-age=-1"),
    ],
)
async def test_a_header_that_is_wrong_is_named(house: House, header: str, value: str) -> None:
    response = await house.post(**{header.replace("-", "_"): value})
    assert problem(response, 400, "invalid_request")["pointer"] == header
    assert house.broker.published == []


async def test_what_is_said_of_the_cache_goes_along_and_makes_no_other_request(house: House) -> None:
    first = await house.post(Idempotency_Key="k-1", Cache_Control="no-store, max-age=60, only-if-cached")
    again = await house.post(Idempotency_Key="k-1", Pragma="no-cache")
    assert first.json()["id"] == again.json()["id"]
    assert house.accepted()[0].cache_control == CacheControl(no_store=True, max_age_s=60)
    await house.post()
    assert house.accepted()[-1].cache_control == CacheControl()


async def test_a_header_of_several_lines_is_one(house: House) -> None:
    lines = [("Cache-Control", "no-store"), ("Cache-Control", "max-age=60")]
    response = await house.client.post("/v1/requests", json=HELLO, headers=lines)
    assert response.status_code == 202
    assert house.accepted()[0].cache_control == CacheControl(no_store=True, max_age_s=60)


async def test_a_body_that_is_too_large_is_not_read_to_its_end(house: House) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(1000):
            read += 1
            yield b" " * 100

    response = await house.client.post("/v1/requests", content=endless())
    problem(response, 413, "request_too_large")
    assert read < 20
    assert house.broker.published == []


async def test_the_same_key_and_body_is_the_same_request(house: House) -> None:
    first = await house.post(Idempotency_Key="k-1")
    again = await house.post({"model": "auto", **HELLO}, Idempotency_Key="k-1")
    assert first.status_code == again.status_code == 202
    assert first.json()["id"] == again.json()["id"]
    assert {request.id for request in house.accepted()} == {UUID(first.json()["id"])}


async def test_the_same_key_with_another_body_is_a_conflict(house: House) -> None:
    await house.post(Idempotency_Key="k-1")
    response = await house.post({"input": "goodbye"}, Idempotency_Key="k-1")
    assert problem(response, 422, "idempotency_conflict")["pointer"] == "Idempotency-Key"
    assert len(house.accepted()) == 1


async def test_a_conflict_is_seen_by_a_replica_that_has_only_the_row(house: House) -> None:
    house.pool.rows = [{"digest": "another body's", "replay": 0, "status": None, "body": None}]
    problem(await house.post(Idempotency_Key="k-1"), 422, "idempotency_conflict")


async def test_the_same_key_of_another_tenant_is_another_request(house: House) -> None:
    first = await house.post(Idempotency_Key="k-1", Forebay_Tenant="acme")
    other = await house.post({"input": "goodbye"}, Idempotency_Key="k-1", Forebay_Tenant="other")
    assert other.status_code == 202
    assert first.json()["id"] != other.json()["id"]


async def test_a_repeat_after_the_answer_has_the_answer(house: House) -> None:
    await house.post(Idempotency_Key="k-1")
    (request,) = house.accepted()
    await house.results.heard(make.completed(request))
    again = await house.post(Idempotency_Key="k-1")
    assert again.status_code == 202
    assert again.json()["output_text"] == "Paris."
    assert len(house.accepted()) == 1


async def test_a_repeat_may_wait_for_the_answer_to_the_first(house: House) -> None:
    await house.post(Idempotency_Key="k-1")
    again = asyncio.create_task(house.post(Idempotency_Key="k-1", Prefer="wait=5"))
    await settled()
    (request,) = house.accepted()
    await house.results.heard(make.completed(request))
    response = await again
    assert (response.status_code, response.json()["output_text"]) == (200, "Paris.")
    assert len(house.accepted()) == 1


async def test_a_key_whose_request_was_not_accepted_is_free_again(house: House) -> None:
    house.broker.failures = [PublishRefused("full")]
    problem(await house.post(Idempotency_Key="k-1"), 503, "publish_refused")
    assert (await house.post({"input": "goodbye"}, Idempotency_Key="k-1")).status_code == 202


async def test_a_bug_is_a_problem_without_its_details(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Intake, "accept", broken)
    quiet = httpx.ASGITransport(house.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=quiet, base_url="http://test") as client:
        response = await client.post("/v1/requests", json=HELLO)
    assert "a bug" not in problem(response, 500, "internal_error")["detail"]


async def test_a_keyed_request_is_taken_while_the_database_is_away(house: House) -> None:
    house.pool.error = ConnectionRefusedError()
    assert (await house.post(Idempotency_Key="k-1")).status_code == 202


async def test_requests_without_a_key_are_all_different(house: House) -> None:
    assert (await house.post()).json()["id"] != (await house.post()).json()["id"]


@pytest.mark.parametrize("prefer", ["wait=5", "respond-async, wait=5", "wait=5; foo", "return=minimal,wait=5"])
async def test_who_prefers_to_wait_gets_the_answer_at_once(house: House, prefer: str) -> None:
    post = asyncio.create_task(house.post(Prefer=prefer))
    await settled()
    (request,) = house.accepted()
    assert not post.done()
    await house.results.heard(make.completed(request))
    response = await post
    assert response.status_code == 200
    assert response.headers["preference-applied"] == "wait=5"
    assert response.headers["cache-status"] == "forebay; fwd=miss; ttl=600"
    assert response.json()["output_text"] == "Paris."


async def test_who_waits_hears_of_a_failure_too(house: House) -> None:
    post = asyncio.create_task(house.post(Prefer="wait=5"))
    await settled()
    await house.results.heard(make.failed(house.accepted()[0]))
    response = await post
    assert (response.status_code, response.json()["error"]["code"]) == (200, "rate_limited")


async def test_who_waits_is_sent_away_when_the_service_stops(house: House) -> None:
    post = asyncio.create_task(house.post(Prefer="wait=60"))
    await settled()
    assert not post.done()
    house.stopping.set()
    async with asyncio.timeout(1):
        response = await post
    assert (response.status_code, response.json()["status"]) == (202, "queued")


async def test_who_waits_in_vain_is_told_where_to_ask() -> None:
    async with opened(max_wait_s=0.01) as house:
        response = await house.post(Prefer="wait=100")
    assert (response.status_code, response.json()["status"]) == (202, "queued")


@pytest.mark.parametrize("prefer", ["", "wait", "wait=", "wait=-1", "wait=1.5", "awaiting=5", "wait=99999999"])
async def test_what_is_no_wish_to_wait_is_ignored(house: House, prefer: str) -> None:
    assert (await house.post(Prefer=prefer)).status_code == 202


async def test_an_answer_that_outruns_the_confirm_is_not_missed(house: House) -> None:
    publish = house.broker.publish

    async def answered_at_once(messages: list[object]) -> None:
        await publish(messages)  # type: ignore[arg-type]  # whatever the door sends
        await house.results.heard(make.completed(house.accepted()[0]))

    house.broker.publish = answered_at_once  # type: ignore[method-assign,assignment]  # one answer, very quick
    assert (await house.post(Prefer="wait=5")).status_code == 200


async def test_an_accepted_id_is_never_404_also_before_its_row_is_written(house: House) -> None:
    elsewhere = house.identities.new("default", START)
    response = await house.get(elsewhere)
    assert (response.status_code, response.json()["status"]) == (200, "queued")


async def test_a_made_up_id_is_404(house: House) -> None:
    problem(await house.get(make.new_id()), 404, "not_found")
    problem(await house.get("nonsense"), 404, "not_found")


async def test_a_request_of_another_tenant_is_404_queued_or_finished(house: House) -> None:
    await house.post(Forebay_Tenant="acme")
    (request,) = house.accepted()
    problem(await house.get(request.id, "other"), 404, "not_found")
    await house.results.heard(make.completed(request))
    problem(await house.get(request.id, "other"), 404, "not_found")
    assert (await house.get(request.id, "acme")).json()["output_text"] == "Paris."


async def test_a_result_comes_from_its_row_where_memory_has_none(house: House) -> None:
    event = make.completed(source="cache")
    house.pool.rows = [{"digest": "d", "replay": 0, "status": "completed", "body": event.model_dump_json()}]
    shown = (await house.get(event.request_id)).json()
    assert (shown["status"], shown["source"]) == ("completed", "cache")


async def test_a_rejected_submission_is_shown_as_failed(house: House) -> None:
    event = make.failed(code="invalid_request", attempts=0)
    house.pool.rows = [{"digest": None, "replay": 0, "status": "failed", "body": event.model_dump_json()}]
    assert (await house.get(event.request_id)).json()["error"]["code"] == "invalid_request"


async def test_while_the_database_is_away_asking_says_come_back(house: House) -> None:
    house.pool.error = ConnectionRefusedError()
    response = await house.get(make.new_id())
    problem(response, 503, "database_unavailable")
    assert int(response.headers["retry-after"]) > 0


async def test_an_accepted_request_has_an_estimate_of_its_wait_which_then_runs_down(house: House) -> None:
    assert (await house.post()).json()["estimated_wait_ms"] > 0
    await house.results.heard(make.completed(completed_at="2026-01-02T03:04:15Z"))
    shown = (await house.post()).json()
    assert shown["estimated_wait_ms"] == 10_000
    await house.hands.advance(4)
    assert (await house.get(shown["id"])).json()["estimated_wait_ms"] == 6000


async def test_a_tenant_that_sends_more_than_it_may_is_told_when_to_come_back() -> None:
    limits = {"tenants": {"acme": {"requests_per_minute": 6, "burst": 2}}}
    async with opened(admission=limits) as house:
        assert [(await house.post(Forebay_Tenant="acme")).status_code for _ in range(2)] == [202, 202]
        response = await house.post(Forebay_Tenant="acme")
        problem(response, 429, "too_many_requests")
        assert response.headers["retry-after"] == "10"
        assert (await house.post(Forebay_Tenant="other")).status_code == 202
        await house.hands.advance(10)
        assert (await house.post(Forebay_Tenant="acme")).status_code == 202


async def test_a_repeated_request_costs_its_tenant_nothing() -> None:
    async with opened(admission={"default": {"requests_per_minute": 6, "burst": 1}}) as house:
        first = await house.post(Idempotency_Key="k")
        again = await house.post(Idempotency_Key="k")
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"]


async def test_what_the_broker_did_not_take_costs_its_tenant_nothing() -> None:
    async with opened(admission={"default": {"requests_per_minute": 6, "burst": 1}}) as house:
        house.broker.failures = [BrokerUnavailable("no confirm")]
        problem(await house.post(), 503, "broker_unavailable")
        assert (await house.post()).status_code == 202


async def test_where_too_many_wait_nobody_is_let_in_until_one_is_finished() -> None:
    async with opened(admission={"max_queued": 2}) as house:
        await house.post()
        await house.post()
        response = await house.post()
        problem(response, 503, "overloaded")
        assert int(response.headers["retry-after"]) > 0
        await house.results.heard(make.completed(house.accepted()[0]))
        assert (await house.post()).status_code == 202


async def test_what_has_no_effect_yet_is_said(house: House) -> None:
    shown = (await house.post({**HELLO, "webhook_url": "https://example.com/"})).json()
    assert "webhook" in shown["warnings"][0]
    assert (await house.post()).json()["warnings"] == []


async def test_unknown_paths_and_wrong_methods_are_problems_too(house: House) -> None:
    problem(await house.client.get("/v2/requests"), 404, "not_found")
    problem(await house.client.delete("/v1/requests"), 405, "method_not_allowed")


async def test_the_api_describes_itself(house: House) -> None:
    document = (await house.client.get("/openapi.json")).json()
    submit = document["paths"]["/v1/requests"]["post"]
    reference = submit["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    body = document["components"]["schemas"][reference.rsplit("/", 1)[-1]]
    assert "input" in body["properties"]
    assert body["examples"]
    assert {"202", "400", "413", "422", "503"} <= set(submit["responses"])
    assert (await house.client.get("/docs")).status_code == 200


async def test_who_needs_no_answer_any_more_says_so(house: House) -> None:
    request_id = (await house.post(Forebay_Tenant="acme")).json()["id"]
    async with house.broker.subscribe(CANCELLATIONS, prefetch=1):
        response = await house.client.post(f"/v1/requests/{request_id}/cancel", headers={"Forebay-Tenant": "acme"})
    assert (response.status_code, response.json()["status"]) == (202, "queued")
    message = house.broker.published[-1]
    assert message.mandatory
    assert envelope.decode(message) == RequestCancelled(request_id=UUID(request_id), tenant="acme", cancelled_at=START)


@pytest.mark.parametrize(
    ("code", "status"), [(None, "completed"), ("rate_limited", "failed"), ("cancelled", "cancelled")]
)
async def test_what_is_finished_stays_as_it_is(house: House, code: str | None, status: str) -> None:
    event = make.failed(code=code) if code else make.completed()
    await house.results.heard(event)
    response = await house.client.post(f"/v1/requests/{event.request_id}/cancel", headers={"Forebay-Tenant": "acme"})
    assert (response.status_code, response.json()["status"]) == (200, status)
    assert (response.json()["error"] is None) is (code != "rate_limited")
    assert house.broker.published == []


async def test_only_the_tenants_own_requests_can_be_cancelled(house: House) -> None:
    request_id = (await house.post(Forebay_Tenant="acme")).json()["id"]
    for made_up, tenant in ((request_id, "other"), (str(make.new_id()), "acme"), ("nonsense", "acme")):
        response = await house.client.post(f"/v1/requests/{made_up}/cancel", headers={"Forebay-Tenant": tenant})
        problem(response, 404, "not_found")
    assert len(house.broker.published) == 1


@pytest.mark.parametrize("error", [BrokerUnavailable("no confirm"), Unroutable("no queue")])
async def test_a_cancellation_that_reaches_nobody_is_to_be_said_again(house: House, error: Exception) -> None:
    request_id = (await house.post()).json()["id"]
    house.broker.failures = [error]
    response = await house.client.post(f"/v1/requests/{request_id}/cancel")
    problem(response, 503, "broker_unavailable")
    assert int(response.headers["retry-after"]) > 0


async def test_who_is_taken_in_a_brownout_is_told_and_bulk_is_not_taken() -> None:
    async with opened(brownout={"cheaper_tier": {"from": "10s"}, "shed_bulk": {"from": "2m"}}) as house:
        assert (await house.post()).json()["brownout"] == []
        await house.admission.surge.heard(aged(light=130.0))
        shown = (await house.post()).json()
        assert [(note["step"], note["age_s"]) for note in shown["brownout"]] == [
            ("cheaper_tier", 130.0),
            ("shed_bulk", 130.0),
        ]
        assert (await house.get(shown["id"])).json()["brownout"] == shown["brownout"]
        refused = await house.post(Forebay_Priority="bulk")
        problem(refused, 503, "overloaded")
        assert refused.headers["retry-after"] == "70"

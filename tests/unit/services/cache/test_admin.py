"""What operators ask a replica over HTTP."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import httpx
import pytest
from starlette.applications import Starlette

from services.cache.admin import MOST_BYTES, SQL, Admin
from services.cache.topic_entries import SQL as TOPIC_SQL
from shared.events import TopicTrending
from tests.support import make
from tests.support.clock import START
from tests.support.replica import PROMPT, Replica, entry, near

if TYPE_CHECKING:
    from shared.database import Pool

CATEGORIES = [
    {"category": "static", "entries": 7, "hits": 12, "saved_usd": 0.5},
    {"category": "dynamic", "entries": 2, "hits": 0, "saved_usd": 0.0},
]
TENANTS = [{"tenant": "acme", "entries": 9}]
PROMPTS = [{"prompt": "Is tea healthy?"}, {"prompt": "Who leads the team?"}]
TEA = TopicTrending(terms=("tea",), tenant="acme", reason="a fair", since=START, until=START + timedelta(hours=1))


class Table:
    """The three statements of the statistics."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.asked: list[tuple[object, ...]] = []

    async def fetch(self, statement: str, *arguments: object) -> Sequence[dict[str, Any]]:
        self.asked.append(arguments)
        if self.error is not None:
            raise self.error
        found = {SQL["by_category"]: CATEGORIES, SQL["by_tenant"]: TENANTS, TOPIC_SQL["candidates"]: PROMPTS}
        return cast("Sequence[dict[str, Any]]", found[statement])

    async def fetchval(self, statement: str) -> int:
        assert statement == SQL["bytes"]
        return 65_536


class Desk:
    """A replica's port, and what is behind it."""

    def __init__(self, **policy: Any) -> None:
        self.replica, self.table = Replica(**policy), Table()
        it = self.replica
        admin = Admin(it.policy, it.handler, it.audits, it.front, it.trending, cast("Pool", self.table), it.clock)
        transport = httpx.ASGITransport(Starlette(routes=list(admin.routes())))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://cache")

    async def lookup(self, body: Any, **headers: str) -> Any:
        response = await self.http.post("/v1/lookup", json=body, headers=headers)
        assert response.status_code == 200, response.text
        return response.json()


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    async with desk.http:
        yield desk


async def test_statistics_say_what_is_stored_what_it_saved_and_how_often_it_is_wrong(desk: Desk) -> None:
    await desk.replica.ask(make.request())
    await desk.replica.answer(desk.replica.misses()[0])
    response = await desk.http.get("/v1/stats")
    assert response.status_code == 200
    found = response.json()
    assert (found["entries"], found["bytes"]) == (9, 65_536)
    assert (found["by_category"], found["by_tenant"]) == (CATEGORIES, TENANTS)
    assert found["lookups"]["miss"] >= 1
    assert found["front"] == {"entries": 1, "bytes": desk.replica.front.bytes}
    assert found["audits"] == desk.replica.audits.summary()
    assert desk.table.asked[0] == (desk.replica.clock.now(),)


@pytest.mark.parametrize("error", [OSError("away"), TimeoutError()])
async def test_without_a_database_there_are_no_statistics(desk: Desk, error: Exception) -> None:
    desk.table.error = error
    response = await desk.http.get("/v1/stats")
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.json()["status"], response.json()["title"]) == (503, "Service Unavailable")
    assert "the cache cannot be read" in response.json()["detail"]


async def test_topics_say_what_this_replica_heeds_and_how_many_entries_wait_for_it(desk: Desk) -> None:
    assert (await desk.http.get("/v1/topics")).json() == {"max_age_s": 900, "topics": []}
    await desk.replica.hear(TEA)
    expected = {
        "topic_id": str(TEA.topic_id),
        "terms": ["tea"],
        "tenant": "acme",
        "origin": "told",
        "reason": "a fair",
        "since": "2026-01-02T03:04:05Z",
        "until": "2026-01-02T04:04:05+00:00",
        "more": False,
    }
    assert (await desk.http.get("/v1/topics")).json()["topics"] == [expected | {"entries": 1}]
    desk.table.error = OSError("away")
    assert (await desk.http.get("/v1/topics")).json()["topics"] == [expected | {"entries": None}]


async def test_a_lookup_says_what_would_be_answered_and_what_was_found_on_the_way(desk: Desk) -> None:
    desk.replica.lookup.nearest = [near("Capital of Spain?", 0.98, answer="Madrid."), near("Capital of France?", 0.97)]
    desk.replica.guards.says("Capital of Spain?", reason="names")
    found = await desk.lookup({"input": PROMPT})
    refused, served = desk.replica.lookup.nearest
    assert found["answer"] == "Paris."
    assert (found["verdict"]["tier"], found["verdict"]["reason"]) == ("semantic", "verified")
    assert found["verdict"]["entry_id"] == str(served.entry_id)
    assert found["threshold"] == 0.9
    assert [(each["prompt"], each["reason"]) for each in found["candidates"]] == [
        ("Capital of Spain?", "names"),
        ("Capital of France?", "verified"),
    ]
    assert found["candidates"][0] == {
        "entry_id": str(refused.entry_id),
        "prompt": "Capital of Spain?",
        "similarity": 0.98,
        "risk": None,
        "reason": "names",
        "age_s": 60,
        "expires_in_s": 540,
        "category": "static",
        "model": "local/tiny",
        "hits": 0,
        "good": 0,
        "bad": 0,
        "freshness": "nothing changes",
    }
    key = desk.replica.handler.key(make.request(PROMPT, tenant="default"))
    assert found["key"] == {"scope": str(key.scope), "exact": str(key.exact)}


async def test_a_lookup_changes_nothing(desk: Desk) -> None:
    desk.replica.lookup.exact = entry()
    before = (await desk.http.get("/v1/stats")).json()
    await desk.lookup({"input": PROMPT})
    assert (await desk.http.get("/v1/stats")).json() == before
    assert desk.replica.learned.idle == 0


async def test_a_lookup_of_what_is_not_there_says_why(desk: Desk) -> None:
    found = await desk.lookup({"input": PROMPT})
    assert (found["answer"], found["candidates"]) == (None, [])
    assert (found["verdict"]["tier"], found["verdict"]["reason"]) == ("miss", "nothing near")


async def test_a_lookup_without_a_database_says_that_it_cannot_be_read(desk: Desk) -> None:
    desk.replica.lookup.away = True
    response = await desk.http.post("/v1/lookup", json={"input": PROMPT})
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert "the cache cannot be read" in response.json()["detail"]


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(desk: Desk) -> None:
    response = await desk.http.post("/v1/lookup", content=b"x" * (MOST_BYTES + 1))
    assert (response.status_code, response.json()["code"]) == (413, "request_too_large")


async def test_a_lookup_is_that_of_a_tenant_and_of_all_that_changes_the_answer(desk: Desk) -> None:
    body: dict[str, Any] = {
        "input": [{"role": "user", "content": "Hi."}, {"role": "user", "content": PROMPT}],
        "instructions": "Be brief.",
        "temperature": 0.5,
        "text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}}},
        "deadline": "2030-01-01T00:00:00Z",
        "webhook_url": "https://example.com/",
    }
    found = await desk.lookup(body, **{"Forebay-Tenant": "acme"})
    asked = make.request(**body)
    assert found["key"]["scope"] == str(desk.replica.handler.key(asked).scope)
    assert UUID(found["key"]["exact"]) == desk.replica.handler.key(asked).exact


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"{", "Invalid JSON"),
        (b"\xff", "Invalid JSON"),
        (b"[]", "should be an object"),
        (b"{}", "input: Field required"),
        (b'{"input": ""}', "must not be empty"),
        (b'{"input": "Hello?", "temperatur": 1}', "temperatur: Extra inputs"),
        (b'{"input": "Hello?", "temperature": "1"}', "temperature: "),
    ],
)
async def test_a_body_that_is_no_submission_is_refused_with_what_is_wrong(desk: Desk, body: bytes, detail: str) -> None:
    response = await desk.http.post("/v1/lookup", content=body)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert detail in response.json()["detail"]
    assert not response.json()["detail"].startswith(":")


async def test_a_tenant_that_is_none_is_refused(desk: Desk) -> None:
    response = await desk.http.post("/v1/lookup", json={"input": PROMPT}, headers={"Forebay-Tenant": "Not A Word"})
    assert response.status_code == 400
    assert "tenant" in response.json()["detail"]


async def test_a_lookup_is_posted_and_statistics_are_got(desk: Desk) -> None:
    assert (await desk.http.get("/v1/lookup")).status_code == 405
    assert (await desk.http.post("/v1/stats")).status_code == 405

"""Forgetting entries, and saying that an answer was wrong, over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

import httpx
import pytest

from services.ingest.__main__ import wire
from services.ingest.admission import Admission
from services.ingest.cache_door import CacheDoor
from services.ingest.entries import Audience, Entries, Example, Meant, Origin, Served
from services.ingest.http_door import HttpDoor, application
from services.ingest.identity import Identities
from services.ingest.intake import Intake
from services.ingest.rating_door import RatingDoor
from services.ingest.results import Results
from services.ingest.topic_door import TopicDoor
from shared import envelope
from shared.clock import Clock
from shared.database import DatabaseUnavailable
from shared.errors import BrokerUnavailable
from shared.events import CacheAudited, CacheHit, CacheInvalidate, CacheVerdict, Event, ResponseCompleted, Selector
from shared.service import Service
from shared.settings import Settings
from tests.support import make
from tests.support.broker import WatchedBroker
from tests.support.clock import START, ManualClock
from tests.support.pool import FakePool

ENTRY = make.new_id()
MEANT = Meant(
    entries=12,
    oldest=START - timedelta(days=2),
    newest=START,
    examples=[Example(entry_id=ENTRY, prompt="Hello?", model="m", category="static", stored_at=START, hits=3)],
)


class FakeEntries:
    """Entries without a database.

    Attributes:
        asked: the arguments of each call.
        away: the calls that find PostgreSQL away.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.away: Sequence[str] = ()
        self.origin: Origin | None = None
        self.audience_of = Audience([Served(request_id=ENTRY, at=START, similarity=0.97)], others=2)

    async def meant(self, tenant: str, selector: Selector, at: datetime) -> Meant:
        self._ask("meant", tenant, selector, at)
        return MEANT

    async def behind(self, answer_of: UUID) -> Origin:
        self._ask("behind", answer_of)
        return self.origin or Origin(answer_of, make.key().scope, good=2, bad=1)

    async def audience(self, tenant: str, entry_id: UUID, since: datetime) -> Audience:
        self._ask("audience", tenant, entry_id, since)
        return self.audience_of

    def _ask(self, call: str, *arguments: object) -> None:
        self.asked.append((call, *arguments))
        if call in self.away:
            raise DatabaseUnavailable("away")


class House:
    """The door with everything behind it."""

    def __init__(self, broker: WatchedBroker) -> None:
        self.broker = broker
        self.pool = FakePool()
        self.entries = FakeEntries()
        self.clock: Clock = ManualClock()
        self.stopping = asyncio.Event()
        self.results = Results(self.pool.as_pool, keep=100)
        self.identities = Identities("a secret")
        intake = Intake(make.policy(), self.clock, max_body_bytes=1000)
        admission = Admission(make.policy(), broker, self.clock)
        http = HttpDoor(intake, self.identities, self.results, admission, self, max_wait_s=5)
        cache = CacheDoor(intake, self.identities, self.results, cast("Entries", self.entries), self)
        ratings = RatingDoor(intake, self.identities, self.results, self)
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(application(http, cache, TopicDoor(intake, self), ratings, "1.0")),
            base_url="http://test",
        )

    def events(self) -> list[Event]:
        """What was published."""
        return [envelope.decode(message) for message in self.broker.published]

    async def forget(self, body: object, tenant: str = "acme") -> httpx.Response:
        return await self._post("/v1/cache/invalidate", body, tenant)

    async def complain(self, request_id: object, body: object = None, tenant: str = "acme") -> httpx.Response:
        return await self._post(f"/v1/requests/{request_id}/feedback", body or {"verdict": "wrong_hit"}, tenant)

    async def answered(self, **changes: Any) -> ResponseCompleted:
        """A result of the tenant ``acme`` that has been heard."""
        result = make.completed(**changes)
        await self.results.heard(result)
        return result

    async def _post(self, path: str, body: object, tenant: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.client.post(path, content=content, headers={"Forebay-Tenant": tenant})


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House(await WatchedBroker.ready())
    async with house.client:
        yield house


def problem(response: httpx.Response, status: int, code: str) -> dict[str, str]:
    """The problem document of a response."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, str] = response.json()
    assert found["code"] == code
    return found


def hit(**changes: Any) -> CacheHit:
    fields = {"entry_id": ENTRY, "similarity": 0.97, "match": "semantic", "stored_at": START, "expires_at": START}
    return CacheHit.model_validate(fields | changes)


async def test_a_dry_run_says_what_would_go_and_changes_nothing(house: House) -> None:
    response = await house.forget({"selector": {"topic": "tokyo"}, "dry_run": True})
    assert response.status_code == 200
    assert response.json() == {
        "object": "cache.invalidation",
        "dry_run": True,
        "invalidation_id": None,
        "entries": 12,
        "oldest": "2025-12-31T03:04:05Z",
        "newest": "2026-01-02T03:04:05Z",
        "examples": [
            {
                "entry_id": str(ENTRY),
                "prompt": "Hello?",
                "model": "m",
                "category": "static",
                "stored_at": "2026-01-02T03:04:05Z",
                "hits": 3,
            }
        ],
    }
    assert house.entries.asked == [("meant", "acme", Selector(tenant="acme", topic="tokyo"), START)]
    assert house.events() == []


async def test_an_invalidation_is_published_for_the_tenant_alone_before_it_is_confirmed(house: House) -> None:
    response = await house.forget({"selector": {"topic": "tokyo", "older_than_s": 60}, "reason": "it is over"})
    assert response.status_code == 202
    shown = response.json()
    assert (shown["dry_run"], shown["entries"]) == (False, 12)
    assert house.events() == [
        CacheInvalidate(
            invalidation_id=UUID(shown["invalidation_id"]),
            selector=Selector(tenant="acme", topic="tokyo", older_than_s=60),
            reason="it is over",
            invalidated_at=START,
        )
    ]


async def test_what_is_counted_is_counted_after_the_event_is_on_its_way(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[int] = []
    meant = house.entries.meant

    async def counted(*arguments: Any) -> Meant:
        published.append(len(house.events()))
        return await meant(*arguments)

    monkeypatch.setattr(house.entries, "meant", counted)
    assert (await house.forget({"selector": {"topic": "tokyo"}})).status_code == 202
    assert published == [1]


async def test_what_a_selector_means_is_planned_for_each() -> None:
    class Entered(Exception):
        """The first thing that is opened."""

    class Wired:
        settings = Settings(postgres_dsn="postgresql://127.0.0.1:9/none")

        async def enter(self, resource: object) -> object:
            raise Entered(resource)

    with pytest.raises(Entered) as entered:
        await wire(cast("Service", Wired()))
    (pool,) = entered.value.args
    assert pool._connect_kwargs["server_settings"]["plan_cache_mode"] == "force_custom_plan"


@pytest.mark.parametrize(
    "said",
    [
        {"entry_id": str(ENTRY)},
        {"prompt": "Hello?"},
        {"topic": "tokyo"},
        {"scope": str(ENTRY)},
        {"model": "light"},
        {"category": "static"},
        {"older_than_s": 0},
        {"topic": "tokyo", "model": None, "everything": None},
    ],
    ids=repr,
)
async def test_each_condition_will_do(house: House, said: dict[str, Any]) -> None:
    assert (await house.forget({"selector": said})).status_code == 202
    (event,) = house.events()
    assert isinstance(event, CacheInvalidate)
    assert event.selector == Selector.model_validate(said | {"tenant": "acme"})
    assert event.reason == "no reason given"


async def test_everything_is_everything_of_this_tenant(house: House) -> None:
    assert (await house.forget({"selector": {"everything": True}})).status_code == 202
    (event,) = house.events()
    assert isinstance(event, CacheInvalidate)
    assert event.selector.model_dump(exclude_none=True) == {"tenant": "acme"}


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        (b"nonsense", "", "Invalid JSON"),
        ([], "", ""),
        ({}, "/selector", "Field required"),
        (
            {"selector": {}},
            "/selector",
            "an empty selector: give at least one of entry_id, prompt, topic, scope, model",
        ),
        ({"selector": {"topic": None}}, "/selector", "an empty selector"),
        ({"selector": None}, "/selector", ""),
        ({"selector": {"everything": False}}, "/selector/everything", ""),
        ({"selector": {"everything": "true"}}, "/selector/everything", ""),
        ({"selector": {"everything": True, "topic": "x"}}, "/selector", "everything goes with no other condition"),
        ({"selector": {"tenant": "acme", "topic": "x"}}, "/selector/tenant", "leave it out"),
        ({"selector": {"tenant": None, "topic": "x"}}, "/selector/tenant", "leave it out"),
        ({"selector": {"topci": "x"}}, "/selector/topci", "Extra inputs"),
        ({"selector": {"topic": " "}}, "/selector/topic", "must not be empty"),
        ({"selector": {"topic": "a\x00"}}, "/selector/topic", "NUL"),
        ({"selector": {"topic": ["a"]}}, "/selector/topic", "valid string"),
        ({"selector": {"entry_id": "x"}}, "/selector/entry_id", "valid UUID"),
        ({"selector": {"older_than_s": -1}}, "/selector/older_than_s", "greater than or equal to 0"),
        ({"selector": {"older_than_s": "5"}}, "/selector/older_than_s", "valid integer"),
        ({"selector": {"topic": "x"}, "reason": "a\x00"}, "/reason", "NUL"),
        ({"selector": {"topic": "x"}, "reason": "a" * 501}, "/reason", "at most 500"),
        ({"selector": {"topic": "x"}, "dry_run": "yes"}, "/dry_run", "valid boolean"),
        ({"selector": {"topic": "x"}, "dryrun": True}, "/dryrun", "Extra inputs"),
    ],
    ids=repr,
)
async def test_an_invalidation_that_is_wrong_is_a_problem_and_nothing_is_published(
    house: House, body: object, pointer: str, detail: str
) -> None:
    found = problem(await house.forget(body), 400, "invalid_request")
    assert found["pointer"] == pointer
    assert detail in found["detail"]
    assert "tenant," not in found["detail"]
    assert (house.events(), house.entries.asked) == ([], [])


async def test_a_tenant_that_is_none_and_a_body_too_large_are_problems(house: House) -> None:
    body = {"selector": {"topic": "x"}}
    assert problem(await house.forget(body, tenant="A B"), 400, "invalid_request")["pointer"] == "Forebay-Tenant"
    problem(await house.forget({"selector": {"topic": "x" * 1000}}), 413, "request_too_large")
    assert house.events() == []


async def test_while_the_database_is_away_a_dry_run_says_come_back(house: House) -> None:
    house.entries.away = ["meant"]
    response = await house.forget({"selector": {"topic": "x"}, "dry_run": True})
    problem(response, 503, "database_unavailable")
    assert int(response.headers["retry-after"]) > 0


async def test_while_the_database_is_away_an_invalidation_is_taken_uncounted(house: House) -> None:
    house.entries.away = ["meant"]
    response = await house.forget({"selector": {"topic": "x"}})
    assert response.status_code == 202
    assert (response.json()["entries"], response.json()["examples"]) == (None, [])
    assert len(house.events()) == 1


async def test_without_the_brokers_confirm_nothing_is_promised(house: House) -> None:
    house.broker.failures = [BrokerUnavailable("no confirm"), BrokerUnavailable("no confirm")]
    problem(await house.forget({"selector": {"topic": "x"}}), 503, "broker_unavailable")
    result = await house.answered(hit=hit())
    problem(await house.complain(result.request_id), 503, "broker_unavailable")


async def test_a_wrong_hit_goes_and_is_learned_from(house: House) -> None:
    verdict = CacheVerdict(tier="semantic", reason="verified", similarity=0.97)
    result = await house.answered(source="cache", hit=hit(), similarity=0.97, verdict=verdict)
    response = await house.complain(result.request_id, {"verdict": "wrong_hit", "comment": "of last year", "hours": 48})
    assert response.status_code == 202
    assert response.json() == {
        "object": "cache.feedback",
        "entry_id": str(ENTRY),
        "removed": True,
        "served": [{"request_id": str(ENTRY), "at": "2026-01-02T03:04:05Z", "similarity": 0.97}],
        "others": 2,
    }
    invalidate, audited = house.events()
    assert isinstance(invalidate, CacheInvalidate)
    assert invalidate.selector.model_dump(exclude_none=True) == {"entry_id": ENTRY}
    assert (invalidate.reason, invalidate.invalidated_at) == ("wrong hit: of last year", START)
    assert isinstance(audited, CacheAudited)
    assert (audited.kind, audited.tenant, audited.request_id) == ("feedback", "acme", result.request_id)
    assert (audited.entry_id, audited.scope) == (ENTRY, make.key().scope)
    assert (audited.served, audited.same, audited.agreement, audited.sampled) == (True, False, 0, 1)
    assert audited.evidence.model_dump() == {
        "similarity": 0.97,
        "objected": False,
        "agreeing": None,
        "opposing": None,
        "good": 2,
        "bad": 1,
        "entries": None,
        "category": "static",
    }
    assert house.entries.asked[-1] == ("audience", "acme", ENTRY, START - timedelta(hours=48))


async def test_saying_it_twice_is_saying_it_once(house: House) -> None:
    result = await house.answered(hit=hit())
    await house.complain(result.request_id)
    await house.complain(result.request_id)
    ids = [message.message_id for message in house.broker.published]
    assert ids[:2] == ids[2:]
    assert len(set(ids)) == 2


async def test_an_answer_of_a_leader_in_flight_leads_to_the_leaders_entry(house: House) -> None:
    leader = make.new_id()
    result = await house.answered(source="coalesced", leader_id=leader, similarity=1.0)
    assert (await house.complain(result.request_id)).json()["entry_id"] == str(leader)
    house.entries.origin = Origin(ENTRY)
    assert (await house.complain(result.request_id)).json()["entry_id"] == str(ENTRY)
    assert {call[1] for call in house.entries.asked if call[0] == "behind"} == {leader}
    *_, invalidate, audited = house.events()
    assert isinstance(invalidate, CacheInvalidate)
    assert invalidate.selector.entry_id == ENTRY
    assert isinstance(audited, CacheAudited)
    assert audited.evidence.similarity == 1


async def test_a_result_may_come_from_its_row(house: House) -> None:
    event = make.completed(source="cache", hit=hit(), freshness=None)
    house.pool.rows = [
        {"digest": "d", "replay": 0, "status": "completed", "body": event.model_dump_json(exclude={"key"})}
    ]
    assert (await house.complain(event.request_id)).status_code == 202


@pytest.mark.parametrize("tenant", ["other", "default"])
async def test_an_answer_to_another_tenant_is_404(house: House, tenant: str) -> None:
    result = await house.answered(hit=hit())
    problem(await house.complain(result.request_id, tenant=tenant), 404, "not_found")
    problem(await house.complain(make.new_id(), tenant=tenant), 404, "not_found")
    problem(await house.complain("nonsense", tenant=tenant), 404, "not_found")
    assert house.events() == []


async def test_what_has_no_answer_from_the_cache_is_a_conflict(house: House) -> None:
    bought = await house.answered()
    detail = problem(await house.complain(bought.request_id), 409, "conflict")["detail"]
    assert "bought for this very request (light)" in detail
    failed = make.failed()
    await house.results.heard(failed)
    detail = problem(await house.complain(failed.request_id), 409, "conflict")["detail"]
    assert "given no answer: rate_limited" in detail
    queued = house.identities.new("acme", START)
    assert "no answer yet" in problem(await house.complain(queued), 409, "conflict")["detail"]
    assert house.events() == []


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"nonsense", ""),
        ({"comment": "x"}, "/verdict"),
        ({"verdict": "right"}, "/verdict"),
        ({"verdict": "wrong_hit", "hours": 0}, "/hours"),
        ({"verdict": "wrong_hit", "hours": 721}, "/hours"),
        ({"verdict": "wrong_hit", "hours": "24"}, "/hours"),
        ({"verdict": "wrong_hit", "comment": "a\x00"}, "/comment"),
        ({"verdict": "wrong_hit", "comment": "a" * 401}, "/comment"),
        ({"verdict": "wrong_hit", "coment": "a"}, "/coment"),
    ],
    ids=repr,
)
async def test_feedback_that_is_wrong_is_a_problem(house: House, body: object, pointer: str) -> None:
    result = await house.answered(hit=hit())
    assert problem(await house.complain(result.request_id, body), 400, "invalid_request")["pointer"] == pointer
    assert house.events() == []


async def test_while_the_database_is_away_no_entry_is_known_to_be_wrong(house: House) -> None:
    house.entries.away = ["behind"]
    result = await house.answered(hit=hit())
    problem(await house.complain(result.request_id), 503, "database_unavailable")
    assert house.events() == []


async def test_a_wrong_entry_goes_also_where_nobody_can_say_who_was_served_it(house: House) -> None:
    house.entries.away = ["audience"]
    result = await house.answered(hit=hit())
    response = await house.complain(result.request_id)
    assert response.status_code == 202
    assert (response.json()["served"], response.json()["others"]) == (None, None)
    assert len(house.events()) == 2


async def test_the_api_describes_these_calls_too(house: House) -> None:
    document = (await house.client.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    for path in ("/v1/cache/invalidate", "/v1/requests/{request_id}/feedback"):
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        assert schemas[body.rsplit("/", 1)[-1]]["examples"]
    assert "tenant" not in schemas["OwnSelector"]["properties"]

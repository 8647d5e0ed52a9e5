"""What operators ask about failures and dead letters over HTTP."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import httpx
import pytest
from starlette.applications import Starlette

from services.persistence import letters
from services.persistence.admin import BODY_CHARS, MOST_BYTES, Admin
from services.persistence.failures import SQL, Failures
from services.persistence.letters import Letters
from shared import envelope
from shared.broker import Delivery, Message
from shared.consumer import Dead, obituary
from shared.errors import BrokerUnavailable
from shared.events import Event, Request, RequestAccepted, RequestDropped
from shared.topology import ACCEPTED, MISSED, Queue, topology
from tests.support import make
from tests.support.broker import TIERS, WatchedBroker
from tests.support.clock import START, ManualClock

if TYPE_CHECKING:
    from shared.database import Pool

MINUTE = timedelta(minutes=1)
JSON = {"Content-Type": "Application/JSON; charset=utf-8"}


def row(request: Request, *, code: str = "rate_limited", ended: int = 0, **changes: Any) -> dict[str, Any]:
    """A failed request as the statements find it."""
    result = make.failed(request, code=code, replay=ended)
    return {
        "id": request.id,
        "tenant": request.tenant,
        "priority": request.priority.value,
        "digest": request.digest,
        "accepted_at": request.accepted_at,
        "run": request.replay,
        "asked": request.model_dump_json(exclude_defaults=True),
        "status": "failed",
        "result": result.model_dump_json(),
        "ended": ended,
        "completed_at": result.failed_at,
        "dropped_at": None,
    } | changes


class Table:
    """Rows that a test put there.

    Attributes:
        rows: what the list and the ids lead to.
        asked: arguments by statement.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.asked: dict[str, tuple[Any, ...]] = {}
        self.error: Exception | None = None

    async def fetch(self, statement: str, *arguments: Any) -> Sequence[Mapping[str, Any]]:
        if self.error is not None:
            raise self.error
        name = next(name for name, text in SQL.items() if text == statement)
        self.asked[name] = arguments
        if name == "classes":
            return [{"code": "rate_limited", "failures": 7, "first_at": START, "last_at": START + MINUTE}]
        if name == "named":
            known = {found["id"]: found for found in self.rows}
            nothing = dict.fromkeys(row(make.request()))
            return [known.get(request_id, nothing | {"id": request_id}) for request_id in arguments[0]]
        return self.rows[: arguments[-1]]


class Desk:
    """The port of persistence, and what is behind it."""

    def __init__(self, broker: WatchedBroker) -> None:
        self.broker, self.table, self.clock = broker, Table(), ManualClock()
        failures = Failures(cast("Pool", self.table))
        admin = Admin(make.policy(), failures, Letters(broker, topology(TIERS)), broker, self.clock)
        transport = httpx.ASGITransport(Starlette(routes=list(admin.routes())))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://persistence")

    def has(self, **changes: Any) -> Request:
        """One more failure."""
        fields = {name: changes.pop(name) for name in ("code", "ended", "dropped_at") if name in changes}
        request = make.request(**changes)
        self.table.rows.append(row(request, **fields))
        return request

    def events(self) -> list[Event]:
        """What was published."""
        return [envelope.decode(message) for message in self.broker.published]

    async def bury(self, message: Message, queue: Queue = ACCEPTED) -> None:
        """A dead letter of a queue; what was published until now is forgotten."""
        await self.broker.publish([obituary(queue, Delivery(message, tag=1), Dead("internal_error", "it was the end"))])
        self.broker.published.clear()


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk(await WatchedBroker.ready())
    async with desk.http:
        yield desk


def problem(response: httpx.Response, status: int, code: str) -> dict[str, str]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, str] = response.json()
    assert found["code"] == code
    return found


async def test_the_list_says_what_failed_of_what_and_how_much_of_it(desk: Desk) -> None:
    late = START - MINUTE
    request = desk.has(input="x" * 300, deadline=late, replay=2, ended=2)
    response = await desk.http.get("/v1/dead")
    assert response.status_code == 200
    found = response.json()
    assert found["classes"] == [
        {
            "class": "rate_limited",
            "failures": 7,
            "first_at": "2026-01-02T03:04:05+00:00",
            "last_at": "2026-01-02T03:05:05+00:00",
        }
    ]
    assert found["next"] is None
    assert found["data"] == [
        {
            "id": str(request.id),
            "tenant": "acme",
            "class": "rate_limited",
            "message": "429",
            "attempts": 3,
            "tier": "light",
            "model": "local/tiny",
            "failed_at": "2026-01-02T03:04:05+00:00",
            "accepted_at": "2026-01-02T03:04:05+00:00",
            "replay": 2,
            "running": False,
            "deadline": "2026-01-02T03:03:05+00:00",
            "deadline_passed": True,
            "dropped_at": None,
            "priority": "interactive",
            "prompt": "x" * 200,
        }
    ]
    assert desk.table.asked["listed"] == (None, None, None, None, None, None, 100)


async def test_the_list_is_of_what_was_asked_for_and_goes_on(desk: Desk) -> None:
    request = desk.has()
    said = {
        "class": ["a", "b"],
        "tenant": "acme",
        "since": "2026-01-02T03:04:05Z",
        "until": "2026-01-02T04:04:05+01:00",
        "limit": "1",
    }
    found = (await desk.http.get("/v1/dead", params=said)).json()
    assert desk.table.asked["listed"][:4] == (["a", "b"], "acme", START, START)
    assert desk.table.asked["classes"] == (["a", "b"], "acme", START, START)
    await desk.http.get("/v1/dead", params={"after": found["next"]})
    assert desk.table.asked["listed"][4:] == (START, request.id, 100)


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "501"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"since": "yesterday"}, "since"),
        ({"until": "2026-01-02T03:04:05"}, "until"),
        ({"tenant": "A B"}, "tenant"),
        ({"class": ""}, "class/0"),
        ({"after": "x"}, "after"),
        ({"sinse": "1h"}, "sinse"),
    ],
)
async def test_a_list_that_makes_no_sense_is_refused(desk: Desk, query: dict[str, str], pointer: str) -> None:
    assert problem(await desk.http.get("/v1/dead", params=query), 400, "invalid_request")["pointer"] == pointer


async def test_a_failure_is_shown_with_its_request(desk: Desk) -> None:
    request = desk.has(dropped_at=START, metadata={"k": "v"}, replay=1)
    found = (await desk.http.get(f"/v1/dead/{request.id}")).json()
    assert (found["dropped_at"], found["running"]) == ("2026-01-02T03:04:05+00:00", True)
    assert (found["request"]["input"], found["request"]["metadata"]) == (request.prompt, {"k": "v"})
    problem(await desk.http.get(f"/v1/dead/{make.new_id()}"), 404, "not_found")
    problem(await desk.http.get("/v1/dead/nonsense"), 404, "not_found")


async def test_a_replay_is_the_request_under_its_id_and_in_its_place(desk: Desk) -> None:
    first, second = desk.has(priority="bulk"), desk.has(replay=1, ended=1)
    response = await desk.http.post("/v1/dead/replay", json={"class": ["rate_limited"], "to": "premium"})
    assert response.status_code == 202
    assert response.json() == {
        "object": "dead.replay",
        "dry_run": False,
        "replayed": [
            {"id": str(first.id), "tenant": "acme", "class": "rate_limited", "replay": 1},
            {"id": str(second.id), "tenant": "acme", "class": "rate_limited", "replay": 2},
        ],
        "refused": [],
        "next": None,
    }
    assert desk.events() == [
        RequestAccepted(request=first.model_copy(update={"replay": 1, "model": "premium"})),
        RequestAccepted(request=second.model_copy(update={"replay": 2, "model": "premium"})),
    ]
    assert [message.routing_key for message in desk.broker.published] == [
        "request.accepted.bulk",
        "request.accepted.interactive",
    ]


async def test_the_same_replay_asked_for_twice_is_the_same_message(desk: Desk) -> None:
    request = desk.has()
    for _ in range(2):
        assert (await desk.http.post("/v1/dead/replay", json={"ids": [str(request.id)]})).status_code == 202
    one, other = desk.broker.published
    assert (one.message_id, one.body) == (other.message_id, other.body)


async def test_what_cannot_be_run_is_told_and_the_others_are(desk: Desk) -> None:
    good, running, late = desk.has(), desk.has(replay=1), desk.has(deadline=START)
    nobody = make.new_id()
    said = {"ids": [str(each) for each in (running.id, nobody, good.id, late.id, good.id)]}
    found = (await desk.http.post("/v1/dead/replay", json=said)).json()
    assert [each["id"] for each in found["replayed"]] == [str(good.id)]
    assert {UUID(each["id"]): each["code"] for each in found["refused"]} == {
        nobody: "not_found",
        running.id: "running",
        late.id: "deadline_passed",
    }
    assert len(desk.events()) == 1
    found = (await desk.http.post("/v1/dead/replay", json={"ids": [str(late.id)], "ignore_deadline": True})).json()
    assert (len(found["replayed"]), found["refused"]) == (1, [])
    (_, event) = desk.events()
    assert isinstance(event, RequestAccepted)
    assert event.request.deadline is None


async def test_a_dry_run_changes_nothing(desk: Desk) -> None:
    request = desk.has()
    for call, part in (("replay", "replayed"), ("drop", "dropped")):
        response = await desk.http.post(f"/v1/dead/{call}", json={"everything": True, "dry_run": True})
        assert (response.status_code, response.json()["dry_run"]) == (200, True)
        assert [each["id"] for each in response.json()[part]] == [str(request.id)]
    assert desk.events() == []


async def test_some_at_a_time_go_on_where_they_ended(desk: Desk) -> None:
    first, _ = desk.has(), desk.has()
    found = (await desk.http.post("/v1/dead/replay", json={"everything": True, "limit": 1})).json()
    assert len(found["replayed"]) == 1
    await desk.http.post("/v1/dead/replay", json={"everything": True, "limit": 1, "after": found["next"]})
    assert desk.table.asked["listed"][4:] == (START, first.id, 1)


async def test_what_is_dropped_is_told_to_the_writer(desk: Desk) -> None:
    request = desk.has(replay=1, ended=1)
    response = await desk.http.post("/v1/dead/drop", json={"ids": [str(request.id), str(make.new_id())]})
    assert response.status_code == 202
    found = response.json()
    assert [each["id"] for each in found["dropped"]] == [str(request.id)]
    assert [each["code"] for each in found["refused"]] == ["not_found"]
    assert desk.events() == [RequestDropped(request_id=request.id, tenant="acme", replay=1, dropped_at=START)]


@pytest.mark.parametrize("call", ["replay", "drop"])
async def test_everything_may_be_what_failed_until_a_time(desk: Desk, call: str) -> None:
    request = desk.has()
    said = {"everything": True, "until": "2026-01-02T03:04:05Z", "after": None, "dry_run": True}
    response = await desk.http.post(f"/v1/dead/{call}", json=said)
    assert response.status_code == 200, response.text
    assert str(request.id) in response.text
    assert desk.table.asked["listed"][:4] == (None, None, None, START)


@pytest.mark.parametrize("call", ["replay", "drop"])
@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"nonsense", ""),
        ({}, ""),
        ({"ids": []}, ""),
        ({"ids": ["x"]}, "/ids/0"),
        ({"ids": ["00000000-0000-8000-8000-000000000000"], "class": ["x"]}, ""),
        ({"everything": True, "class": ["x"]}, ""),
        ({"everything": True, "tenant": "acme", "until": "2026-01-02T03:04:05Z"}, ""),
        ({"ids": ["00000000-0000-8000-8000-000000000000"], "until": "2026-01-02T03:04:05Z"}, ""),
        ({"class": "x"}, "/class"),
        ({"classes": ["x"]}, "/classes"),
        ({"everything": True, "limit": 501}, "/limit"),
        ({"everything": True, "after": "x"}, "after"),
        ({"tenant": "A B"}, "/tenant"),
    ],
    ids=repr,
)
async def test_a_selection_that_makes_no_sense_is_refused(desk: Desk, call: str, body: object, pointer: str) -> None:
    desk.has()
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = await desk.http.post(f"/v1/dead/{call}", content=content, headers=JSON)
    assert problem(response, 400, "invalid_request")["pointer"] == pointer
    assert desk.events() == []


async def test_a_model_that_is_none_and_a_body_too_large_are_refused(desk: Desk) -> None:
    desk.has()
    response = await desk.http.post("/v1/dead/replay", json={"everything": True, "to": "huge"})
    assert problem(response, 400, "invalid_request")["pointer"] == "/to"
    response = await desk.http.post("/v1/dead/replay", content=b" " * (MOST_BYTES + 1), headers=JSON)
    problem(response, 413, "request_too_large")
    assert desk.events() == []


@pytest.mark.parametrize("call", ["replay", "drop"])
@pytest.mark.parametrize(
    "said", [None, "text/plain", "application/x-www-form-urlencoded", "text/plain; application/json"]
)
async def test_what_a_page_in_a_browser_can_send_unasked_does_nothing(desk: Desk, call: str, said: str | None) -> None:
    desk.has()
    headers = {} if said is None else {"Content-Type": said}
    response = await desk.http.post(f"/v1/dead/{call}", content=b'{"everything": true}', headers=headers)
    assert problem(response, 415, "unsupported_media_type")["pointer"] == "Content-Type"
    assert desk.events() == []


async def test_while_something_is_away_it_says_come_back(desk: Desk) -> None:
    desk.has()
    desk.broker.failures = [BrokerUnavailable("no confirm")]
    response = await desk.http.post("/v1/dead/replay", json={"everything": True})
    problem(response, 503, "broker_unavailable")
    assert int(response.headers["retry-after"]) > 0
    desk.broker.connected = False
    problem(await desk.http.get("/v1/dead/queues"), 503, "broker_unavailable")
    desk.table.error = ConnectionRefusedError()
    problem(await desk.http.get("/v1/dead"), 503, "database_unavailable")


@pytest.mark.parametrize("call", ["replay", "drop"])
async def test_the_letter_of_a_request_goes_with_it(desk: Desk, call: str) -> None:
    request, other = desk.has(code="dead_lettered"), desk.has()
    await desk.bury(make.message(make.accepted(request)))
    await desk.bury(make.message(make.missed(request)), MISSED)
    await desk.bury(make.message(make.accepted(other)))
    await desk.http.post(f"/v1/dead/{call}", json={"ids": [str(request.id), str(other.id)]})
    assert [envelope.attribute(each, "subject") for each in desk.broker.peek("cache.accepted.dead")] == [str(other.id)]
    assert desk.broker.depth("router.missed.dead") == 0


async def test_the_letters_of_what_is_done_part_by_part_are_sought_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    remove = desk.broker.remove

    async def counted(queue: Queue, limit: int, unwanted: Any) -> int:
        looks.append(queue.name)
        return await remove(queue, limit, unwanted)

    monkeypatch.setattr(desk.broker, "remove", counted)
    requests = [desk.has(code="dead_lettered") for _ in range(3)]
    for request in requests:
        await desk.bury(make.message(make.accepted(request)))
    first, second, third = ({"ids": [str(request.id)]} for request in requests)
    await desk.http.post("/v1/dead/drop", json=first | {"more": True})
    await desk.http.post("/v1/dead/replay", json=second | {"more": True})
    assert (looks, desk.broker.depth("cache.accepted.dead")) == ([], 3)
    await desk.http.post("/v1/dead/drop", json=third)
    assert (looks, desk.broker.depth("cache.accepted.dead")) == (["cache.accepted.dead"], 0)


async def test_where_a_list_ends_the_letters_are_sought_though_more_was_said(desk: Desk) -> None:
    request = desk.has(code="dead_lettered")
    await desk.bury(make.message(make.accepted(request)))
    await desk.http.post("/v1/dead/drop", json={"everything": True, "limit": 1, "more": True})
    assert desk.broker.depth("cache.accepted.dead") == 1
    await desk.http.post("/v1/dead/drop", json={"everything": True, "limit": 2, "more": True})
    assert desk.broker.depth("cache.accepted.dead") == 0


async def test_no_more_requests_are_remembered_than_may_be(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters, "MOST_REMEMBERED", 2)
    requests = [desk.has(code="dead_lettered") for _ in range(2)]
    for request in requests:
        await desk.bury(make.message(make.accepted(request)))
    for request, left in zip(requests, (2, 0), strict=True):
        await desk.http.post("/v1/dead/drop", json={"ids": [str(request.id)], "more": True})
        assert desk.broker.depth("cache.accepted.dead") == left


async def test_a_replay_counts_also_where_its_letter_cannot_be_removed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, logged: Any
) -> None:
    async def away(_: Queue) -> int:
        raise BrokerUnavailable("gone")

    desk.has(code="dead_lettered")
    monkeypatch.setattr(desk.broker, "waiting", away)
    assert (await desk.http.post("/v1/dead/replay", json={"everything": True})).status_code == 202


async def test_letters_are_counted_read_and_purged(desk: Desk) -> None:
    garbage = Message("forebay.requests", "x", b"\xff" + b"a" * 3000, headers={"mine": 7, "list": [1]}, message_id="m")
    await desk.bury(garbage, MISSED)
    missed = make.missed()
    await desk.bury(replace(make.message(missed), body=b"{}"), MISSED)
    counts = (await desk.http.get("/v1/dead/queues")).json()["data"]
    assert {each["queue"]: each["letters"] for each in counts if each["letters"]} == {"router.missed.dead": 2}
    for name in ("router.missed", "router.missed.dead"):
        first, second = (await desk.http.get(f"/v1/dead/queues/{name}")).json()["data"]
    assert (first["code"], first["reason"], first["request_id"]) == ("internal_error", "it was the end", None)
    assert (first["message_id"], first["headers"]["mine"], first["headers"]["list"]) == ("m", 7, "[1]")
    assert (first["bytes"], len(first["body"])) == (3001, BODY_CHARS)
    assert second["request_id"] == str(missed.request.id)
    assert len((await desk.http.get("/v1/dead/queues/router.missed?limit=1")).json()["data"]) == 1
    assert (await desk.http.delete("/v1/dead/queues/router.missed")).json() == {"purged": 2}
    assert desk.broker.depth("router.missed.dead") == 0


@pytest.mark.parametrize("limit", ["0", "-1", "501", "x", "1" * 5000, "²"])
async def test_letters_that_cannot_be_read_are_told(desk: Desk, limit: str) -> None:
    told = problem(await desk.http.get("/v1/dead/queues/nowhere"), 400, "invalid_request")
    assert "router.missed.dead" in told["detail"]
    response = await desk.http.get("/v1/dead/queues/router.missed", params={"limit": limit})
    assert problem(response, 400, "invalid_request")["pointer"] == "limit"

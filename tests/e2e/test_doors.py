"""Both doors on the real stack: what is taken, what is refused, and how it is said."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import aio_pika
import pytest

from infra.local.stack import Stack
from tests.e2e.conftest import PATIENCE_S, SHORT, Api, Rows, eventually

BAD_BODIES: list[tuple[str, bytes, int, str]] = [
    ("empty", b"", 400, ""),
    ("no JSON", b"hello", 400, ""),
    ("a list", b"[]", 400, ""),
    ("no input", b"{}", 400, "/input"),
    ("empty input", b'{"input": " "}', 400, "/input"),
    ("a number for input", b'{"input": 7}', 400, "/input"),
    ("a NUL", b'{"input": "a\\u0000b"}', 400, "/input"),
    ("a lone surrogate", b'{"input": "\\ud800"}', 400, ""),
    ("invalid UTF-8", b'{"input": "\xff\xfe"}', 400, ""),
    ("deep JSON", b'{"input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, ""),
    ("1 MB", json.dumps({"input": "x" * 1_000_000}).encode(), 413, ""),
    ("unknown model", b'{"input": "x", "model": "gpt-9"}', 400, "/model"),
    ("negative limit", b'{"input": "x", "max_output_tokens": -1}', 400, "/max_output_tokens"),
    ("text for a number", b'{"input": "x", "temperature": "hot"}', 400, "/temperature"),
    ("unknown field", b'{"input": "x", "inptu": 1}', 400, "/inptu"),
    ("past deadline", b'{"input": "x", "deadline": "2020-01-01T00:00:00Z"}', 400, "/deadline"),
    ("last turn is the assistant's", b'{"input": [{"role": "assistant", "content": "hi"}]}', 400, ""),
]


async def test_a_request_is_accepted_then_answered(api: Api) -> None:
    response = await api.post({"input": "Say hello.", "max_output_tokens": SHORT, "metadata": {"mine": "1"}})
    assert response.status_code == 202
    accepted = response.json()
    assert response.headers["location"] == f"/v1/requests/{accepted['id']}"
    assert accepted["status"] == "queued"
    done = await api.finished(accepted["id"])
    assert done["status"] == "completed"
    assert done["output_text"].strip()
    assert done["source"] == done["tier"] == "light"
    assert done["usage"]["output_tokens"] > 0
    assert done["cost_usd"] > 0
    assert done["metadata"] == {"mine": "1"}
    assert done["route"]["reasons"]


async def test_prefer_wait_answers_with_the_result(api: Api) -> None:
    response = await api.post({"input": "Say hi.", "max_output_tokens": SHORT}, headers={"Prefer": "wait=60"})
    assert response.status_code == 200
    assert response.json()["status"] == "completed"
    assert response.headers["cache-status"].startswith("forebay; fwd=miss")
    assert response.headers["preference-applied"] == "wait=60"


async def test_an_id_is_known_at_once_and_only_to_its_tenant(api: Api) -> None:
    request_id = (await api.post({"input": "Who asks?", "max_output_tokens": SHORT})).json()["id"]
    assert (await api.get(request_id)).status_code == 200
    stranger = Api(api.http, f"{api.tenant}-other")
    assert (await stranger.get(request_id)).status_code == 404
    await api.finished(request_id)
    assert (await stranger.get(request_id)).status_code == 404
    missing = await api.get(str(uuid4()))
    assert missing.status_code == 404
    assert missing.headers["content-type"] == "application/problem+json"


async def test_an_idempotency_key_makes_one_request(api: Api, rows: Rows) -> None:
    body = {"input": "Count to two.", "max_output_tokens": SHORT}
    key = {"Idempotency-Key": "order-1"}
    first, again = await asyncio.gather(api.post(body, headers=key), api.post(body, headers=key))
    assert first.json()["id"] == again.json()["id"]
    await api.finished(first.json()["id"])
    assert (await api.post(body, headers=key)).json()["id"] == first.json()["id"]
    conflict = await api.post(body | {"input": "Count to three."}, headers=key)
    assert conflict.status_code == 422
    assert conflict.json()["code"] == "idempotency_conflict"
    await rows.settled(1)


@pytest.mark.parametrize(("what", "body", "status", "pointer"), BAD_BODIES, ids=[case[0] for case in BAD_BODIES])
async def test_a_bad_body_is_refused_with_a_problem_document(
    api: Api, what: str, body: bytes, status: int, pointer: str
) -> None:
    response = await api.post(body)
    assert response.status_code == status
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["detail"]
    assert problem["pointer"] == pointer


@pytest.fixture
async def bare(stack: Stack) -> AsyncIterator["Bare"]:
    connection = await aio_pika.connect(stack.amqp_url)
    async with connection:
        yield await Bare(connection).open()


class Bare:
    """An AMQP client that knows nothing of Forebay but its address."""

    def __init__(self, connection: aio_pika.abc.AbstractConnection) -> None:
        self.connection = connection

    async def open(self) -> "Bare":
        self.channel = await self.connection.channel(on_return_raises=True)
        self.exchange = await self.channel.get_exchange("forebay.requests", ensure=False)
        self.replies = await self.channel.declare_queue(exclusive=True)
        return self

    async def ask(self, body: bytes, key: str, **properties: Any) -> aio_pika.abc.AbstractIncomingMessage:
        """Publish and return the terminal event that comes to the reply queue."""
        message = aio_pika.Message(body, reply_to=self.replies.name, correlation_id="mine", **properties)
        await self.exchange.publish(message, key)
        reply = await eventually(lambda: self.replies.get(fail=False), within_s=PATIENCE_S)
        await reply.ack()
        assert reply.correlation_id == "mine"
        return reply  # type: ignore[no-any-return]  # eventually() gives back what it was given


async def test_bare_json_is_a_complete_request(bare: Bare, tenant: str, rows: Rows) -> None:
    body = json.dumps({"input": "Say hello.", "max_output_tokens": SHORT}).encode()
    reply = await bare.ask(body, f"request.submitted.bulk.{tenant}")
    answer = json.loads(reply.body)
    assert reply.headers["cloudEvents_type"] == "forebay.response.completed.v1"
    assert answer["output_text"]
    assert answer["tenant"] == tenant
    assert "key" not in answer
    await rows.settled(1)
    assert [row["priority"] for row in await rows.all("SELECT priority FROM requests WHERE tenant = $1")] == ["bulk"]


async def test_a_cloud_event_is_a_request_and_its_trace_goes_on(bare: Bare, tenant: str) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {
        "cloudEvents:specversion": "1.0",
        "cloudEvents:type": "forebay.request.submitted.v1",
        "cloudEvents:source": "/test",
        "cloudEvents:id": "1",
        "traceparent": f"00-{trace}-00f067aa0ba902b7-01",
    }
    body = json.dumps({"input": "Say hello.", "max_output_tokens": SHORT}).encode()
    reply = await bare.ask(body, f"request.submitted.interactive.{tenant}", headers=headers)
    assert str(reply.headers["traceparent"]).split("-")[1] == trace


@pytest.mark.parametrize(("what", "body", "status", "pointer"), BAD_BODIES, ids=[case[0] for case in BAD_BODIES])
async def test_a_bad_message_is_rejected_with_an_event(
    bare: Bare, tenant: str, rows: Rows, what: str, body: bytes, status: int, pointer: str
) -> None:
    reply = await bare.ask(body, f"request.submitted.interactive.{tenant}")
    rejected = json.loads(reply.body)
    assert reply.headers["cloudEvents_type"] == "forebay.request.rejected.v1"
    assert rejected["code"] == ("request_too_large" if status == 413 else "invalid_request")
    assert rejected["message"]
    assert rejected["pointer"] == pointer

    async def recorded() -> bool:
        return await rows.count("responses") == 1

    await eventually(recorded)


@pytest.mark.parametrize(
    "key", ["request.submitted.urgent", "request.submitted.bulk.NO", "request.submitted.bulk.acme.more"]
)
async def test_a_bad_routing_key_is_rejected(bare: Bare, key: str) -> None:
    rejected = json.loads((await bare.ask(b'{"input": "x"}', key)).body)
    assert rejected["pointer"] == "routing key"


async def test_two_messages_with_one_message_id_are_one_request(bare: Bare, tenant: str, rows: Rows) -> None:
    body = json.dumps({"input": "Say hello.", "max_output_tokens": SHORT}).encode()
    key = f"request.submitted.interactive.{tenant}"
    first = json.loads((await bare.ask(body, key, message_id="m-1")).body)
    second = json.loads((await bare.ask(body, key, message_id="m-1")).body)
    assert first["request_id"] == second["request_id"]
    await rows.settled(1)

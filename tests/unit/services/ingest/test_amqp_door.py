"""The AMQP door: bare JSON or CloudEvents, and the same id at every redelivery."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.admission import Admission
from services.ingest.amqp_door import AmqpDoor, fingerprint
from services.ingest.identity import Identities
from services.ingest.intake import Intake
from services.ingest.results import Results
from shared.broker import Message
from shared.clock import Clock
from shared.consumer import parked
from shared.errors import Overloaded, Park
from shared.events import (
    CacheControl,
    Event,
    Priority,
    ReplyAddress,
    RequestAccepted,
    RequestRejected,
    RequestSubmitted,
)
from shared.topology import SUBMITTED
from tests.support import make
from tests.support.broker import WatchedBroker
from tests.support.clock import START, ManualClock, settled
from tests.support.pool import FakePool

IDENTITIES = Identities("a secret")


class House:
    """The door with everything behind it."""

    def __init__(self, *, keep: int = 100, **policy: Any) -> None:
        rules = make.policy(**policy)
        self.broker = WatchedBroker()
        self.hands = ManualClock()
        self.clock: Clock = self.hands
        self.stopping = asyncio.Event()
        self.admission = Admission(rules, self.broker, self.clock)
        self.results = Results(FakePool().as_pool, keep=keep, follow=self.admission.finished)
        intake = Intake(rules, self.clock, max_body_bytes=1000)
        self.door = AmqpDoor(intake, IDENTITIES, self.results, self.admission, self, own_queues={"cache.accepted"})


@pytest.fixture
def door() -> AmqpDoor:
    return House().door


async def only(door: AmqpDoor, message: Message) -> Event:
    (event,) = await door.submitted(message)
    return event


async def accepted(door: AmqpDoor, message: Message) -> RequestAccepted:
    event = await only(door, message)
    assert isinstance(event, RequestAccepted)
    return event


async def rejected(door: AmqpDoor, message: Message) -> RequestRejected:
    event = await only(door, message)
    assert isinstance(event, RequestRejected)
    return event


async def test_bare_json_is_a_complete_request(door: AmqpDoor) -> None:
    request = (await accepted(door, make.submission())).request
    assert (request.prompt, request.tenant, request.priority, request.reply) == (
        "hello",
        "default",
        Priority.INTERACTIVE,
        None,
    )
    assert IDENTITIES.ours("default", request.id)


@pytest.mark.parametrize(
    ("key", "priority", "tenant"),
    [
        ("request.submitted", "interactive", "default"),
        ("request.submitted.bulk", "bulk", "default"),
        ("request.submitted.interactive.acme", "interactive", "acme"),
        ("request.submitted.bulk.acme-2", "bulk", "acme-2"),
    ],
)
async def test_the_routing_key_says_priority_and_tenant(door: AmqpDoor, key: str, priority: str, tenant: str) -> None:
    request = (await accepted(door, make.submission(routing_key=key))).request
    assert (request.priority, request.tenant) == (priority, tenant)


@pytest.mark.parametrize("key", ["request.submitted.urgent", "request.submitted.bulk.Acme", "request.submitted.a.b.c"])
async def test_a_routing_key_that_is_wrong_is_rejected(door: AmqpDoor, key: str) -> None:
    assert (await rejected(door, make.submission(routing_key=key))).pointer == "routing key"


@pytest.mark.parametrize("prefix", ["cloudEvents_", "cloudEvents:"])
async def test_a_cloud_event_is_taken_too(door: AmqpDoor, prefix: str) -> None:
    headers = {f"{prefix}type": RequestSubmitted.TYPE, f"{prefix}id": "e-1", f"{prefix}source": "/me"}
    first = await accepted(door, make.submission(headers=headers))
    again = await accepted(door, make.submission(headers=headers, correlation_id="another try"))
    other = await accepted(door, make.submission(headers=headers | {f"{prefix}source": "/you"}))
    assert first.request.id == again.request.id
    assert first.request.id != other.request.id


async def test_a_cloud_event_of_another_type_is_rejected(door: AmqpDoor) -> None:
    event = await rejected(door, make.submission(headers={"cloudEvents_type": RequestAccepted.TYPE}))
    assert event.pointer == "cloudEvents_type"


async def test_a_redelivery_gets_the_same_id_whatever_the_broker_added(door: AmqpDoor) -> None:
    message = make.submission(headers={"mine": 1})
    again = replace(message, headers={"mine": 1, "x-delivery-count": 3, "x-death": [{"queue": "q"}]})
    assert (await accepted(door, message)).request.id == (await accepted(door, again)).request.id


async def test_a_message_id_is_the_idempotency_key_of_its_tenant(door: AmqpDoor) -> None:
    first = await accepted(door, make.submission(message_id="m-1"))
    again = await accepted(door, make.submission(message_id="m-1", headers={"try": 2}))
    other = await accepted(door, make.submission(message_id="m-2"))
    theirs = await accepted(door, make.submission(message_id="m-1", routing_key="request.submitted.interactive.acme"))
    assert first.request.id == again.request.id
    assert len({first.request.id, other.request.id, theirs.request.id}) == 3


async def test_a_message_id_with_another_body_is_a_conflict_that_does_not_end_the_first_request(
    door: AmqpDoor,
) -> None:
    first = await accepted(door, make.submission(message_id="m-1"))
    conflict = await rejected(door, make.submission(b'{"input": "goodbye"}', message_id="m-1"))
    assert (conflict.code, conflict.pointer) == ("idempotency_conflict", "message_id")
    assert conflict.request_id != first.request.id


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        (b"nonsense", "invalid_request", ""),
        (b"{}", "invalid_request", "/input"),
        (b'{"input": "x", "model": "huge"}', "invalid_request", "/model"),
        (b'{"input": "' + b"x" * 1000 + b'"}', "request_too_large", ""),
    ],
)
async def test_a_submission_that_is_wrong_gets_its_terminal_result(
    door: AmqpDoor, body: bytes, code: str, pointer: str
) -> None:
    message = make.submission(body, routing_key="request.submitted.bulk.acme", reply_to="q", correlation_id="c")
    event = await rejected(door, message)
    assert (event.code, event.pointer, event.tenant, event.rejected_at) == (code, pointer, "acme", START)
    assert event.reply == ReplyAddress(queue="q", correlation_id="c")
    assert body.decode().startswith(event.excerpt)
    assert len(event.excerpt) <= 200
    assert await only(door, replace(message, headers={"x-delivery-count": 1})) == event


async def test_who_wants_a_reply_gets_its_address_kept(door: AmqpDoor) -> None:
    event = await accepted(door, make.submission(reply_to="client-7", correlation_id="c-1"))
    assert event.request.reply == ReplyAddress(queue="client-7", correlation_id="c-1")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("reply_to", make.submission(reply_to="a\x00b")),
        ("correlation_id", make.submission(reply_to="q", correlation_id="a\x00b")),
    ],
)
async def test_a_reply_address_that_cannot_be_stored_is_refused(door: AmqpDoor, part: str, message: Message) -> None:
    event = await rejected(door, message)
    assert (event.pointer, event.reply) == (part, None)


async def test_a_rejection_has_the_id_the_request_would_have_had(door: AmqpDoor) -> None:
    wrong = await rejected(door, make.submission(b"{}", message_id="m-1"))
    right = await accepted(door, make.submission(message_id="m-1"))
    assert wrong.request_id == right.request.id


async def test_a_failure_of_our_own_is_a_rejection_too(door: AmqpDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object, __: bytes) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Intake, "parse", broken)
    event = await rejected(door, make.submission(reply_to="q"))
    assert event.reply == ReplyAddress(queue="q")
    assert "a bug" not in event.message


async def test_a_reply_into_a_queue_of_our_own_is_refused_and_not_made(door: AmqpDoor) -> None:
    event = await rejected(door, make.submission(reply_to="cache.accepted"))
    assert (event.pointer, event.reply) == ("reply_to", None)


@given(st.binary(max_size=1200), st.text(max_size=80), st.none() | st.text(max_size=20))
async def test_whatever_is_published_has_exactly_one_outcome(body: bytes, words: str, message_id: str | None) -> None:
    door = House(keep=1).door
    message = make.submission(body, routing_key=f"request.submitted{words}", message_id=message_id)
    event = await only(door, message)
    assert isinstance(event, RequestAccepted | RequestRejected)
    assert type(event).model_validate_json(event.model_dump_json()) == event


async def test_a_rejection_can_be_stored(door: AmqpDoor) -> None:
    body = b'{"input": "x", "metadata": {"k": "\\u0000"}, "model": "a\\u0000"}\x00'
    assert "\x00" not in (await rejected(door, make.submission(body))).model_dump_json()


async def test_a_rejection_can_be_stored_whatever_its_pointer_points_at(door: AmqpDoor) -> None:
    event = await rejected(door, make.submission(json.dumps({"input": "x", "a\x00b": 1}).encode()))
    assert not any("\x00" in text for text in (event.pointer, event.message, event.excerpt))


@given(
    st.binary(),
    st.dictionaries(st.text(), st.integers() | st.text()),
    st.dictionaries(st.text().map("x-".__add__), st.integers() | st.text()),
)
def test_the_fingerprint_is_of_what_the_sender_wrote(
    body: bytes, headers: dict[str, Any], added: dict[str, Any]
) -> None:
    mine = {name: value for name, value in headers.items() if not name.startswith("x-")}
    message = make.submission(body, headers=mine)
    assert fingerprint(message) == fingerprint(replace(message, headers=dict(reversed((mine | added).items()))))
    assert fingerprint(message) != fingerprint(replace(message, body=body + b"."))
    assert fingerprint(message) != fingerprint(replace(message, headers=mine | {"one": "more"}))


@pytest.mark.parametrize(
    "change",
    [
        {"routing_key": "request.submitted.bulk"},
        {"message_id": "m"},
        {"correlation_id": "c"},
        {"reply_to": "q"},
        {"app_id": "a"},
        {"timestamp": datetime(2026, 1, 1, tzinfo=UTC)},
    ],
)
def test_every_property_the_sender_set_makes_another_fingerprint(change: dict[str, Any]) -> None:
    assert fingerprint(make.submission()) != fingerprint(make.submission(**change))


async def test_what_is_said_of_the_cache_goes_along_and_is_no_part_of_the_digest(door: AmqpDoor) -> None:
    plain = (await accepted(door, make.submission())).request
    assert plain.cache_control == CacheControl()
    for name in ("cache-control", "Cache-Control"):
        request = (await accepted(door, make.submission(headers={name: "no-store, max-age=60"}))).request
        assert request.cache_control == CacheControl(no_store=True, max_age_s=60)
        assert request.digest == plain.digest


@pytest.mark.parametrize("value", ["max-age=soon", 60, None, ["no-store"]])
async def test_what_cannot_be_understood_of_the_cache_is_rejected(door: AmqpDoor, value: object) -> None:
    event = await rejected(door, make.submission(headers={"cache-control": value}, reply_to="q"))
    assert (event.code, event.pointer) == ("invalid_request", "cache-control")
    assert event.reply == ReplyAddress(queue="q")


def numbered(number: int, **changes: Any) -> Message:
    return make.submission(message_id=f"m-{number}", **changes)


async def test_while_too_many_wait_a_submission_is_held_until_one_is_finished() -> None:
    house = House(admission={"max_queued": 1})
    first = await accepted(house.door, numbered(1))
    held = asyncio.ensure_future(house.door.submitted(numbered(2)))
    await settled()
    assert not held.done()
    await house.results.heard(make.completed(first.request))
    (event,) = await held
    assert isinstance(event, RequestAccepted)


async def test_the_time_a_submission_is_held_is_no_part_of_its_latency() -> None:
    house = House(admission={"max_queued": 1})
    first = await accepted(house.door, numbered(1))
    held = asyncio.ensure_future(house.door.submitted(numbered(2)))
    await settled()
    await house.hands.advance(60)
    await house.results.heard(make.completed(first.request))
    (event,) = await held
    assert isinstance(event, RequestAccepted)
    assert event.request.accepted_at == house.clock.now()


async def test_what_is_held_goes_back_to_the_broker_when_the_process_stops() -> None:
    house = House(admission={"max_queued": 1})
    await accepted(house.door, numbered(1))
    held = asyncio.ensure_future(house.door.submitted(numbered(2)))
    await settled()
    house.stopping.set()
    with pytest.raises(Overloaded):
        await held


async def test_a_tenant_that_sends_too_much_is_put_aside_one_after_the_other() -> None:
    house = House(admission={"default": {"requests_per_minute": 6, "burst": 1}})
    await accepted(house.door, numbered(0))
    waits = []
    for number in range(1, 4):
        with pytest.raises(Park) as later:
            await house.door.submitted(numbered(number))
        waits.append(later.value.after_s)
    assert waits == [10, 20, 30]
    other = numbered(9, routing_key="request.submitted.interactive.acme")
    assert (await accepted(house.door, other)).request.tenant == "acme"
    await house.hands.advance(10)
    await accepted(house.door, numbered(1))


async def test_bulk_over_its_bound_is_put_aside_and_holds_up_nobody() -> None:
    house = House(admission={"max_queued_bulk": 1})
    await accepted(house.door, numbered(1, routing_key="request.submitted.bulk"))
    with pytest.raises(Park):
        await house.door.submitted(numbered(2, routing_key="request.submitted.bulk"))
    await accepted(house.door, numbered(3))


async def test_a_redelivery_has_had_its_turn() -> None:
    house = House(admission={"default": {"requests_per_minute": 6, "burst": 1}})
    first = await accepted(house.door, numbered(1))
    assert (await accepted(house.door, numbered(1))).request.id == first.request.id
    await house.results.heard(make.completed(first.request))
    assert (await accepted(house.door, numbered(1))).request.id == first.request.id


async def test_what_was_parked_keeps_its_priority_its_tenant_and_its_id(door: AmqpDoor) -> None:
    sent = make.submission(routing_key="request.submitted.bulk.acme")
    waits = parked(SUBMITTED, sent, 1.0)
    back = replace(waits, routing_key=SUBMITTED.name, headers={**waits.headers, "x-death": [{"count": 1}]})
    first, again = await accepted(door, sent), await accepted(door, back)
    assert (again.request.priority, again.request.tenant) == (Priority.BULK, "acme")
    assert again.request.id == first.request.id

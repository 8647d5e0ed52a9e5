"""Dead letters get an end."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from services.persistence.obituary import UNKNOWN_REASON, Obituaries
from shared.broker import Delivery, Message
from shared.consumer import Dead, obituary
from shared.events import (
    CacheAudited,
    CacheInvalidate,
    Event,
    ReplyAddress,
    RequestDropped,
    RequestRated,
    ResponseFailed,
)
from shared.topology import ACCEPTED, MISSED, RECORDS, SUBMITTED, Queue, routed
from tests.support import make
from tests.support.clock import START, ManualClock
from tests.support.sample import sample

REPLY = ReplyAddress(queue="client-7", correlation_id="c-1")
REQUEST = make.request(reply=REPLY, metadata={"k": "v"})


def buried(event: Event, queue: Queue, reason: str = "it was the end") -> Message:
    """An event that died on a queue, as the runner buries it."""
    return obituary(queue, Delivery(make.message(event), tag=1), Dead("internal_error", reason))


def given_up(event: Event, queue: Queue) -> Message:
    """An event the broker itself buried: it knows no reason of ours."""
    return replace(make.message(event), exchange="forebay.dead", routing_key=queue.name)


async def died(message: Message) -> Sequence[Event]:
    return await Obituaries(ManualClock()).died(message)


async def failure(message: Message) -> ResponseFailed:
    (event,) = await died(message)
    assert isinstance(event, ResponseFailed)
    return event


ON_THE_WAY: list[tuple[Event, Queue]] = [
    (make.accepted(REQUEST), ACCEPTED),
    (make.missed(REQUEST), MISSED),
    (make.routed(REQUEST), routed("light")),
    (make.completed(REQUEST), RECORDS),
    (make.failed(REQUEST, reply=REPLY), RECORDS),
]
names = [type(event).__name__ for event, _ in ON_THE_WAY]


@pytest.mark.parametrize(("event", "queue"), ON_THE_WAY, ids=names)
async def test_a_request_whose_message_died_gets_its_terminal_result(event: Event, queue: Queue) -> None:
    found = await failure(buried(event, queue))
    assert found.routing_key == "response.failed.dead_lettered"
    assert (found.request_id, found.tenant, found.accepted_at) == (REQUEST.id, "acme", START)
    assert found.message == f"{queue.name}: it was the end"
    assert found.reply == REPLY
    assert found.failed_at == START


@pytest.mark.parametrize(("event", "queue"), ON_THE_WAY, ids=names)
async def test_what_the_broker_gave_up_on_gets_one_too(event: Event, queue: Queue) -> None:
    found = await failure(given_up(event, queue))
    assert found.message == f"{queue.name}: {UNKNOWN_REASON}"


@pytest.mark.parametrize("event", [make.missed(REQUEST), make.routed(REQUEST)], ids=lambda e: type(e).__name__)
async def test_those_who_wait_for_its_answer_are_freed(event: Any) -> None:
    assert (await failure(buried(event, MISSED))).exact == event.key.exact


async def test_the_writers_copy_of_a_request_decides_nothing() -> None:
    assert await died(buried(make.accepted(REQUEST), RECORDS)) == ()


@pytest.mark.parametrize("body", [None, b"\xff nonsense"], ids=["readable", "unreadable"])
async def test_a_replay_that_died_is_the_end_of_that_run(body: bytes | None) -> None:
    message = buried(make.accepted(make.request(replay=2)), ACCEPTED)
    assert (await failure(message if body is None else replace(message, body=body))).replay == 2


async def test_a_run_that_is_no_number_is_the_first() -> None:
    message = buried(make.accepted(), ACCEPTED)
    for run in ("x", "-1", "9" * 5000):
        headers = {**message.headers, "cloudEvents_replay": run}
        assert (await failure(replace(message, headers=headers, body=b"nonsense"))).replay == 0


@pytest.mark.parametrize("kind", [CacheAudited, CacheInvalidate, RequestDropped, RequestRated])
@pytest.mark.parametrize("body", [None, b"\xff nonsense"], ids=["readable", "unreadable"])
async def test_what_is_said_about_the_cache_an_answer_or_the_list_of_failures_ends_no_request(
    kind: type[Event], body: bytes | None
) -> None:
    for message in (buried(sample(kind), RECORDS), given_up(sample(kind), RECORDS)):
        assert await died(message if body is None else replace(message, body=body)) == ()


async def test_an_obituary_that_dies_has_no_obituary() -> None:
    first = await failure(buried(make.missed(REQUEST), MISSED))
    assert await died(buried(first, RECORDS)) == ()


async def test_a_body_nobody_can_read_still_ends_the_request_its_headers_name() -> None:
    message = replace(buried(make.missed(REQUEST), MISSED), body=b"\xff nonsense")
    found = await failure(message)
    assert (found.request_id, found.message) == (REQUEST.id, "router.missed: it was the end")


@pytest.mark.parametrize("subject", [None, "", "nonsense", 5])
async def test_a_message_that_names_no_request_ends_none(subject: object) -> None:
    message = buried(make.missed(REQUEST), MISSED)
    headers = {name: value for name, value in message.headers.items() if name != "cloudEvents_subject"}
    if subject is not None:
        headers["cloudEvents_subject"] = subject
    assert await died(replace(message, headers=headers)) == ()


async def test_a_submission_that_died_has_no_id_to_end() -> None:
    assert await died(replace(make.submission(), exchange="forebay.dead", routing_key=SUBMITTED.name)) == ()


async def test_a_reason_that_cannot_be_stored_is_mended() -> None:
    assert "\x00" not in (await failure(buried(make.missed(REQUEST), MISSED, "a\x00b"))).message


async def test_a_rejection_that_died_is_told_to_its_tenant() -> None:
    rejected = make.rejected(tenant="acme", reply=REPLY)
    found = await failure(buried(rejected, RECORDS))
    assert found.request_id == rejected.request_id


async def test_a_rejection_that_died_reaches_its_sender() -> None:
    found = await failure(buried(make.rejected(tenant="acme", reply=REPLY), RECORDS))
    assert (found.tenant, found.reply) == ("acme", REPLY)


async def test_a_body_nobody_can_read_still_ends_the_request_of_its_tenant() -> None:
    message = replace(buried(make.missed(REQUEST), MISSED), body=b"\xff nonsense")
    assert (await failure(message)).tenant == "acme"


@pytest.mark.parametrize(("event", "queue"), ON_THE_WAY[:4], ids=names[:4])
async def test_a_result_returns_the_requests_metadata(event: Event, queue: Queue) -> None:
    assert (await failure(buried(event, queue))).metadata == {"k": "v"}


async def test_a_submission_that_died_ends_no_request_whatever_its_sender_wrote() -> None:
    headers = {"cloudEvents_subject": str(REQUEST.id), "cloudEvents_type": "forebay.request.submitted.v1"}
    message = make.submission(headers=headers)
    assert await died(replace(message, exchange="forebay.dead", routing_key=SUBMITTED.name)) == ()

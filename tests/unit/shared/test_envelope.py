"""Events as CloudEvents."""

import json
import re
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from shared import envelope
from shared.broker import Message
from shared.errors import UndecodableMessage
from shared.events import (
    EVENTS,
    CacheInvalidate,
    Event,
    ReplyAddress,
    RequestRated,
    Selector,
    TopicSettled,
    TopicTrending,
    topic_id,
)
from shared.examples import example
from shared.telemetry import tracing
from tests.support import make
from tests.support.clock import START, ManualClock

KINDS = sorted(EVENTS.values(), key=lambda kind: kind.TYPE)
REPLY = ReplyAddress(queue="client-7", correlation_id="c-1")


def encoded(event: Event) -> Message:
    return envelope.encode(event, source="test", now=START)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_carries_the_attributes_of_a_cloud_event(kind: type[Event]) -> None:
    event = example(kind)
    message = encoded(event)
    assert (message.exchange, message.routing_key) == (kind.EXCHANGE.name, event.routing_key)
    assert message.mandatory is kind.MANDATORY
    assert message.content_type == "application/json"
    attributes = {
        name: envelope.attribute(message, name) for name in ("specversion", "source", "type", "subject", "tenant")
    }
    assert attributes == {
        "specversion": "1.0",
        "source": "/forebay/test",
        "type": kind.TYPE,
        "subject": str(event.subject),
        "tenant": event.owner,
    }
    assert datetime.fromisoformat(envelope.attribute(message, "time") or "") == START
    assert message.message_id == envelope.attribute(message, "id")


def test_the_same_event_has_the_same_id_and_another_event_of_the_request_has_not() -> None:
    request = make.request()
    accepted, again, missed = (
        encoded(e) for e in (make.accepted(request), make.accepted(request), make.missed(request))
    )
    assert accepted.message_id == again.message_id
    assert accepted.message_id != missed.message_id


def test_a_replay_has_ids_of_its_own_and_says_which_run_it_is() -> None:
    request = make.request()
    again = request.model_copy(update={"replay": 2})
    for first, second in (
        (make.accepted(request), make.accepted(again)),
        (make.failed(request), make.failed(again)),
    ):
        once, anew = encoded(first), encoded(second)
        assert once.message_id != anew.message_id
        assert envelope.attribute(once, "replay") is None
        assert envelope.attribute(anew, "replay") == "2"


@pytest.mark.parametrize("prefix", ["cloudEvents_", "cloudEvents:"])
def test_both_spellings_of_the_headers_are_understood(prefix: str) -> None:
    event = make.accepted()
    message = Message("", "", event.model_dump_json().encode(), {f"{prefix}type": event.TYPE})
    assert envelope.decode(message) == event


def test_an_attribute_that_is_no_text_is_none() -> None:
    assert envelope.attribute(Message("", "", b"", {"cloudEvents_type": 5}), "type") is None


def test_the_trace_goes_along() -> None:
    trace_id = tracing.resume("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
    assert trace_id in str(encoded(make.accepted()).headers["traceparent"])


def test_a_terminal_event_with_a_reply_address_has_a_copy_for_the_client() -> None:
    event = make.completed(reply=REPLY)
    message, copy = envelope.encode(event, source="test", now=START)
    assert (copy.exchange, copy.routing_key, copy.correlation_id) == ("", "client-7", "c-1")
    assert copy.message_id != message.message_id
    assert message.mandatory is True


def test_a_client_that_left_stops_nothing() -> None:
    for event in (make.completed(reply=REPLY), make.failed(reply=REPLY), make.rejected(reply=REPLY)):
        assert envelope.encode(event, source="test", now=START)[1].mandatory is False


@pytest.mark.parametrize(
    "event",
    [
        make.completed(reply=REPLY),
        make.failed(reply=REPLY, exact=make.new_id()),
        make.rejected(reply=REPLY),
    ],
    ids=lambda event: type(event).__name__,
)
def test_the_copy_for_the_client_has_no_internal_parts(event: Event) -> None:
    message, copy = envelope.encode(event, source="test", now=START)
    left_out = set(json.loads(message.body)) - set(json.loads(copy.body))
    assert left_out <= {"key", "exact", "reply"}
    assert not {"key", "exact", "reply"} & set(json.loads(copy.body))
    assert "reply" in left_out
    assert envelope.decode(copy).subject == event.subject


def test_a_request_on_its_way_is_not_copied_to_the_client() -> None:
    request = make.request(reply=REPLY)
    for event in (make.accepted(request), make.missed(request), make.routed(request)):
        assert len(envelope.encode(event, source="test", now=START)) == 1


@pytest.mark.parametrize(
    ("headers", "body", "reason"),
    [
        ({}, b"{}", "no cloudEvents_type header"),
        (
            {"cloudEvents_type": "forebay.request.accepted.v9"},
            b"{}",
            "unknown event type 'forebay.request.accepted.v9'",
        ),
        ({"cloudEvents_type": "forebay.request.accepted.v1"}, b"{}", "request: Field required"),
        ({"cloudEvents_type": "forebay.request.accepted.v1"}, b"\xff", "body: Invalid JSON"),
        ({"cloudEvents_type": "forebay.request.accepted.v1"}, b"[]", "body: "),
        ({"cloudEvents_type": "forebay.request.accepted.v1"}, b'{"request": {}}', r"request\.\w+: "),
    ],
)
def test_a_message_that_is_no_event_says_why(headers: dict[str, object], body: bytes, reason: str) -> None:
    with pytest.raises(UndecodableMessage, match=reason):
        envelope.decode(Message("", "", body, headers))


def test_what_others_add_to_the_headers_does_no_harm() -> None:
    message = encoded(make.accepted())
    decorated = replace(message, headers={**message.headers, "x-death": [{"count": 1}], "other": None})
    assert envelope.decode(decorated) == envelope.decode(message)


def bare(body: object, **properties: object) -> Message:
    """``cache.invalidate`` as any AMQP client would publish it."""
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Message("forebay.signals", "cache.invalidate", encoded, **properties)  # type: ignore[arg-type]


def invalidation(message: Message, *, after_s: float = 0) -> CacheInvalidate:
    event = envelope.decode(message, clock=ManualClock(START + timedelta(seconds=after_s)))
    assert isinstance(event, CacheInvalidate)
    return event


FORGET = {"selector": {"topic": "earthquake tokyo"}, "reason": "it is over"}


def test_an_invalidation_may_be_bare_json() -> None:
    event = invalidation(bare(FORGET))
    assert event.selector == Selector(topic="earthquake tokyo")
    assert (event.reason, event.invalidated_at) == ("it is over", START)
    assert envelope.decode(encoded(event)) == event


def test_a_bare_invalidation_needs_no_reason() -> None:
    assert invalidation(bare({"selector": {"everything": True}})).reason == "no reason given"


def test_a_redelivered_bare_invalidation_has_the_same_id_and_another_one_has_not() -> None:
    first = bare(FORGET, message_id="1", timestamp=START)
    again = replace(first, headers={"x-delivery-count": 2})
    assert invalidation(first) == invalidation(again)
    others = (
        bare(FORGET, message_id="2", timestamp=START),
        bare(FORGET, message_id="1", timestamp=START + timedelta(seconds=1)),
        bare(FORGET, message_id="1", timestamp=START, app_id="another"),
        bare(FORGET | {"reason": "other"}, message_id="1", timestamp=START),
        bare(FORGET),
    )
    ids = {invalidation(message).invalidation_id for message in (first, *others)}
    assert len(ids) == 1 + len(others)
    assert {(one.version, one.variant) for one in ids} == {(8, "specified in RFC 4122")}
    assert invalidation(bare(FORGET)).invalidation_id == invalidation(bare(FORGET), after_s=60).invalidation_id


@pytest.mark.parametrize(
    ("sent_s", "read_s", "at_s"),
    [(0, 60, 1), (0, 0.5, 0.5), (0, 1, 1), (3600, 0, 0)],
    ids=["to the end of its second", "but not beyond now", "just so", "a clock ahead"],
)
def test_a_bare_invalidation_is_of_the_time_it_was_sent(sent_s: float, read_s: float, at_s: float) -> None:
    message = bare(FORGET, timestamp=START + timedelta(seconds=sent_s))
    assert invalidation(message, after_s=read_s).invalidated_at == START + timedelta(seconds=at_s)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"nonsense", "body: Invalid JSON"),
        ([], "body: "),
        ({}, "selector: Field required"),
        ({"selector": {}}, "selector: an empty selector"),
        ({"selector": {"topic": None}}, "selector: an empty selector"),
        ({"selector": {"topic": " "}}, "selector.topic: must not be empty"),
        ({"selector": {"topci": "x"}}, "selector.topci: Extra inputs"),
        ({"selector": {"entry_id": "x"}}, "selector.entry_id: "),
        ({"selector": {"older_than_s": -1}}, "selector.older_than_s: "),
        ({"selector": {"everything": False}}, "selector.everything: "),
        (FORGET | {"tenant": "acme"}, "tenant: Extra inputs"),
        (FORGET | {"reason": "a\x00"}, "reason: must not contain NUL"),
        (FORGET | {"reason": "a" * 501}, "reason: "),
    ],
    ids=repr,
)
def test_a_bare_invalidation_that_is_wrong_says_what(body: object, fault: str) -> None:
    with pytest.raises(UndecodableMessage) as raised:
        envelope.decode(bare(body))
    assert str(raised.value).startswith(f"cache.invalidate: {fault}")


def test_no_other_event_may_be_bare() -> None:
    with pytest.raises(UndecodableMessage, match="no cloudEvents_type header"):
        envelope.decode(replace(bare(FORGET), routing_key="cache.audited"))
    with pytest.raises(UndecodableMessage, match="unknown event type"):
        envelope.decode(bare(FORGET, headers={"cloudEvents_type": "forebay.cache.invalidate.v9"}))


def topic(key: str, body: object) -> Event:
    message = Message(exchange="forebay.signals", routing_key=key, body=json.dumps(body).encode(), headers={})
    return envelope.decode(message, clock=ManualClock())


def test_a_topic_may_be_bare_json() -> None:
    said = {"terms": ["earthquake tokyo"], "tenant": "acme", "for": "2h", "reason": "news"}
    assert topic("topic.trending", said) == TopicTrending(
        terms=("earthquake tokyo",), tenant="acme", reason="news", since=START, until=START + timedelta(hours=2)
    )
    assert topic("topic.settled", {"terms": ["earthquake tokyo"]}) == TopicSettled(
        terms=("earthquake tokyo",), reason="no reason given", settled_at=START
    )
    hour = topic("topic.trending", {"terms": ["tea"]})
    assert isinstance(hour, TopicTrending)
    assert hour.until == START + timedelta(hours=1)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "topic.trending: terms: Field required"),
        ({"terms": ["the"]}, "topic.trending: terms.0: has no word that tells some prompts from others"),
        ({"terms": ["tea"], "for": "soon"}, "topic.trending: for: 'soon' is no duration"),
        ({"terms": ["tea"], "until": "2026-01-01"}, "topic.trending: until: Extra inputs are not permitted"),
    ],
    ids=repr,
)
def test_a_bare_topic_that_is_wrong_is_told_where(body: object, message: str) -> None:
    with pytest.raises(UndecodableMessage, match=re.escape(message)):
        topic("topic.trending", body)


def test_a_topic_is_the_same_in_any_order_and_spelling() -> None:
    assert topic_id(["world cup", "Final"], "acme") == topic_id(["finals", "cup World"], "acme")
    others = (topic_id(["world cup"], None), topic_id(["world", "cup"], "acme"), topic_id(["world cup"], "beta"))
    assert len({topic_id(["world cup"], "acme"), *others}) == 4


def rating(body: object, **properties: object) -> RequestRated:
    message = Message("forebay.signals", "request.rated", json.dumps(body).encode(), **properties)  # type: ignore[arg-type]
    event = envelope.decode(message, clock=ManualClock())
    assert isinstance(event, RequestRated)
    return event


RATED = {"request_id": "f4c1a3f2-7f0e-8b5a-9c6d-0a1b2c3d4e5f", "quality": 0.8}


def test_a_rating_may_be_bare_json() -> None:
    event = rating(RATED)
    assert (event.tenant, event.quality, event.comment, event.rated_at) == ("default", 0.8, "", START)
    assert rating(RATED) == event
    assert rating(RATED | {"tenant": "acme", "comment": "long"}).tenant == "acme"
    assert envelope.decode(encoded(event)) == event


@pytest.mark.parametrize(("sent_s", "at_s"), [(-60, -60), (60, 0)], ids=["of its time", "never of the future"])
def test_a_bare_rating_is_of_the_time_it_was_sent(sent_s: int, at_s: int) -> None:
    sent = START + timedelta(seconds=sent_s)
    assert rating(RATED, timestamp=sent).rated_at == START + timedelta(seconds=at_s)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"quality": 1.5}, "quality: "),
        ({"quality": None}, "quality: "),
        ({"request_id": "x"}, "request_id: "),
        ({"tenant": "A B"}, "tenant: "),
        ({"comment": "x" * 401}, "comment: "),
        ({"qualtiy": 1}, "qualtiy: Extra inputs"),
    ],
    ids=repr,
)
def test_a_bare_rating_that_is_wrong_says_what(changes: dict[str, object], fault: str) -> None:
    with pytest.raises(UndecodableMessage) as raised:
        rating(RATED | changes)
    assert str(raised.value).startswith(f"request.rated: {fault}")

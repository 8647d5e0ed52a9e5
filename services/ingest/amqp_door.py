"""The AMQP door: ``request.submitted[.<priority>[.<tenant>]]``, as bare JSON or as a CloudEvent in binary mode."""

import hashlib
from collections.abc import Collection, Sequence
from typing import Final
from uuid import UUID

import structlog

from services.ingest.admission import Admission
from services.ingest.calls import Process
from services.ingest.directives import HEADER, cache_control
from services.ingest.identity import Identities
from services.ingest.intake import Intake, digest, priority_named, tenant_named
from services.ingest.results import Results
from shared import envelope
from shared.broker import Message
from shared.consumer import published_with
from shared.errors import IdempotencyConflict, InvalidRequest, NotNow, Park
from shared.events import (
    DEFAULT_TENANT,
    CacheControl,
    Event,
    ReplyAddress,
    RequestAccepted,
    RequestRejected,
    RequestSubmitted,
)
from shared.telemetry import metrics

log = structlog.stdlib.get_logger(__name__)
ROUTING_KEY: Final = "routing key"
EXCERPT_CHARS: Final = 200
NUL: Final = ("\x00", "\ufffd")  # PostgreSQL stores none
SUBMITTED_WORDS: Final = 2
# Headers that are added on the way; a message that comes again must not look like another one for them.
ADDED_HEADERS: Final = ("x-", "forebay-")


class AmqpDoor:
    """Turns what clients publish into accepted or rejected requests."""

    def __init__(
        self,
        intake: Intake,
        identities: Identities,
        results: Results,
        admission: Admission,
        process: Process,
        *,
        own_queues: Collection[str],
    ) -> None:
        """``own_queues`` are no reply addresses: a reply there would be work."""
        self._intake = intake
        self._identities = identities
        self._results = results
        self._admission = admission
        self._clock = process.clock
        self._stopping = process.stopping
        self._own_queues = own_queues

    async def submitted(self, message: Message) -> Sequence[Event]:
        """Accept or reject; never fails for what a client sent.

        Raises:
            Park: it has to wait, and is to come again later.
            Overloaded: this process stops before there was room for it.
        """
        reply, tenant = None, DEFAULT_TENANT
        try:
            reply = self._reply_address(message)
            priority, tenant = _addressed(published_with(message))
            event = await self._accept(message, priority, tenant, reply)
        except (Park, NotNow):
            raise
        except InvalidRequest as error:
            metrics.REFUSED.labels("amqp", error.code).inc()
            return (self._rejected(message, tenant, error, reply),)
        except Exception:
            log.exception("the AMQP door failed")
            return (self._rejected(message, tenant, InvalidRequest("this request can't be handled"), reply),)
        metrics.ADMITTED.labels("amqp", event.request.priority).inc()
        return (event,)

    def _reply_address(self, message: Message) -> ReplyAddress | None:
        if not message.reply_to:
            return None
        if message.reply_to in self._own_queues:
            raise InvalidRequest(f"{message.reply_to!r} is a queue of Forebay's own", pointer="reply_to")
        for name, value in (("reply_to", message.reply_to), ("correlation_id", message.correlation_id or "")):
            if not value.isprintable():
                raise InvalidRequest("must be printable text", pointer=name)
        return ReplyAddress(queue=message.reply_to, correlation_id=message.correlation_id)

    async def _accept(
        self, message: Message, priority: str | None, tenant: str, reply: ReplyAddress | None
    ) -> RequestAccepted:
        urgency = priority_named(priority, pointer=ROUTING_KEY)
        _check_type(message)
        said = _cache_control(message)
        submission = self._intake.parse(message.body)
        request_id = self._request_id(message, tenant)
        if self._results.digest_of(request_id) not in (None, digest(submission)):
            raise IdempotencyConflict("this message_id was used before, with another body", pointer="message_id")
        new = self._results.digest_of(request_id) is None and not self._results.finished(request_id)
        if new:  # one that was taken before has had its turn
            await self._admission.admit_later(tenant, urgency, self._stopping, submission.model)
        event = self._intake.accept(
            submission, request_id=request_id, tenant=tenant, priority=urgency, reply=reply, cache_control=said
        )
        self._results.admitted(event.request)
        if new:
            self._admission.took(event.request)
        return event

    def _request_id(self, message: Message, tenant: str) -> UUID:
        key = message.message_id or envelope.attribute(message, "id")
        if key:
            source = envelope.attribute(message, "source") or ""
            return self._identities.derived(tenant, b"amqp", source.encode(), key.encode())
        return self._identities.derived(tenant, b"amqp", fingerprint(message))

    def _rejected(
        self, message: Message, tenant: str, error: InvalidRequest, reply: ReplyAddress | None
    ) -> RequestRejected:
        # A rejection must not end a request that was taken under this key; else it has the id it would have had.
        request_id = self._request_id(message, tenant)
        if self._results.digest_of(request_id) is not None:
            request_id = self._identities.derived(tenant, b"amqp conflict", fingerprint(message))
        return RequestRejected(
            request_id=request_id,
            tenant=tenant,
            code=error.code,
            message=error.message.replace(*NUL),
            pointer=error.pointer.replace(*NUL),
            excerpt=message.body[: 4 * EXCERPT_CHARS].decode(errors="replace").replace(*NUL)[:EXCERPT_CHARS],
            rejected_at=self._clock.now(),
            reply=reply,
        )


def fingerprint(message: Message) -> bytes:
    """SHA-256 of what the sender wrote: body and properties, the same at every redelivery."""
    headers = sorted((k, repr(v)) for k, v in message.headers.items() if not k.startswith(ADDED_HEADERS))
    properties = (
        published_with(message),
        message.message_id,
        message.correlation_id,
        message.reply_to,
        message.app_id,
        message.timestamp and message.timestamp.isoformat(),
        headers,
    )
    return hashlib.sha256(repr(properties).encode() + b"\0" + message.body).digest()


def _addressed(routing_key: str) -> tuple[str | None, str]:
    words = routing_key.split(".")[SUBMITTED_WORDS:]
    if len(words) > SUBMITTED_WORDS:
        raise InvalidRequest(
            f"{routing_key!r} has too many words: use request.submitted[.<priority>[.<tenant>]]", pointer=ROUTING_KEY
        )
    priority, tenant = (*words, None, None)[:2]
    return priority, tenant_named(tenant, pointer=ROUTING_KEY)


def _check_type(message: Message) -> None:
    name = envelope.attribute(message, "type")
    if name not in (None, RequestSubmitted.TYPE):
        raise InvalidRequest(
            f"unknown CloudEvents type {name!r}; this door takes {RequestSubmitted.TYPE}, or none",
            pointer="cloudEvents_type",
        )


def _cache_control(message: Message) -> CacheControl:
    """What the header ``cache-control`` says, in whatever case it is written: overlooking a no-store would keep it."""
    said = [value for name, value in message.headers.items() if name.lower() == HEADER.lower()]
    if not all(isinstance(value, str) for value in said):
        raise InvalidRequest("must be text, such as no-cache or max-age=60", pointer=HEADER.lower())
    return cache_control(", ".join(map(str, said)), pointer=HEADER.lower())

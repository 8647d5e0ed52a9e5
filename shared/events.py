"""Every event that travels between services, as Pydantic models, each with an example.

Names follow the OpenAI API where it has one. Models ignore fields they don't know, so that two versions of a service
can run side by side; only :class:`Submission`, which people write, refuses them. ``docs/asyncapi.json`` is generated
from this module and from ``shared.topology``.
"""

import base64
import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    HttpUrl,
    JsonValue,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    StringConstraints,
    Tag,
    model_validator,
)

from shared.topology import REQUESTS, RESPONSES, Exchange

DEFAULT_TENANT = "default"
AUTO = "auto"

# A tenant or tier is a word of a routing key.
Word = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


def _without_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain NUL characters (U+0000): PostgreSQL cannot store them")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text


Text = Annotated[str, AfterValidator(_without_nul)]
Prompt = Annotated[Text, AfterValidator(_not_blank)]


class Priority(StrEnum):
    """How urgent a request is; a word of its routing key."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


class Model(BaseModel):
    """Base of everything on the wire: immutable, and tolerant of fields a newer version added."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class Turn(Model):
    """One message of a conversation."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Prompt


def _kind_of_input(value: object) -> str | None:
    return "text" if isinstance(value, str) else "turns" if isinstance(value, list | tuple) else None


class WrittenTurn(Turn):
    """A turn as a client writes it: a misspelt field is a mistake."""

    model_config = ConfigDict(extra="forbid")


_INPUT_KIND = Discriminator(
    _kind_of_input,
    custom_error_type="input_type",
    custom_error_message='must be a string, or a list of turns such as {"role": "user", "content": "…"}',
)
Input = Annotated[
    Annotated[Prompt, Tag("text")]
    | Annotated[tuple[WrittenTurn, ...], Field(min_length=1, max_length=200), Tag("turns")],
    _INPUT_KIND,
]
TakenInput = Annotated[Annotated[str, Tag("text")] | Annotated[tuple[Turn, ...], Tag("turns")], _INPUT_KIND]


class Submission(Model):
    """What a client asks for; the body at both doors."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"input": "What is the capital of France?"}]},
    )

    input: Input = Field(description="the prompt, or the turns of a conversation of which the last is the user's")
    instructions: Text | None = Field(None, description="what the model is told about its role, before the input")
    model: str = Field(AUTO, max_length=200, description="auto, a tier of the policy, or a model of the policy")
    max_output_tokens: PositiveInt | None = Field(None, description="tokens the answer may have")
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    metadata: dict[
        Annotated[Text, StringConstraints(max_length=64)], Annotated[Text, StringConstraints(max_length=512)]
    ] = Field(default_factory=dict, max_length=16, description="up to 16 pairs of your own, returned with the result")
    deadline: AwareDatetime | None = Field(None, description="RFC 3339 time after which an answer is of no use")
    webhook_url: HttpUrl | None = Field(None, description="kept with the request; not called in this version")

    @model_validator(mode="after")
    def _ends_with_the_user(self) -> Self:
        if not isinstance(self.input, str) and self.input[-1].role != "user":
            raise ValueError("the last turn of input must have the role user")
        return self

    @property
    def prompt(self) -> str:
        """What is asked: the input, or the last turn of it."""
        return self.input if isinstance(self.input, str) else self.input[-1].content

    @property
    def earlier(self) -> tuple[Turn, ...]:
        """The turns before the prompt."""
        return () if isinstance(self.input, str) else self.input[:-1]


class RequestSubmitted(Submission):
    """The public AMQP door: the body is the submission itself, bare or as a CloudEvent."""

    TYPE: ClassVar[str] = "forebay.request.submitted.v1"
    EXCHANGE: ClassVar[Exchange] = REQUESTS
    PATTERN: ClassVar[str] = "request.submitted.#"


class ReplyAddress(Model):
    """Where an AMQP client wants its terminal event: a queue name, by way of the default exchange."""

    queue: str
    correlation_id: str | None = None


class Request(Submission):
    """A submission that was taken: it has an id and a tenant, and will get exactly one terminal result."""

    model_config = ConfigDict(extra="ignore")

    input: TakenInput  # type: ignore[assignment]  # narrower on writing than on reading, and frozen
    id: UUID
    tenant: Word = DEFAULT_TENANT
    priority: Priority = Priority.INTERACTIVE
    accepted_at: AwareDatetime
    digest: str = Field(description="SHA-256 of the submission, in hexadecimal: tells a repeat from a conflict")
    reply: ReplyAddress | None = None


def encode_vector(vector: Sequence[float]) -> str:
    """An embedding as base64 of little-endian half floats: 2 bytes a dimension, the precision of ``halfvec``."""
    return base64.b64encode(struct.pack(f"<{len(vector)}e", *vector)).decode()


def decode_vector(text: str) -> tuple[float, ...]:
    """The inverse of :func:`encode_vector`."""
    raw = base64.b64decode(text)
    return struct.unpack(f"<{len(raw) // 2}e", raw)


class CacheKey(Model):
    """Where an answer belongs in the cache.

    Attributes:
        scope: digest of everything but the prompt that changes the answer (see services/cache/scope.py).
        exact: digest of scope and normalised prompt.
        embedding: of the prompt, see :func:`encode_vector`; absent when the prompt could not be embedded.
    """

    scope: UUID
    exact: UUID
    prompt: str
    embedding: str | None = None


class Freshness(Model):
    """How long an answer may be reused, and why."""

    category: str
    ttl_s: NonNegativeInt
    reason: str


class Route(Model):
    """What is to run where, and why."""

    tier: Word
    model: str = Field(description="the model's name for litellm, or local/… for the local server")
    score: float | None = Field(None, description="sum of the weights of the signals that fired; null when pinned")
    reasons: tuple[str, ...]


class Usage(Model):
    """Tokens, as the provider counted them."""

    input_tokens: NonNegativeInt
    output_tokens: NonNegativeInt


class CacheHit(Model):
    """The entry an answer came from."""

    entry_id: UUID
    similarity: float = Field(description="cosine similarity of the two prompts; 1 for an exact match")
    match: Literal["exact", "semantic"]
    stored_at: AwareDatetime
    expires_at: AwareDatetime


class Event(Model):
    """Base of all events.

    Attributes:
        TYPE: CloudEvents type; the part after the last dot is the version of the body.
        EXCHANGE: where it is published.
    """

    TYPE: ClassVar[str]
    EXCHANGE: ClassVar[Exchange]
    PATTERN: ClassVar[str]

    @property
    def routing_key(self) -> str:
        """The key it is published with."""
        raise NotImplementedError

    @property
    def subject(self) -> UUID:
        """Id of the request it is about."""
        raise NotImplementedError

    @property
    def owner(self) -> str:
        """The tenant whose request it is about."""
        raise NotImplementedError

    @property
    def reply_address(self) -> ReplyAddress | None:
        """Who else gets a copy; terminal events only."""
        return None


class RequestEvent(Event):
    """Base of the events that take a request along."""

    request: Request

    @property
    def subject(self) -> UUID:
        return self.request.id

    @property
    def owner(self) -> str:
        return self.request.tenant


class TerminalEvent(Event):
    """Base of the events that end a request."""

    request_id: UUID
    tenant: Word = DEFAULT_TENANT
    reply: ReplyAddress | None = None

    @property
    def subject(self) -> UUID:
        return self.request_id

    @property
    def owner(self) -> str:
        return self.tenant

    @property
    def reply_address(self) -> ReplyAddress | None:
        return self.reply


class RequestAccepted(RequestEvent):
    """Validated, has an id and a tenant."""

    TYPE = "forebay.request.accepted.v1"
    EXCHANGE = REQUESTS
    PATTERN = "request.accepted.*"

    @property
    def routing_key(self) -> str:
        return f"request.accepted.{self.request.priority}"


class RequestMissed(RequestEvent):
    """No cached answer."""

    TYPE = "forebay.request.missed.v1"
    EXCHANGE = REQUESTS
    PATTERN = "request.missed"

    key: CacheKey | None = Field(None, description="where the answer goes in the cache; null: nowhere")

    @property
    def routing_key(self) -> str:
        return "request.missed"


class RequestRouted(RequestEvent):
    """What is to run where, and why."""

    TYPE = "forebay.request.routed.v1"
    EXCHANGE = REQUESTS
    PATTERN = "request.routed.*"

    key: CacheKey | None = None
    route: Route
    freshness: Freshness

    @property
    def routing_key(self) -> str:
        return f"request.routed.{self.route.tier}"


class RequestRejected(TerminalEvent):
    """An AMQP submission that can't be taken; its terminal result."""

    TYPE = "forebay.request.rejected.v1"
    EXCHANGE = REQUESTS
    PATTERN = "request.rejected"

    code: str
    message: str = Field(description="what was wrong, and what would be right")
    pointer: str = Field(description="JSON pointer to the offending part of the body, or the name of a header")
    excerpt: str = Field(description="the beginning of the body as it came, for the sender's logs")
    rejected_at: AwareDatetime

    @property
    def routing_key(self) -> str:
        return "request.rejected"


class ResponseCompleted(TerminalEvent):
    """The answer: a request's terminal result."""

    TYPE = "forebay.response.completed.v1"
    EXCHANGE = RESPONSES
    PATTERN = "response.completed.*"

    source: Word = Field(description="cache, coalesced, or the tier that answered")
    output_text: str
    model: str
    tier: Word
    route: Route | None = None
    freshness: Freshness | None = None
    usage: Usage | None = Field(None, description="tokens this request used; null when nothing was bought")
    finish_reason: str | None = None
    cost_usd: NonNegativeFloat = Field(0.0, description="US dollars this request cost at list price")
    saved_usd: NonNegativeFloat = Field(0.0, description="US dollars an answer from elsewhere saved, at list price")
    hit: CacheHit | None = None
    leader_id: UUID | None = Field(None, description="coalesced: the request whose answer this is")
    similarity: float | None = Field(None, description="cosine similarity to the prompt that was answered")
    attempts: PositiveInt = 1
    accepted_at: AwareDatetime
    completed_at: AwareDatetime
    key: CacheKey | None = Field(None, description="of the prompt; null where the cache takes no part")
    metadata: dict[str, str] = Field(default_factory=dict)

    @property
    def routing_key(self) -> str:
        return f"response.completed.{self.source}"

    @property
    def latency_ms(self) -> float:
        """Milliseconds from acceptance to completion."""
        return (self.completed_at - self.accepted_at).total_seconds() * 1000


class ResponseFailed(TerminalEvent):
    """A request's terminal failure."""

    TYPE = "forebay.response.failed.v1"
    EXCHANGE = RESPONSES
    PATTERN = "response.failed.*"

    code: Word
    message: str
    attempts: NonNegativeInt = Field(description="calls made to a provider")
    tier: Word | None = None
    route: Route | None = None
    accepted_at: AwareDatetime | None = None
    failed_at: AwareDatetime
    exact: UUID | None = Field(None, description="exact cache key of the prompt: frees those who wait for its answer")
    metadata: dict[str, str] = Field(default_factory=dict)

    @property
    def routing_key(self) -> str:
        return f"response.failed.{self.code}"


Terminal = ResponseCompleted | ResponseFailed | RequestRejected

EVENTS: dict[str, type[Event]] = {
    event.TYPE: event
    for event in (RequestAccepted, RequestMissed, RequestRouted, RequestRejected, ResponseCompleted, ResponseFailed)
}


def example(event: type[Event]) -> Event:
    """A valid instance of an event type, for documents and tests; raises KeyError for a type that has none."""
    return event.model_validate(_EXAMPLES[event])


_ID = "f4c1a3f2-7f0e-8b5a-9c6d-0a1b2c3d4e5f"
_THEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_LATER = datetime(2026, 1, 2, 3, 4, 7, tzinfo=UTC)
_REQUEST: dict[str, Any] = {
    "id": _ID,
    "tenant": "acme",
    "input": "What is the capital of France?",
    "accepted_at": _THEN,
    "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
}
_KEY: dict[str, JsonValue] = {
    "scope": "5f0c1c6e-1d9c-8f0a-a2f3-3c1f6f2a9b01",
    "exact": "7a1d2b44-92aa-8c11-b0de-55e0c7c0a9d2",
    "prompt": "What is the capital of France?",
    "embedding": encode_vector((0.6, 0.8)),
}
_ROUTE: dict[str, Any] = {
    "tier": "light",
    "model": "gpt-4o-mini",
    "score": -1.0,
    "reasons": ["short: 7 tokens (-1.0)"],
}
_FRESHNESS: dict[str, Any] = {"category": "static", "ttl_s": 604_800, "reason": "no sign of change"}
_EXAMPLES: dict[type[Event], dict[str, Any]] = {
    RequestAccepted: {"request": _REQUEST},
    RequestMissed: {"request": _REQUEST, "key": _KEY},
    RequestRouted: {"request": _REQUEST, "key": _KEY, "route": _ROUTE, "freshness": _FRESHNESS},
    RequestRejected: {
        "request_id": _ID,
        "tenant": "acme",
        "code": "invalid_request",
        "message": "Field required",
        "pointer": "/input",
        "excerpt": '{"inptu": "hello"}',
        "rejected_at": _THEN,
    },
    ResponseCompleted: {
        "request_id": _ID,
        "tenant": "acme",
        "source": "light",
        "output_text": "Paris.",
        "model": "gpt-4o-mini",
        "tier": "light",
        "route": _ROUTE,
        "freshness": _FRESHNESS,
        "usage": {"input_tokens": 14, "output_tokens": 3},
        "finish_reason": "stop",
        "cost_usd": 0.0000039,
        "accepted_at": _THEN,
        "completed_at": _LATER,
        "key": _KEY,
    },
    ResponseFailed: {
        "request_id": _ID,
        "tenant": "acme",
        "code": "rate_limited",
        "message": "the provider refused 5 calls within 60 s (429)",
        "attempts": 5,
        "tier": "light",
        "route": _ROUTE,
        "accepted_at": _THEN,
        "failed_at": _LATER,
    },
}

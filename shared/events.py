"""Every event that travels between services, as Pydantic models, each with an example.

Names follow the OpenAI API where it has one. Models ignore fields they don't know, so that two versions of a service
can run side by side; only :class:`Submission`, which people write, refuses them. ``docs/asyncapi.json`` is generated
from this module and from ``shared.topology``.
"""

import json
import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, Self
from uuid import UUID, uuid5

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

from shared.topics import term
from shared.topology import REQUESTS, RESPONSES, SIGNALS, Exchange

DEFAULT_TENANT = "default"
AUTO = "auto"
LONGEST_TTL_S = 10 * 365 * 86_400
LONGEST_TOPIC_S = 7 * 86_400

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


def _distinctive(text: str) -> str:
    if not term(text):
        raise ValueError("has no word that tells some prompts from others")
    return text


# Far more than anything costs: sums of them are finite, and PostgreSQL can keep them.
Dollars = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Text = Annotated[str, AfterValidator(_without_nul)]
Prompt = Annotated[Text, AfterValidator(_not_blank)]
# Of an answer: 0 is useless, 1 as good as can be.
Quality = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Comment = Annotated[Text, StringConstraints(max_length=400)]
# Each entry that is compared with it is gone through for all of its words.
Topic = Annotated[str, StringConstraints(max_length=1000), AfterValidator(_without_nul), AfterValidator(_not_blank)]


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


def _plain_json(value: JsonValue) -> JsonValue:
    """JSON that travels unchanged and that PostgreSQL can store: no NUL, and finite numbers only."""
    match value:
        case str():
            _without_nul(value)
        case float() if not math.isfinite(value):
            raise ValueError("must not contain numbers that are not finite")
        case list():
            for item in value:
                _plain_json(item)
        case dict():
            for name, item in value.items():
                _without_nul(name)
                _plain_json(item)
        case _:
            pass
    return value


class OutputFormat(Model):
    """What an answer must look like, as in the Responses API."""

    model_config = ConfigDict(serialize_by_alias=True)

    type: Literal["text", "json_object", "json_schema"]
    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")] | None = Field(
        None, description="json_schema only: what the model is told the schema is called"
    )
    json_schema: Annotated[dict[str, JsonValue], AfterValidator(_plain_json)] | None = Field(
        None, alias="schema", description="json_schema only: the JSON Schema; the provider checks it"
    )
    strict: bool | None = Field(None, description="json_schema only: whether the model is held to the schema exactly")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        said = {"name": self.name, "schema": self.json_schema, "strict": self.strict}
        if self.type != "json_schema":
            if extra := [name for name, value in said.items() if value is not None]:
                raise ValueError(f"{', '.join(extra)}: only with the type json_schema, not with {self.type}")
        elif missing := [name for name in ("name", "schema") if said[name] is None]:
            raise ValueError(f"json_schema needs {' and '.join(missing)}")
        return self


class OutputText(Model):
    """How the text of an answer is to be given."""

    format: OutputFormat


class WrittenFormat(OutputFormat):
    """A format as a client writes it: a misspelt field is a mistake."""

    model_config = ConfigDict(extra="forbid")


class WrittenText(OutputText):
    """The same, as a client writes it."""

    model_config = ConfigDict(extra="forbid")

    format: WrittenFormat


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
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = Field(
        None, description="nucleus sampling: tokens are drawn from the likeliest that make up this share"
    )
    text: WrittenText | None = Field(
        None, description='what the answer must look like, such as {"format": {"type": "json_object"}}'
    )
    metadata: dict[
        Annotated[Text, StringConstraints(max_length=64)], Annotated[Text, StringConstraints(max_length=512)]
    ] = Field(default_factory=dict, max_length=16, description="up to 16 pairs of your own, returned with the result")
    deadline: AwareDatetime | None = Field(
        None,
        description="RFC 3339 time after which an answer is of no use; where the operator's policy says so, one in a "
        "surge may have some minutes more",
    )
    firm_deadline: bool = Field(False, description="true: the deadline is kept in a surge too")
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

    @property
    def output_format(self) -> OutputFormat | None:
        """What the answer must look like; None where plain text will do, said or not."""
        return None if self.text is None or self.text.format.type == "text" else self.text.format


class RequestSubmitted(Submission):
    """The public AMQP door: the body is the submission itself, bare or as a CloudEvent."""

    TYPE: ClassVar[str] = "forebay.request.submitted.v1"
    EXCHANGE: ClassVar[Exchange] = REQUESTS
    PATTERN: ClassVar[str] = "request.submitted.#"


class ReplyAddress(Model):
    """Where an AMQP client wants its terminal event: a queue name, by way of the default exchange."""

    queue: str
    correlation_id: str | None = None


class CacheControl(Model):
    """What a caller says about the cache (RFC 9111, section 5.2.1)."""

    no_cache: bool = Field(False, description="the answer must be bought, and may be kept for others")
    no_store: bool = Field(False, description="the answer must not be kept; one that is kept already will do")
    max_age_s: NonNegativeInt | None = Field(None, description="seconds an earlier answer may be old at the most")


class Request(Submission):
    """A submission that was taken: it has an id and a tenant, and will get exactly one terminal result."""

    model_config = ConfigDict(extra="ignore")

    input: TakenInput  # type: ignore[assignment]  # narrower on writing than on reading, and frozen
    text: OutputText | None = None  # type: ignore[assignment]  # as above
    id: UUID
    tenant: Word = DEFAULT_TENANT
    priority: Priority = Priority.INTERACTIVE
    accepted_at: AwareDatetime
    digest: str = Field(description="SHA-256 of the submission, in hexadecimal: tells a repeat from a conflict")
    reply: ReplyAddress | None = None
    cache_control: CacheControl = CacheControl()
    replay: NonNegativeInt = Field(
        0, description="how often it was run anew after a failure; a result of an earlier run counts no more"
    )

    def seconds_left(self, now: datetime) -> float:
        """Seconds until its deadline; infinite where it has none."""
        return math.inf if self.deadline is None else (self.deadline - now).total_seconds()

    @property
    def carried(self) -> dict[str, Any]:
        """What its result takes over from it, by the names it has there."""
        return {
            "request_id": self.id,
            "tenant": self.tenant,
            "accepted_at": self.accepted_at,
            "reply": self.reply,
            "replay": self.replay,
            "metadata": self.metadata,
        }


class CacheKey(Model):
    """Where an answer belongs in the cache.

    Attributes:
        scope: digest of everything but the prompt that changes the answer (see services/cache/scope.py).
        exact: digest of scope and prompt.
        base: digest of what the scope is made of, without the embedder: lets entries move to another embedder. Absent
            from what an earlier version announced: such an answer is neither kept nor shared.
        embedder: version of the model that makes the embedding.
        prompt: normalised.
        embedding: of the prompt, base64 of little-endian half floats; absent when the prompt could not be embedded.
    """

    scope: UUID
    exact: UUID
    base: UUID | None = None
    embedder: str = ""
    prompt: str
    embedding: str | None = None


class Freshness(Model):
    """How long an answer may be reused, and why.

    Attributes:
        max_age_s: of the request's ``Cache-Control``, where it made ``ttl_s`` shorter than the category's. The reason
            does not tell of it: an entry keeps that when its answer is refreshed, with the category's own time.
    """

    category: str
    ttl_s: NonNegativeInt
    reason: str
    max_age_s: NonNegativeInt | None = Field(
        None, description="of the request's Cache-Control, where it made ttl_s shorter than the category's"
    )


# The steps of the brownout ladder, in their order: what is given up first comes first.
BrownoutStep = Literal["cheaper_tier", "stale_answers", "longer_deadline", "shed_bulk"]


class BrownoutNote(Model):
    """A step of the brownout ladder that touched a request, or holds while it waits."""

    step: BrownoutStep
    tier: Word = Field(description="whose queue was too old")
    age_s: NonNegativeFloat = Field(description="seconds that what was started there had waited")
    detail: str = Field("", description="what the step did, for people")


class Route(Model):
    """What is to run where, and why."""

    tier: Word
    model: str = Field(description="the model's name for litellm, or local/… for the local server")
    score: float | None = Field(None, description="what the scorer said of the prompt; null when pinned")
    scorer: str | None = Field(None, description="rules, or the version of a learned head; null when pinned")
    chance: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="part of the requests with this score that runs at this tier, which the request's id decides; null "
        "when pinned, or moved for trouble or a limit",
    )
    reasons: tuple[str, ...]
    shadow_tier: Word | None = Field(None, description="where the policy that is tried out would have run it")
    lowered: BrownoutNote | None = Field(None, description="in a brownout: why it is not the tier that was decided")


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


class CacheVerdict(Model):
    """What the cache decided about a request, and why."""

    tier: Literal["exact", "in_flight", "semantic", "miss", "bypass"] = Field(
        description="where the answer came from; bypass: the cache was not asked"
    )
    reason: str = Field(description="why: 'same prompt', 'verified', or what spoke against the nearest entry")
    similarity: float | None = Field(None, description="cosine similarity to the prompt of the nearest entry")
    risk: float | None = Field(None, description="estimated probability that the nearest entry's answer is wrong here")
    entry_id: UUID | None = Field(None, description="the nearest entry, or the leader in flight")
    age_s: NonNegativeInt | None = Field(None, description="seconds since the entry was stored")


class Evidence(Model):
    """What was known of a candidate when it was decided; what the learned threshold learns from.

    Attributes:
        similarity: cosine similarity of the two prompts.
        objected: whether the verifier advises against it; what it forbids gets no further.
        agreeing: how strongly the near entries speak for its answer; None where nobody looked.
        opposing: how strongly they speak for other answers.
        good: findings that its answer, or one that says the same, was right for another prompt.
        bad: findings that it was wrong.
        entries: about how many entries there are; None where nobody counted.
        category: of freshness.
    """

    similarity: float
    objected: bool = False
    agreeing: float | None = None
    opposing: float | None = None
    good: NonNegativeInt = 0
    bad: NonNegativeInt = 0
    entries: NonNegativeInt | None = None
    category: str = ""


class Event(Model):
    """Base of all events.

    Attributes:
        TYPE: CloudEvents type; the part after the last dot is the version of the body.
        EXCHANGE: where it is published.
        MANDATORY: whether it is a mistake that no queue takes it; not for what only those who are there want to hear.
    """

    TYPE: ClassVar[str]
    EXCHANGE: ClassVar[Exchange]
    MANDATORY: ClassVar[bool] = True
    PATTERN: ClassVar[str]

    @property
    def routing_key(self) -> str:
        """The key it is published with: its pattern, where that has no wildcard."""
        return self.PATTERN

    @property
    def subject(self) -> UUID:
        """Id of the request it is about."""
        raise NotImplementedError

    @property
    def owner(self) -> str:
        """The tenant whose request it is about."""
        raise NotImplementedError

    @property
    def run(self) -> int:
        """Which run of the request it belongs to: 0 for the one the client asked for, 1 for the first replay."""
        return 0

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

    @property
    def run(self) -> int:
        return self.request.replay

    @property
    def exact(self) -> UUID | None:
        """Exact cache key of its prompt; None where nobody can wait for its answer."""
        return None


class ReplicaEvent(Event):
    """Base of what replicas tell each other: it is of no tenant, and no mistake where nobody is there to hear it."""

    MANDATORY = False

    @property
    def owner(self) -> str:
        return ""


class AboutRequest(Event):
    """Base of the events that name a request without taking it along."""

    request_id: UUID
    tenant: Word = DEFAULT_TENANT

    @property
    def subject(self) -> UUID:
        return self.request_id

    @property
    def owner(self) -> str:
        return self.tenant


class TerminalEvent(AboutRequest):
    """Base of the events that end a request."""

    reply: ReplyAddress | None = None
    replay: NonNegativeInt = Field(0, description="of the request: which run this is the result of")

    @property
    def run(self) -> int:
        return self.replay

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


class KeyedEvent(RequestEvent):
    """Base of what the cache passes on.

    Attributes:
        key: where the answer goes in the cache; null: nowhere.
        verdict: what the cache decided, and why.
    """

    key: CacheKey | None = Field(None, description="where the answer goes in the cache; null: nowhere")
    verdict: CacheVerdict | None = None

    @property
    def exact(self) -> UUID | None:
        return self.key.exact if self.key else None


class RequestMissed(KeyedEvent):
    """No cached answer."""

    TYPE = "forebay.request.missed.v1"
    EXCHANGE = REQUESTS
    PATTERN = "request.missed"


class Attempt(Model):
    """A call to a provider that failed."""

    lane: str
    code: str = Field(description="class of the error: docs/errors.md")
    message: str
    at: AwareDatetime


class Cascaded(Model):
    """What came of trying cheaper tiers first."""

    first: tuple[Word, ...] = Field(description="the tiers that were tried")
    verdict: Literal["agreed", "differed", "valid", "invalid", "failed"] = Field(
        description="of the check; failed: there were not enough answers to check. After agreed and valid the answer "
        "is theirs, after the others that of the request's own tier"
    )
    calls: NonNegativeInt = Field(description="to their providers; they don't count as attempts of the request's tier")
    cost_usd: NonNegativeFloat = Field(description="US dollars of these calls at list price")

    @property
    def passed(self) -> bool:
        """Whether the answer is theirs."""
        return self.verdict in ("agreed", "valid")


class RequestRouted(KeyedEvent):
    """What is to run where, and why.

    Attributes:
        attempts: calls that failed before this one was put aside for later.
        calls: how many there were; more than are listed, where there were many.
        faults: of these, those that failed for other reasons than the provider's rate limit.
        cascade: what came of cheaper tiers before it was put aside: they are not tried again.
        brownout: steps of the brownout ladder that have touched it.
        more_time_s: that it has beyond its deadline, in a brownout.
    """

    TYPE = "forebay.request.routed.v1"
    EXCHANGE = REQUESTS
    PATTERN = "request.routed.*"

    route: Route
    freshness: Freshness
    attempts: tuple[Attempt, ...] = ()
    calls: NonNegativeInt = 0
    faults: NonNegativeInt = 0
    cascade: Cascaded | None = None
    brownout: tuple[BrownoutNote, ...] = ()
    more_time_s: NonNegativeInt = 0

    @property
    def routing_key(self) -> str:
        return f"request.routed.{self.route.tier}"

    def seconds_left(self, now: datetime) -> float:
        """Seconds in which an answer is still wanted; infinite where it has no deadline."""
        return self.request.seconds_left(now) + self.more_time_s


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


class RequestCancelled(AboutRequest):
    """Stop before spending: whoever meets the request before a provider is called ends it as cancelled."""

    TYPE = "forebay.request.cancelled.v1"
    EXCHANGE = REQUESTS
    MANDATORY = False  # what a client asks for is: see services/ingest/http_door.py
    PATTERN = "request.cancelled"

    cancelled_at: AwareDatetime


class RequestDropped(AboutRequest):
    """A failed request is off the list of failures; its failure stays its result."""

    TYPE = "forebay.request.dropped.v1"
    EXCHANGE = REQUESTS
    PATTERN = "request.dropped"

    replay: NonNegativeInt = Field(0, description="the run that failed; a later one that fails is listed again")
    dropped_at: AwareDatetime

    @property
    def run(self) -> int:
        return self.replay


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
    usage: Usage | None = Field(None, description="tokens this answer used; null when nothing was bought")
    finish_reason: str | None = None
    cost_usd: Dollars = Field(
        0.0, description="US dollars this request cost at list price, those of its cascade included"
    )
    saved_usd: Dollars = Field(0.0, description="US dollars an answer from elsewhere saved, at list price")
    verdict: CacheVerdict | None = Field(None, description="what the cache decided, and why")
    hit: CacheHit | None = None
    leader_id: UUID | None = Field(None, description="coalesced: the request whose answer this is")
    similarity: float | None = Field(None, description="cosine similarity to the prompt that was answered")
    attempts: PositiveInt = 1
    lane: str | None = Field(None, description="that answered; null when nothing was bought")
    failures: tuple[Attempt, ...] = Field((), description="calls that failed before: the first, and the latest")
    cascade: Cascaded | None = Field(None, description="what came of trying cheaper tiers first; null where none was")
    brownout: tuple[BrownoutNote, ...] = Field((), description="steps of the brownout ladder that touched it")
    accepted_at: AwareDatetime
    completed_at: AwareDatetime
    key: CacheKey | None = Field(None, description="of the prompt; null where the cache takes no part")
    metadata: dict[str, str] = Field(default_factory=dict)

    @property
    def routing_key(self) -> str:
        return f"response.completed.{self.source}"

    @property
    def answer_of(self) -> UUID | None:
        """The entry, or the leader in flight, whose answer this is; None for one that was bought for this request."""
        return self.hit.entry_id if self.hit else self.leader_id

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
    failures: tuple[Attempt, ...] = Field((), description="these calls: the first, and the latest")
    tier: Word | None = None
    route: Route | None = None
    brownout: tuple[BrownoutNote, ...] = Field((), description="steps of the brownout ladder that touched it")
    accepted_at: AwareDatetime | None = None
    failed_at: AwareDatetime
    exact: UUID | None = Field(None, description="exact cache key of the prompt: frees those who wait for its answer")
    prompt_at_fault: bool = Field(False, description="whether the same prompt would fail again for anybody")
    metadata: dict[str, str] = Field(default_factory=dict)

    @property
    def routing_key(self) -> str:
        return f"response.failed.{self.code}"


# The code of a request that ended because its client cancelled it.
CANCELLED = "cancelled"


class ResponseLate(AboutRequest):
    """An answer that came after its request's deadline: the request has failed, and this was paid all the same."""

    TYPE = "forebay.response.late.v1"
    EXCHANGE = RESPONSES
    MANDATORY = False
    PATTERN = "response.late"

    tenant: Word
    tier: Word
    lane: str
    usage: Usage
    cost_usd: NonNegativeFloat
    completed_at: AwareDatetime


Result = ResponseCompleted | ResponseFailed
Terminal = Result | RequestRejected


class ShadowRequested(RequestEvent):
    """A call nobody waits for, on behalf of the cache: to audit a hit, or to refresh an entry.

    Attributes:
        request: the client's, under an id of its own, in bulk, without a reply address.
        key: of the request's prompt.
        hit: the entry in question.
        expected: its answer.
        evidence: what the hit was decided on; audits only.
        sampled: probability with which this hit was picked for an audit; 1 for a refresh.
    """

    TYPE = "forebay.request.shadowed.v1"
    EXCHANGE = REQUESTS
    PATTERN = "request.shadowed"

    purpose: Literal["audit", "refresh"]
    key: CacheKey
    tier: Word
    freshness: Freshness
    hit: CacheHit
    expected: str
    evidence: Evidence | None = None
    sampled: Annotated[float, Field(gt=0, le=1)] = 1.0


class ShadowCompleted(Event):
    """The answer to such a call."""

    TYPE = "forebay.response.shadowed.v1"
    EXCHANGE = RESPONSES
    PATTERN = "response.shadowed.*"

    shadow: ShadowRequested
    output_text: str
    model: str
    usage: Usage
    cost_usd: Dollars = 0.0
    completed_at: AwareDatetime

    @property
    def routing_key(self) -> str:
        return f"response.shadowed.{self.shadow.purpose}"

    @property
    def subject(self) -> UUID:
        return self.shadow.request.id

    @property
    def owner(self) -> str:
        return self.shadow.request.tenant


class CacheAudited(Event):
    """Whether an entry's answer was right for a prompt: what the learned threshold learns from.

    Attributes:
        kind: ``audit``: a served hit was also run. ``free``: the entry was near, was not served, and the request was
            run anyway. ``feedback``: somebody said that a hit was wrong.
        served: whether the entry's answer was given to the client.
        same: whether it says the same as the fresh answer.
        agreement: how much the two answers agree, 0 to 1.
        sampled: probability with which such a case is looked at (Horvitz-Thompson weight: its inverse).
    """

    TYPE = "forebay.cache.audited.v1"
    EXCHANGE = SIGNALS
    PATTERN = "cache.audited"

    audit_id: UUID
    kind: Literal["audit", "free", "feedback"]
    tenant: Word
    request_id: UUID
    scope: UUID
    entry_id: UUID
    evidence: Evidence
    served: bool
    same: bool
    agreement: float
    sampled: Annotated[float, Field(gt=0, le=1)]
    audited_at: AwareDatetime

    @property
    def subject(self) -> UUID:
        return self.audit_id

    @property
    def owner(self) -> str:
        return self.tenant


class CacheFilled(Event):
    """An entry that no client's request was run for: a refreshed answer, one that was brought along, or one that
    moves to another embedder under its own id and with its own time.
    """

    TYPE = "forebay.cache.filled.v1"
    EXCHANGE = SIGNALS
    PATTERN = "cache.filled"

    entry_id: UUID
    tenant: Word
    origin: Literal["audit", "refresh", "warm", "reembed", "late"] = Field(
        description="reembed: an older entry, for another embedder; late: answered after the request's deadline"
    )
    key: CacheKey
    output_text: str
    model: str
    tier: Word
    freshness: Freshness
    cost_usd: Dollars = 0.0
    completed_at: AwareDatetime

    @property
    def subject(self) -> UUID:
        return self.entry_id

    @property
    def owner(self) -> str:
        return self.tenant


class CacheWarm(RequestEvent):
    """An answer brought along, to become an entry; ``forebay cache warm`` publishes these."""

    TYPE = "forebay.cache.warm.v1"
    EXCHANGE = SIGNALS
    PATTERN = "cache.warm"

    output_text: Prompt
    answered_by: str = Field("imported", max_length=200, description="the model's name")
    tier: Word
    category: str | None = Field(None, description="of freshness; null: the policy's default")
    cost_usd: Dollars = Field(0.0, description="US dollars a hit saves")


class Selector(Model):
    """Which cache entries are meant: those that meet all conditions given; at least one must be."""

    model_config = ConfigDict(extra="forbid")

    entry_id: UUID | None = None
    prompt: Prompt | None = Field(None, description="the very prompt, whatever the instructions and the model")
    topic: Topic | None = Field(None, description="prompts in which each of these words occurs, in any case and order")
    scope: UUID | None = None
    tenant: Word | None = None
    model: Text | None = Field(None, description="the model that answered, or its tier")
    category: Text | None = Field(None, description="of freshness")
    older_than_s: Annotated[NonNegativeInt, Field(le=LONGEST_TTL_S)] | None = Field(
        None, description="seconds since the answer was stored"
    )
    everything: Literal[True] | None = Field(None, description="true: all entries, where no other condition is given")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set or all(value is None for _, value in self):
            raise ValueError("an empty selector: name at least one of " + ", ".join(type(self).model_fields))
        return self


class CacheInvalidate(Event):
    """Forget cache entries. Anybody may publish one to ``forebay.signals``; ingest does for its clients.

    Entries stored up to ``invalidated_at`` go, also those still on their way into the table.
    """

    TYPE = "forebay.cache.invalidate.v1"
    EXCHANGE = SIGNALS
    PATTERN = "cache.invalidate"

    invalidation_id: UUID
    selector: Selector
    reason: Annotated[Text, StringConstraints(max_length=500)]
    invalidated_at: AwareDatetime

    @property
    def subject(self) -> UUID:
        return self.invalidation_id

    @property
    def owner(self) -> str:
        return self.selector.tenant or ""


# Words or a phrase; a prompt in which each of these words occurs concerns the topic.
Term = Annotated[str, StringConstraints(max_length=200), AfterValidator(_without_nul), AfterValidator(_distinctive)]
Terms = Annotated[tuple[Term, ...], Field(min_length=1, max_length=50)]


def topic_id(terms: Sequence[str], tenant: str | None) -> UUID:
    """The id of a topic: the same whoever announces it, and in whatever order and spelling its terms are."""
    said = sorted({term(each) or (each,) for each in terms})
    return uuid5(_TOPICS, json.dumps([tenant, said]))


_TOPICS = UUID("6d3c0f5e-20f1-5a0b-9c44-7e1d0a5b8c11")


class TopicCounts(Model):
    """What a replica of trends counted for one tenant; the empty name stands for all tenants together."""

    tenant: str = Field(pattern=r"^([a-z0-9][a-z0-9_-]{0,63})?$")
    requests: NonNegativeInt
    keys: dict[str, PositiveInt]


class TopicCounted(ReplicaEvent):
    """What one replica of trends counted in about a second; every replica adds what all of them counted."""

    TYPE = "forebay.topic.counted.v1"
    EXCHANGE = SIGNALS
    PATTERN = "topic.counted"

    batch_id: UUID
    counts: tuple[TopicCounts, ...]
    counted_at: AwareDatetime

    @property
    def subject(self) -> UUID:
        return self.batch_id


class TopicEvent(Event):
    """Base of what is said about a topic.

    Attributes:
        terms: a prompt concerns the topic in which all words of one of these occur, in any order and form.
        tenant: whose prompts and answers it is about; null: everybody's.
    """

    terms: Terms
    tenant: Word | None = None
    reason: Annotated[Text, StringConstraints(max_length=500)] = ""

    @property
    def topic_id(self) -> UUID:
        """The same for whoever announces it."""
        return topic_id(self.terms, self.tenant)

    @property
    def subject(self) -> UUID:
        return self.topic_id

    @property
    def owner(self) -> str:
        return self.tenant or ""


class TopicTrending(TopicEvent):
    """A topic is asked for far more than usual, or somebody says so: older answers about it are not served.

    It is announced again and again while it holds, so that a lost one heals and whoever starts knows it in seconds;
    without another it ends by itself at ``until``. Anybody may publish one to ``forebay.signals``; ingest does for its
    clients.

    Attributes:
        origin: ``detected`` in the stream of requests; ``told`` from outside; ``repeated`` by trends for who told it.
        score: how many times its usual share the topic has; null where it was not counted.
        until: it ends then, unless it is announced again.
        told_until: with what is repeated, the end that was told: whoever repeats it is to go on until then.
    """

    TYPE = "forebay.topic.trending.v1"
    EXCHANGE = SIGNALS
    MANDATORY = False  # what is told by a client is: see services/ingest/topic_door.py
    PATTERN = "topic.trending"

    origin: Literal["detected", "told", "repeated"] = "told"
    score: NonNegativeFloat | None = None
    since: AwareDatetime
    until: AwareDatetime
    told_until: AwareDatetime | None = None

    def ends(self, now: datetime) -> datetime:
        """When it ends by itself for who hears it now: whatever its sender wrote, no later than any client may ask."""
        return min(self.until, now + timedelta(seconds=LONGEST_TOPIC_S))


class TopicSettled(TopicEvent):
    """A topic trends no more: older answers about it are served again.

    Attributes:
        origin: ``detected`` in the stream of requests, or ``told`` from outside: then it is not detected for a while.
    """

    TYPE = "forebay.topic.settled.v1"
    EXCHANGE = SIGNALS
    MANDATORY = False  # what is told by a client is: see services/ingest/topic_door.py
    PATTERN = "topic.settled"

    origin: Literal["detected", "told"] = "told"
    settled_at: AwareDatetime


class RequestRated(Event):
    """How good somebody finds the answer to a request: what a learned head can be trained on. Anybody may publish one
    to ``forebay.signals``; ingest does for its clients. A tenant's last word on a request counts.
    """

    TYPE = "forebay.request.rated.v1"
    EXCHANGE = SIGNALS
    PATTERN = "request.rated"

    rating_id: UUID
    request_id: UUID
    tenant: Word = DEFAULT_TENANT
    quality: Quality = Field(description="0: useless, 1: as good as can be")
    comment: Comment = ""
    rated_at: AwareDatetime

    @property
    def subject(self) -> UUID:
        return self.rating_id

    @property
    def owner(self) -> str:
        return self.tenant


class RouterScored(ReplicaEvent):
    """What a replica of the router has counted since it last said so; counts of all replicas add up.

    Attributes:
        scorer: ``rules``, or the version of a learned head.
        scores: requests by their score, in thousandths.
        neutral: requests about which the scorer knows nothing.
    """

    TYPE = "forebay.router.scored.v1"
    EXCHANGE = SIGNALS
    PATTERN = "router.scored"

    delta_id: UUID
    scorer: str
    scores: dict[int, PositiveInt]
    neutral: NonNegativeInt = 0

    @property
    def subject(self) -> UUID:
        return self.delta_id


class Counted(Model):
    """What one replica saw of one limit of a lane (calls, or tokens) since it last said so; over replicas it adds up.

    Attributes:
        accepted: what the provider took.
        held_back: calls of those that had waited for the pace: only this says that more may be tried.
        refused: what it refused.
        learned: per second, this replica's view of what the provider gives; null while it never refused.
        told: per second, as the provider's headers say; null where they say nothing.
    """

    accepted: NonNegativeFloat = 0.0
    held_back: NonNegativeFloat = 0.0
    refused: NonNegativeFloat = 0.0
    learned: Annotated[float, Field(gt=0)] | None = None
    told: Annotated[float, Field(gt=0)] | None = None


class LaneReport(Model):
    """What one replica says of one lane.

    Attributes:
        wants: calls per second that it could make.
    """

    wants: NonNegativeFloat
    calls: Counted = Counted()
    tokens: Counted = Counted()


class LaneReported(ReplicaEvent):
    """What one replica of inference saw of its lanes in about a second, and what it wants of them.

    Attributes:
        replica: who says so.
        lanes: by name.
        leaving: it ends, and wants nothing any more.
    """

    TYPE = "forebay.lane.reported.v1"
    EXCHANGE = SIGNALS
    PATTERN = "lane.reported"

    report_id: UUID
    replica: UUID
    lanes: dict[str, LaneReport]
    leaving: bool = False

    @property
    def subject(self) -> UUID:
        return self.report_id


class LaneThrottled(ReplicaEvent):
    """A provider said "slow down", or nothing at all: every replica leaves the lane alone until then.

    Attributes:
        lane: its name in the policy; of a tier with one model, that model.
        until: when to try again; null takes an earlier word back: all is well.
    """

    TYPE = "forebay.lane.throttled.v1"
    EXCHANGE = SIGNALS
    PATTERN = "lane.throttled"

    signal_id: UUID
    lane: str
    until: AwareDatetime | None = None
    reason: Annotated[str, StringConstraints(max_length=500)] = ""
    broken: bool = Field(False, description="its circuit breaker is open: after that time a single call is to try it")
    by: UUID | None = Field(None, description="the replica of inference that says so; null for anybody else")

    @property
    def subject(self) -> UUID:
        return self.signal_id


class QueueReport(Model):
    """What one replica of inference saw of the queue of one tier in about a second.

    Attributes:
        started: requests whose turn came: a provider took them, or has them.
        waited_s: seconds since acceptance, of the median of the interactive ones that were no replay; null: none.
        waiting: requests that this replica holds and that wait.
    """

    started: NonNegativeInt = 0
    waited_s: NonNegativeFloat | None = None
    waiting: NonNegativeInt = 0


class QueueReported(ReplicaEvent):
    """What one replica of inference saw of the queues of its tiers in about a second, where there was something to see:
    what ingest measures their age by, and counts among those who wait.

    Attributes:
        replica: who says so.
        tiers: by name.
    """

    TYPE = "forebay.queue.reported.v1"
    EXCHANGE = SIGNALS
    PATTERN = "queue.reported"

    report_id: UUID
    replica: UUID
    tiers: dict[Word, QueueReport]

    @property
    def subject(self) -> UUID:
        return self.report_id


class QueueAged(ReplicaEvent):
    """How old the queues of the tiers are: what the brownout ladder goes by. Each replica of ingest says so every
    second while there is an age, and once when there is none any more.

    Attributes:
        replica: who says so.
        ages: by tier, seconds that what is started now has waited since it was accepted; a tier that is not named has
            no age.
    """

    TYPE = "forebay.queue.aged.v1"
    EXCHANGE = SIGNALS
    PATTERN = "queue.aged"

    telling_id: UUID
    replica: UUID
    ages: dict[Word, NonNegativeFloat]

    @property
    def subject(self) -> UUID:
        return self.telling_id


EVENTS: dict[str, type[Event]] = {
    event.TYPE: event
    for event in (
        *(RequestAccepted, RequestMissed, RequestRouted, RequestRejected, ShadowRequested),
        *(RequestCancelled, RequestDropped),
        *(ResponseCompleted, ResponseFailed, ResponseLate, ShadowCompleted),
        *(CacheAudited, CacheFilled, CacheWarm, CacheInvalidate),
        *(RouterScored, LaneReported, LaneThrottled),
        *(QueueReported, QueueAged),
        RequestRated,
        *(TopicCounted, TopicTrending, TopicSettled),
    )
}

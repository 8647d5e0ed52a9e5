"""What clients may say about cache entries: forget these, and this answer was wrong."""

from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Final, Literal, Self
from uuid import UUID, uuid4, uuid5

import structlog
from fastapi import FastAPI
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from services.ingest.answers import answer_to
from services.ingest.calls import TENANT, Process, TenantHeader, body_of, carries, responses
from services.ingest.entries import Entries, Example, Meant, Origin, Served
from services.ingest.identity import Identities
from services.ingest.intake import Intake, parsed, tenant_named
from services.ingest.results import Results
from shared import envelope
from shared.database import DatabaseUnavailable
from shared.events import CacheAudited, CacheInvalidate, Comment, Event, Evidence, ResponseCompleted, Selector, Text
from shared.telemetry import metrics, tracing

log = structlog.stdlib.get_logger(__name__)
NO_REASON: Final = "no reason given"


class OwnSelector(Selector):
    """Which of a tenant's own entries are meant: those that meet all conditions given; at least one must be."""

    tenant: SkipJsonSchema[None] = None

    @field_validator("tenant", mode="before")
    @classmethod
    def _is_in_the_header(cls, _: object) -> None:
        raise ValueError(f"leave it out: the entries are those of the tenant in the header {TENANT}")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        said = self.model_dump(exclude_none=True)
        if not said:
            conditions = ", ".join(name for name in OwnSelector.model_fields if name not in ("tenant", "everything"))
            raise ValueError(
                f'an empty selector: give at least one of {conditions}, or {{"everything": true}} for all of them'
            )
        if self.everything and len(said) > 1:
            raise ValueError("everything goes with no other condition: give one or the other")
        return self


class Forget(BaseModel):
    """Entries to forget."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"selector": {"topic": "opening hours"}, "reason": "new hours from May", "dry_run": True}]
        },
    )

    selector: OwnSelector
    reason: Annotated[Text, StringConstraints(max_length=500)] = Field(NO_REASON, description="kept with the record")
    dry_run: bool = Field(False, description="true: only say which entries would go")


class Forgotten(BaseModel):
    """The entries that are to go, or would."""

    object: Literal["cache.invalidation"] = "cache.invalidation"
    dry_run: bool
    invalidation_id: UUID | None = Field(None, description="null for a dry run")
    entries: int | None = Field(description="as of now; null where PostgreSQL can't be asked: they go all the same")
    oldest: AwareDatetime | None = None
    newest: AwareDatetime | None = None
    examples: list[Example] = Field(description="up to ten, newest first")


class FeedbackGiven(BaseModel):
    """What a client thinks of an answer."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"verdict": "wrong_hit", "comment": "that is last year's"}]}
    )

    verdict: Literal["wrong_hit"] = Field(description="wrong_hit: the cache's answer does not answer this prompt")
    comment: Comment = ""
    hours: Annotated[int, Field(ge=1, le=720)] = Field(
        24, description="how far back to look for others it was given to"
    )


class FeedbackTaken(BaseModel):
    """The entry that goes, and who else was given its answer."""

    object: Literal["cache.feedback"] = "cache.feedback"
    entry_id: UUID
    removed: Literal[True] = True
    served: list[Served] | None = Field(
        description="up to a thousand of this tenant's requests, newest first; null where they can't be listed now"
    )
    others: int | None = Field(description="requests of other tenants, in a pool that shares its answers")


class CacheDoor:
    """Takes invalidations and feedback over HTTP; a tenant can only touch what is its own, or was served to it."""

    def __init__(
        self, intake: Intake, identities: Identities, results: Results, entries: Entries, process: Process
    ) -> None:
        self._intake = intake
        self._identities = identities
        self._results = results
        self._entries = entries
        self._broker = process.broker
        self._clock = process.clock

    def register(self, app: FastAPI) -> None:
        """Add these calls to the API."""
        app.post(
            "/v1/cache/invalidate",
            status_code=HTTPStatus.ACCEPTED,
            response_model=Forgotten,
            responses=responses(
                Forgotten,
                {200: "dry run: what would go", 202: "on its way: the entries go from memory and from the table"},
                (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
            ),
            openapi_extra=carries(Forget),
        )(self.invalidate)
        app.post(
            "/v1/requests/{request_id}/feedback",
            status_code=HTTPStatus.ACCEPTED,
            response_model=FeedbackTaken,
            responses=responses(
                FeedbackTaken,
                {202: "on its way: the entry goes, and the cache learns from it"},
                (
                    *(HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                ),
            ),
            openapi_extra=carries(FeedbackGiven),
        )(self.feedback)

    async def invalidate(self, request: Request, tenant: TenantHeader = None) -> Response:
        """Forget cache entries: 202 once the broker has confirmed it; 200 for a dry run, which changes nothing."""
        tracing.resume(request.headers.get(tracing.HEADER))
        owner = tenant_named(tenant, pointer=TENANT)
        asked = parsed(Forget, await body_of(request, self._intake))
        # All entries of this tenant and everything are different things to those who read the event.
        conditions = asked.selector.model_dump(exclude_none=True, exclude={"everything"})
        selector, now = Selector(**conditions | {"tenant": owner}), self._clock.now()
        if asked.dry_run:
            meant = await self._entries.meant(owner, selector, now)
            return _json(_forgotten(meant, None), HTTPStatus.OK)
        invalidation = CacheInvalidate(
            invalidation_id=uuid4(), selector=selector, reason=asked.reason, invalidated_at=now
        )
        await self._publish(invalidation)
        try:
            counted = await self._entries.meant(owner, selector, now)
        except DatabaseUnavailable:
            counted = None  # memory can forget at once, and the table when it is back
        return _json(_forgotten(counted, invalidation.invalidation_id), HTTPStatus.ACCEPTED)

    async def feedback(self, request: Request, request_id: UUID, tenant: TenantHeader = None) -> Response:
        """Say that the cache's answer to a request was wrong: the entry goes, the cache learns from it, and who else
        was given that answer is told.
        """
        tracing.resume(request.headers.get(tracing.HEADER))
        owner = tenant_named(tenant, pointer=TENANT)
        said = parsed(FeedbackGiven, await body_of(request, self._intake))
        result = await answer_to(request_id, owner, self._results, self._identities)
        origin = await self._entries.behind(_source_of(result))
        now = self._clock.now()
        invalidation = CacheInvalidate(
            invalidation_id=uuid5(request_id, str(origin.entry_id)),  # saying it twice is saying it once
            selector=Selector(entry_id=origin.entry_id),
            reason=f"wrong hit: {said.comment}" if said.comment else "wrong hit",
            invalidated_at=now,
        )
        audited = CacheAudited(
            audit_id=uuid5(request_id, "feedback"),
            kind="feedback",
            tenant=owner,
            request_id=request_id,
            scope=origin.scope,
            entry_id=origin.entry_id,
            evidence=_evidence(result, origin),
            served=True,
            same=False,
            agreement=0.0,
            sampled=1.0,
            audited_at=now,
        )
        await self._publish(invalidation, audited)
        metrics.AUDITS.labels("feedback", "different").inc()
        taken = FeedbackTaken(entry_id=origin.entry_id, served=None, others=None)
        try:
            audience = await self._entries.audience(owner, origin.entry_id, now - timedelta(hours=said.hours))
            taken.served, taken.others = list(audience.own), audience.others
        except DatabaseUnavailable:
            log.warning("who was given a wrong answer can't be told now", entry_id=str(origin.entry_id))
        return _json(taken, HTTPStatus.ACCEPTED)

    async def _publish(self, *events: Event) -> None:
        now = self._clock.now()
        await self._broker.publish(envelope.encode_all(events, source="ingest", now=now))


def _source_of(result: ResponseCompleted) -> UUID:
    """The entry, or the leader in flight, whose answer a request was given; 409 where it was bought for the request."""
    if result.answer_of is not None:
        return result.answer_of
    raise HTTPException(
        HTTPStatus.CONFLICT, f"this answer was bought for this very request ({result.source}); no entry was served"
    )


def _evidence(result: ResponseCompleted, origin: Origin) -> Evidence:
    """What is still known of what the hit was decided on; it was served, so its prompts were taken for the same."""
    return Evidence(
        similarity=1.0 if result.similarity is None else result.similarity,
        good=origin.good,
        bad=origin.bad,
        category=result.freshness.category if result.freshness else "",
    )


def _forgotten(meant: Meant | None, invalidation_id: UUID | None) -> Forgotten:
    known = meant or Meant()
    return Forgotten(
        dry_run=invalidation_id is None,
        invalidation_id=invalidation_id,
        entries=meant and meant.entries,
        oldest=known.oldest,
        newest=known.newest,
        examples=list(known.examples),
    )


def _json(shown: BaseModel, status: HTTPStatus) -> Response:
    return Response(shown.model_dump_json(), status, media_type=envelope.JSON)

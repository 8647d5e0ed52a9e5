"""What clients may say about topics: this one trends, or it does so no more."""

from dataclasses import replace
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Final, Literal, Self
from uuid import UUID

from fastapi import FastAPI
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from starlette.requests import Request
from starlette.responses import Response

from services.ingest.calls import TENANT, Process, TenantHeader, body_of, carries, responses
from services.ingest.intake import Intake, parsed, tenant_named
from shared import envelope
from shared.events import LONGEST_TOPIC_S, Terms, Text, TopicSettled, TopicTrending
from shared.policy.section import seconds
from shared.telemetry import tracing

AN_HOUR: Final = 3600
Lasting = Annotated[int, Field(ge=1, le=LONGEST_TOPIC_S), BeforeValidator(seconds)]


class TopicTold(BaseModel):
    """A topic that trends, or has settled."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"terms": ["opening hours"], "trending": True, "for": "2h", "reason": "new hours from May"}]
        },
    )

    terms: Terms = Field(description="words and phrases: a prompt with all words of one of them concerns the topic")
    trending: bool = Field(
        True,
        description="false: it has settled, for this tenant; one that was told for everybody, or is detected across "
        "tenants, goes on",
    )
    lasting: Lasting | None = Field(
        None, alias="for", description='seconds, or text such as "30m", "2h"; an hour where nothing is said'
    )
    reason: Annotated[Text, StringConstraints(max_length=500)] = Field("told by a client", description="kept with it")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.trending and self.lasting is not None:
            raise ValueError("for: only with a topic that is trending; one that has settled is over at once")
        return self


class TopicTaken(BaseModel):
    """The topic as it was announced."""

    object: Literal["topic"] = "topic"
    topic_id: UUID
    terms: tuple[str, ...]
    trending: bool
    until: AwareDatetime | None = Field(None, description="it ends then by itself; null for one that has settled")


class TopicDoor:
    """Takes topics over HTTP; a tenant can only say what concerns its own entries."""

    def __init__(self, intake: Intake, process: Process) -> None:
        self._intake = intake
        self._broker = process.broker
        self._clock = process.clock

    def register(self, app: FastAPI) -> None:
        """Add this call to the API."""
        app.post(
            "/v1/topics",
            status_code=HTTPStatus.ACCEPTED,
            response_model=TopicTaken,
            responses=responses(
                TopicTaken,
                {202: "announced: the cache heeds it from now on"},
                (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
            ),
            openapi_extra=carries(TopicTold),
        )(self.tell)

    async def tell(self, request: Request, tenant: TenantHeader = None) -> Response:
        """Say that a topic trends or has settled: 202 once the broker has confirmed it."""
        tracing.resume(request.headers.get(tracing.HEADER))
        owner = tenant_named(tenant, pointer=TENANT)
        told = parsed(TopicTold, await body_of(request, self._intake))
        event = self._event(told, owner)
        now = self._clock.now()
        messages = envelope.encode(event, source="ingest", now=now)
        # Unlike what trends announces again anyway, this is promised to a client: only what is mandatory is confirmed.
        await self._broker.publish([replace(message, mandatory=True) for message in messages])
        taken = TopicTaken(
            topic_id=event.topic_id,
            terms=event.terms,
            trending=told.trending,
            until=event.until if isinstance(event, TopicTrending) else None,
        )
        return Response(taken.model_dump_json(), HTTPStatus.ACCEPTED, media_type=envelope.JSON)

    def _event(self, told: TopicTold, owner: str) -> TopicTrending | TopicSettled:
        now = self._clock.now()
        if not told.trending:
            return TopicSettled(terms=told.terms, tenant=owner, reason=told.reason, settled_at=now)
        until = now + timedelta(seconds=told.lasting or AN_HOUR)
        return TopicTrending(terms=told.terms, tenant=owner, reason=told.reason, since=now, until=until)

"""What clients may say about answers: how good they are."""

from http import HTTPStatus
from typing import Literal
from uuid import UUID, uuid4

from fastapi import FastAPI
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from services.ingest.answers import answer_to
from services.ingest.calls import TENANT, Process, TenantHeader, body_of, carries, responses
from services.ingest.identity import Identities
from services.ingest.intake import Intake, parsed, tenant_named
from services.ingest.results import Results
from shared import envelope
from shared.events import Comment, Quality, RequestRated
from shared.telemetry import tracing


class RatingGiven(BaseModel):
    """How good an answer is."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"quality": 0.8, "comment": "right, but long"}]}
    )

    quality: Quality = Field(description="0: useless, 1: as good as can be; the last word on a request counts")
    comment: Comment = Field("", description="kept with it")


class RatingTaken(BaseModel):
    """The rating as it was published."""

    object: Literal["rating"] = "rating"
    rating_id: UUID
    request_id: UUID
    quality: float
    rated_at: AwareDatetime


class RatingDoor:
    """Takes ratings over HTTP; a tenant can only rate answers to its own requests."""

    def __init__(self, intake: Intake, identities: Identities, results: Results, process: Process) -> None:
        self._intake = intake
        self._identities = identities
        self._results = results
        self._broker = process.broker
        self._clock = process.clock

    def register(self, app: FastAPI) -> None:
        """Add this call to the API."""
        app.post(
            "/v1/requests/{request_id}/rating",
            status_code=HTTPStatus.ACCEPTED,
            response_model=RatingTaken,
            responses=responses(
                RatingTaken,
                {202: "on its way: it is kept, and a learned head may be trained on it"},
                (
                    *(HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                ),
            ),
            openapi_extra=carries(RatingGiven),
        )(self.rate)

    async def rate(self, request: Request, request_id: UUID, tenant: TenantHeader = None) -> Response:
        """Say how good the answer to a request is: 202 once the broker has confirmed it."""
        tracing.resume(request.headers.get(tracing.HEADER))
        owner = tenant_named(tenant, pointer=TENANT)
        said = parsed(RatingGiven, await body_of(request, self._intake))
        answer = await answer_to(request_id, owner, self._results, self._identities)
        now = self._clock.now()
        rated = RequestRated(
            rating_id=uuid4(),
            request_id=answer.request_id,
            tenant=owner,
            quality=said.quality,
            comment=said.comment,
            rated_at=now,
        )
        await self._broker.publish(envelope.encode(rated, source="ingest", now=now))
        taken = RatingTaken.model_validate(dict(rated))
        return Response(taken.model_dump_json(), HTTPStatus.ACCEPTED, media_type=envelope.JSON)

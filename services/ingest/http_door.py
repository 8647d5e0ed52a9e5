"""The HTTP door: ``POST /v1/requests``, and asking for what became of it."""

import asyncio
import re
import time
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import FastAPI, Header
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.ingest import problems
from services.ingest.admission import Admission
from services.ingest.cache_door import CacheDoor, FeedbackGiven, Forget
from services.ingest.calls import TENANT, Process, TenantHeader, body_of, carries, responses
from services.ingest.directives import HEADER, cache_control
from services.ingest.identity import Identities
from services.ingest.intake import Intake, digest, priority_named, tenant_named
from services.ingest.rating_door import RatingDoor, RatingGiven
from services.ingest.results import Known, Results
from services.ingest.topic_door import TopicDoor, TopicTold
from services.ingest.views import RequestView, cache_headers, view
from shared import envelope
from shared.database import DatabaseUnavailable
from shared.errors import BrokerUnavailable, ForebayError, IdempotencyConflict, InvalidRequest, NotNow, Unroutable
from shared.events import CacheControl, Priority, RequestCancelled, Result, Submission
from shared.problems import problem
from shared.telemetry import metrics, tracing

_WAIT: Final = re.compile(r"(?:^|[,;\s])wait=(\d{1,6})(?=$|[,;\s])", re.IGNORECASE)
MAX_KEY_CHARS: Final = 255


class HttpDoor:
    """Takes submissions over HTTP and answers for them."""

    def __init__(
        self,
        intake: Intake,
        identities: Identities,
        results: Results,
        admission: Admission,
        process: Process,
        *,
        max_wait_s: float,
    ) -> None:
        self._intake = intake
        self._identities = identities
        self._results = results
        self._admission = admission
        self._broker = process.broker
        self._clock = process.clock
        self._stopping = process.stopping
        self._max_wait_s = max_wait_s

    async def submit(
        self,
        request: Request,
        tenant: TenantHeader = None,
        priority: Annotated[str | None, Header(alias="Forebay-Priority", description="interactive or bulk")] = None,
        idempotency_key: Annotated[str | None, Header(description="same key and body: same request")] = None,
        prefer: Annotated[str | None, Header(description="wait=N: answer with the result if it comes in N s")] = None,
        directives: Annotated[
            list[str] | None, Header(alias=HEADER, description="no-cache, no-store, max-age=N (seconds)")
        ] = None,
    ) -> Response:
        """Accept a request: 202 once the broker has confirmed it, or 200 with the result where ``Prefer: wait=N`` asks
        for it and it comes in time.
        """
        began = time.perf_counter()
        tracing.resume(request.headers.get(tracing.HEADER))
        wait_s = min(_wait_s(prefer), int(self._max_wait_s))
        try:
            said = cache_control(", ".join(directives or ()), pointer=HEADER)
            response = await self._submit(request, tenant, priority, idempotency_key, said, wait_s)
        except ForebayError as error:
            metrics.REFUSED.labels("http", error.code).inc()
            raise
        metrics.ACCEPT_SECONDS.observe(time.perf_counter() - began)
        return response

    async def _submit(
        self,
        request: Request,
        tenant: str | None,
        priority: str | None,
        key: str | None,
        said: CacheControl,
        wait_s: int,
    ) -> Response:
        owner = tenant_named(tenant, pointer=TENANT)
        urgency = priority_named(priority, pointer="Forebay-Priority")
        submission = self._intake.parse(await body_of(request, self._intake))
        request_id = self._request_id(owner, key)
        known = await self._repeated(owner, request_id, submission) if key is not None else None
        result = known.result if known else None
        with self._results.waiter(request_id) as answer:
            if known is None:
                await self._publish(submission, request_id, owner, urgency, said)
            if wait_s and result is None:
                await self._wait(answer, wait_s)
            if answer.done():
                result = answer.result()
        return self._accepted(self._view(request_id, result), submission, waited_s=wait_s)

    async def _publish(
        self, submission: Submission, request_id: UUID, tenant: str, priority: Priority, said: CacheControl
    ) -> None:
        event = self._intake.accept(
            submission, request_id=request_id, tenant=tenant, priority=priority, cache_control=said
        )
        self._admission.admit(tenant, priority, submission.model)
        self._admission.took(event.request)
        self._results.admitted(event.request)  # before the confirm: another post with this key may come meanwhile
        try:
            await self._broker.publish(envelope.encode(event, source="ingest", now=self._clock.now()))
        except BaseException:
            self._results.withdrawn(event.request)
            self._admission.withdrew(request_id)
            raise
        self._results.admitted(event.request, confirmed=True)
        metrics.ADMITTED.labels("http", priority).inc()

    async def _wait(self, answer: "asyncio.Future[Result]", seconds: float) -> None:
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait((answer, stopping), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()

    def _request_id(self, tenant: str, key: str | None) -> UUID:
        if key is None:
            return self._identities.new(tenant, self._clock.now())
        if not 0 < len(key) <= MAX_KEY_CHARS:
            raise InvalidRequest(f"must have 1 to {MAX_KEY_CHARS} characters", pointer="Idempotency-Key")
        return self._identities.derived(tenant, b"http", key.encode())

    async def _repeated(self, tenant: str, request_id: UUID, submission: Submission) -> Known | None:
        try:
            known = await self._results.find(tenant, request_id, with_digest=True)
        except DatabaseUnavailable:
            return None  # the id is the same in any case, and all that follows is idempotent
        if known is not None and known.digest not in (None, digest(submission)):
            raise IdempotencyConflict("this key was used before, with another body", pointer="Idempotency-Key")
        # While another post with this key waits for its confirm, this one publishes too: the same id, harmless.
        return known if known is not None and known.confirmed else None

    def _accepted(self, shown: RequestView, submission: Submission, *, waited_s: int) -> Response:
        if submission.webhook_url is not None:
            shown.warnings.append("webhook_url is kept with the request, but webhooks are not sent in this version")
        headers = {"Location": f"/v1/requests/{shown.id}"}
        if waited_s:
            headers["Preference-Applied"] = f"wait={waited_s}"
        if waited_s and shown.status != "queued":
            return _json(shown, HTTPStatus.OK, headers)
        return _json(shown, HTTPStatus.ACCEPTED, headers)

    def _view(self, request_id: UUID, result: Result | None) -> RequestView:
        shown = view(request_id, result, self._clock.now())
        if shown.status == "queued":
            shown.estimated_wait_ms = self._admission.estimate_ms(request_id)
            shown.brownout = list(self._admission.brownout(request_id))
        return shown

    async def show(self, request_id: UUID, tenant: TenantHeader = None) -> Response:
        """The state of a request and, when it is finished, its result."""
        result = await self._result(tenant_named(tenant, pointer=TENANT), request_id)
        return _json(self._view(request_id, result), HTTPStatus.OK, {})

    async def cancel(self, request: Request, request_id: UUID, tenant: TenantHeader = None) -> Response:
        """Say that a request is needed no more: 202 once the broker has confirmed it; 200 with the result of one that
        is finished, which stays as it is.

        It ends as cancelled where no provider was called for it yet; one that is being answered gets its answer.
        """
        tracing.resume(request.headers.get(tracing.HEADER))
        owner = tenant_named(tenant, pointer=TENANT)
        result = await self._result(owner, request_id)
        if result is not None:
            return _json(self._view(request_id, result), HTTPStatus.OK, {})
        now = self._clock.now()
        event = RequestCancelled(request_id=request_id, tenant=owner, cancelled_at=now)
        messages = envelope.encode(event, source="ingest", now=now)
        try:
            await self._broker.publish([replace(message, mandatory=True) for message in messages])
        except Unroutable as error:
            raise BrokerUnavailable("no service that could heed this is running at the moment") from error
        return _json(self._view(request_id, None), HTTPStatus.ACCEPTED, {})

    async def _result(self, owner: str, request_id: UUID) -> Result | None:
        """The result of a tenant's request, if it has one; 404 for an id that is not its own."""
        known = await self._results.find(owner, request_id)
        if known is None and not self._identities.ours(owner, request_id):
            raise HTTPException(HTTPStatus.NOT_FOUND, f"no request has the id {request_id}")
        return known.result if known else None


def _json(shown: RequestView, status: HTTPStatus, headers: dict[str, str]) -> Response:
    return Response(
        shown.model_dump_json(),
        status,
        headers | cache_headers(shown),
        media_type="application/json",
    )


def _wait_s(prefer: str | None) -> int:
    """The seconds of ``Prefer: wait=N`` (RFC 7240); 0 where it does not ask."""
    match = _WAIT.search(prefer or "")
    return int(match[1]) if match else 0


async def _on_bad_parameter(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"][1:])
    if fault["loc"][0] == "path":
        return problem(HTTPStatus.NOT_FOUND, "not_found", f"{where}: {fault['msg']}")
    return problem(HTTPStatus.BAD_REQUEST, "invalid_request", fault["msg"], pointer=where)


def application(door: HttpDoor, cache: CacheDoor, topics: TopicDoor, ratings: RatingDoor, version: str) -> FastAPI:
    """The HTTP API with its documents; ``/docs`` works without the internet."""
    app = FastAPIOffline(
        title="Forebay",
        version=version,
        summary="Takes a surge of LLM requests, gives the answers.",
        exception_handlers={
            InvalidRequest: problems.on_invalid_request,
            NotNow: problems.on_not_now,
            ForebayError: problems.on_unavailable,
            HTTPException: problems.on_http_exception,
            Exception: problems.on_bug,
            RequestValidationError: _on_bad_parameter,
        },
    )
    app.post(
        "/v1/requests",
        status_code=HTTPStatus.ACCEPTED,
        response_model=RequestView,
        responses=responses(
            RequestView,
            {200: "finished within Prefer: wait=N", 202: "accepted: it will get exactly one terminal result"},
            (
                HTTPStatus.BAD_REQUEST,
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                HTTPStatus.UNPROCESSABLE_ENTITY,
                HTTPStatus.TOO_MANY_REQUESTS,
            ),
        ),
        openapi_extra=carries(Submission),
    )(door.submit)
    app.get(
        "/v1/requests/{request_id}",
        response_model=RequestView,
        responses=responses(RequestView, {200: "its state and result"}, (HTTPStatus.NOT_FOUND,)),
    )(door.show)
    app.post(
        "/v1/requests/{request_id}/cancel",
        status_code=HTTPStatus.ACCEPTED,
        response_model=RequestView,
        responses=responses(
            RequestView,
            {
                200: "it was finished already: its result",
                202: "told: it ends as cancelled if nothing was spent on it yet",
            },
            (HTTPStatus.NOT_FOUND,),
        ),
    )(door.cancel)
    cache.register(app)
    topics.register(app)
    ratings.register(app)
    _describe_bodies(app)
    return app


def _describe_bodies(app: FastAPI) -> None:
    """Add the schemas of the bodies, which the doors read by themselves, to what the framework describes."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        document = described()
        _, schemas = models_json_schema(
            [(body, "validation") for body in (Submission, Forget, FeedbackGiven, TopicTold, RatingGiven)],
            ref_template="#/components/schemas/{model}",
        )
        document["components"]["schemas"].update(schemas["$defs"])
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # the way the framework documents for extending it

"""What operators ask about failed requests and dead letters, and have done about them.

It listens where the probes do, and asks nobody who they are: it shows any tenant's prompts, so it is for the inside of
a deployment only.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

import structlog
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.persistence.asking import MOST_AT_ONCE, Replay, Selection, listing, selection
from services.persistence.failures import Failure, Failures, NoFailure
from services.persistence.letters import Letter, Letters
from services.persistence.obituary import CODE
from services.persistence.replaying import Terms, replayed
from shared.bodies import json_within
from shared.broker import Broker
from shared.clock import Clock
from shared.errors import BrokerError, ForebayError, InvalidRequest, NoJson, RequestTooLarge
from shared.events import Event, Request, RequestAccepted, RequestDropped
from shared.policy import Policy
from shared.problems import problem
from shared.publishing import publish
from shared.telemetry import metrics

log = structlog.stdlib.get_logger(__name__)
MOST_BYTES: Final = 65_536
EXCERPT_CHARS: Final = 200
BODY_CHARS: Final = 2000
RETRY_AFTER_S: Final = 2
_DIGITS: Final = re.compile("[0-9]{1,9}")

Call = Callable[["Admin", HttpRequest], Awaitable[Response]]


def _told(call: Call) -> Call:
    """A call whose errors are told as problem documents."""

    @wraps(call)
    async def answered(self: "Admin", asked: HttpRequest) -> Response:
        try:
            return await call(self, asked)
        except RequestTooLarge as error:
            return problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, error.code, error.message)
        except NoJson as error:
            return problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, error.code, error.message, pointer=error.pointer)
        except InvalidRequest as error:
            return problem(HTTPStatus.BAD_REQUEST, error.code, error.message, pointer=error.pointer)
        except ForebayError as error:
            headers = {"Retry-After": str(RETRY_AFTER_S)}
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, error.code, str(error), headers=headers)

    return answered


class Admin:
    """``/v1/dead`` on the service's own port."""

    def __init__(self, policy: Policy, failures: Failures, letters: Letters, broker: Broker, clock: Clock) -> None:
        self._policy = policy
        self._failures = failures
        self._letters = letters
        self._broker = broker
        self._clock = clock

    def routes(self) -> Sequence[Route]:
        """The routes to add to the service's own."""
        return (
            Route("/v1/dead", self.listed),
            Route("/v1/dead/replay", self.replay, methods=["POST"]),
            Route("/v1/dead/drop", self.drop, methods=["POST"]),
            Route("/v1/dead/queues", self.queues),
            Route("/v1/dead/queues/{queue}", self.letters, methods=["GET"]),
            Route("/v1/dead/queues/{queue}", self.purge, methods=["DELETE"]),
            Route("/v1/dead/{request_id}", self.show),
        )

    @_told
    async def listed(self, asked: HttpRequest) -> Response:
        """Failures that are to be looked after, the oldest first, and how many there are of each class."""
        said = listing(asked.query_params)
        found = await self._failures.listed(said.which, after=said.place, limit=said.limit)
        classes = await self._failures.classes(said.which)
        return JSONResponse(
            {
                "object": "list",
                "data": [self._shown(failure) for failure in found],
                "classes": [
                    {"class": each.code, "failures": each.failures}
                    | {"first_at": each.first_at.isoformat(), "last_at": each.last_at.isoformat()}
                    for each in classes
                ],
                "next": _next(found, said.limit),
            }
        )

    @_told
    async def show(self, asked: HttpRequest) -> Response:
        """One failure, with the whole request; also one that was dropped or is being replayed."""
        try:
            request_id = UUID(asked.path_params["request_id"])
        except ValueError:
            return problem(HTTPStatus.NOT_FOUND, "not_found", "an id is a UUID")
        (found,) = await self._failures.named([request_id])
        if isinstance(found, NoFailure):
            return problem(HTTPStatus.NOT_FOUND, found.code, found.reason)
        request = found.request.model_dump(mode="json", exclude_defaults=True)
        return JSONResponse(self._shown(found) | {"request": request})

    @_told
    async def replay(self, asked: HttpRequest) -> Response:
        """Run failed requests anew: 202 once the broker has confirmed all; 200 for a dry run."""
        said = selection(Replay, await json_within(asked, MOST_BYTES))
        said.terms.check(self._policy)
        found, nowhere, place = await self._meant(said)
        again, refused = self._split(found, said.terms)
        if not said.dry_run:
            await self._publish(*(RequestAccepted(request=request) for _, request in again))
            for failure, _ in again:
                metrics.REPLAYED.labels(failure.result.code).inc()
            await self._forget_letters([failure for failure, _ in again], more=_goes_on(said, place))
        return _done(
            "dead.replay",
            said,
            replayed=[self._brief(failure) | {"replay": request.replay} for failure, request in again],
            refused=[_refusal(each) for each in (*nowhere, *refused)],
            next=place,
        )

    @_told
    async def drop(self, asked: HttpRequest) -> Response:
        """Take failures off the list: 202 once the broker has confirmed all; 200 for a dry run."""
        said = selection(Selection, await json_within(asked, MOST_BYTES))
        found, refused, place = await self._meant(said)
        if not said.dry_run:
            now = self._clock.now()
            drops = [
                RequestDropped(
                    request_id=each.request.id, tenant=each.request.tenant, replay=each.result.replay, dropped_at=now
                )
                for each in found
            ]
            await self._publish(*drops)
            await self._forget_letters(found, more=_goes_on(said, place))
        return _done(
            "dead.drop",
            said,
            dropped=[self._brief(failure) for failure in found],
            refused=[_refusal(each) for each in refused],
            next=place,
        )

    @_told
    async def queues(self, _: HttpRequest) -> Response:
        """The queues of dead letters, and how many letters each has."""
        counts = await self._letters.counts()
        return JSONResponse(
            {"object": "list", "data": [{"queue": name, "letters": count} for name, count in counts.items()]}
        )

    @_told
    async def letters(self, asked: HttpRequest) -> Response:
        """Letters of a queue, which stay there."""
        letters = await self._letters.read(asked.path_params["queue"], _limit(asked))
        return JSONResponse({"object": "list", "data": [_letter(letter) for letter in letters]})

    @_told
    async def purge(self, asked: HttpRequest) -> Response:
        """Delete all letters of a queue."""
        return JSONResponse({"purged": await self._letters.purge(asked.path_params["queue"])})

    async def _meant(self, said: Selection) -> tuple[list[Failure], list[NoFailure], str | None]:
        """The failures a selection means, the ids of it that are none, and the place after which it goes on."""
        if not said.ids:
            found = await self._failures.listed(said.which, after=said.place, limit=said.limit)
            return list(found), [], _next(found, said.limit)
        named = await self._failures.named(said.ids)
        failures = [each for each in named if isinstance(each, Failure)]
        return failures, [each for each in named if isinstance(each, NoFailure)], None

    def _split(self, found: Sequence[Failure], terms: Terms) -> tuple[list[tuple[Failure, Request]], list[NoFailure]]:
        now, again, refused = self._clock.now(), [], []
        for failure in found:
            match replayed(failure, terms, now):
                case NoFailure() as refusal:
                    refused.append(refusal)
                case request:
                    again.append((failure, request))
        return again, refused

    async def _publish(self, *events: Event) -> None:
        await publish(self._broker, events, source="persistence", now=self._clock.now())

    async def _forget_letters(self, failures: Sequence[Failure], *, more: bool) -> None:
        """Delete the dead letters of requests that died of one; a copy that stays does no harm."""
        ids = {failure.request.id for failure in failures if failure.result.code == CODE}
        try:
            await self._letters.forget(ids, more=more)
        except BrokerError as error:
            log.warning("dead letters of requests that were seen to stay", error=str(error))

    def _brief(self, failure: Failure) -> dict[str, Any]:
        return {"id": str(failure.request.id), "tenant": failure.request.tenant, "class": failure.result.code}

    def _shown(self, failure: Failure) -> dict[str, Any]:
        request, result = failure.request, failure.result
        deadline = request.deadline
        return self._brief(failure) | {
            "message": result.message,
            "attempts": result.attempts,
            "tier": result.tier,
            "model": result.route.model if result.route else None,
            "failed_at": result.failed_at.isoformat(),
            "accepted_at": request.accepted_at.isoformat(),
            "replay": result.replay,
            "running": failure.running,
            "deadline": deadline and deadline.isoformat(),
            "deadline_passed": deadline is not None and deadline <= self._clock.now(),
            "dropped_at": failure.dropped_at and failure.dropped_at.isoformat(),
            "priority": request.priority.value,
            "prompt": request.prompt[:EXCERPT_CHARS],
        }


def _next(found: Sequence[Failure], limit: int) -> str | None:
    """Where a list goes on, if it may."""
    return str(found[-1].place) if len(found) == limit else None


def _goes_on(said: Selection, place: str | None) -> bool:
    """Whether whoever asked comes again: he said so and, where he named none, there may be some left."""
    return said.more and (bool(said.ids) or place is not None)


def _done(what: str, said: Selection, **parts: object) -> Response:
    status = HTTPStatus.OK if said.dry_run else HTTPStatus.ACCEPTED
    return JSONResponse({"object": what, "dry_run": said.dry_run} | parts, status)


def _refusal(refused: NoFailure) -> dict[str, str]:
    return {"id": str(refused.request_id), "code": refused.code, "reason": refused.reason}


def _letter(letter: Letter) -> dict[str, Any]:
    message = letter.message
    return {
        "code": letter.code,
        "reason": letter.reason,
        "request_id": letter.request_id and str(letter.request_id),
        "message_id": message.message_id,
        "headers": {
            name: value if isinstance(value, str | int) else repr(value) for name, value in message.headers.items()
        },
        "body": message.body.decode(errors="replace")[:BODY_CHARS],
        "bytes": len(message.body),
    }


def _limit(asked: HttpRequest) -> int:
    text = asked.query_params.get("limit", "20")
    if not (_DIGITS.fullmatch(text) and 1 <= int(text) <= MOST_AT_ONCE):
        raise InvalidRequest(f"must be a number from 1 to {MOST_AT_ONCE}", pointer="limit")
    return int(text)

"""Which problem document stands for which error."""

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from shared.errors import ForebayError, IdempotencyConflict, InvalidRequest, NotNow, RequestTooLarge, TooManyRequests
from shared.problems import problem

log = structlog.stdlib.get_logger(__name__)
RETRY_AFTER_S: Final = 2
_STATUS: Final[Mapping[type[ForebayError], HTTPStatus]] = {
    RequestTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    IdempotencyConflict: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidRequest: HTTPStatus.BAD_REQUEST,
}


async def on_invalid_request(_: Request, error: Exception) -> JSONResponse:
    """The client's fault: 4xx."""
    assert isinstance(error, InvalidRequest)
    status = next(status for kind, status in _STATUS.items() if isinstance(error, kind))
    return problem(status, error.code, error.message, pointer=error.pointer)


async def on_unavailable(_: Request, error: Exception) -> JSONResponse:
    """Something we need is away: 503, and when to come back."""
    assert isinstance(error, ForebayError)
    status = HTTPStatus.SERVICE_UNAVAILABLE if error.retryable else HTTPStatus.INTERNAL_SERVER_ERROR
    return problem(status, error.code, str(error), headers={"Retry-After": str(RETRY_AFTER_S)})


async def on_not_now(_: Request, error: Exception) -> JSONResponse:
    """Too much at once: 429 where it is the client's own limit, else 503; and when there will be room."""
    assert isinstance(error, NotNow)
    status = HTTPStatus.TOO_MANY_REQUESTS if isinstance(error, TooManyRequests) else HTTPStatus.SERVICE_UNAVAILABLE
    return problem(status, error.code, str(error), headers={"Retry-After": str(math.ceil(error.after_s))})


async def on_bug(_: Request, error: Exception) -> JSONResponse:
    """Our fault: 500, without the details, which are in the log."""
    log.error("a request failed", exc_info=error)
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, ForebayError.code, "something went wrong here; it has been logged")


async def on_http_exception(_: Request, error: Exception) -> JSONResponse:
    """What the framework refuses: unknown paths, wrong methods."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    return problem(status, status.name.lower(), str(error.detail), headers=error.headers)

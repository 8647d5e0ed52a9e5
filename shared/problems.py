"""Problem documents (RFC 9457): how every service says over HTTP what went wrong."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from starlette.responses import JSONResponse

MEDIA_TYPE: Final = "application/problem+json"


def problem(
    status: HTTPStatus, code: str, detail: str, *, pointer: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """A problem document; ``pointer`` says which part of the body, or which header, is meant."""
    document = {"type": f"urn:forebay:problem:{code}", "title": status.phrase, "status": status.value, "detail": detail}
    extra = {"code": code} | ({} if pointer is None else {"pointer": pointer})
    return JSONResponse(document | extra, status.value, dict(headers or {}), media_type=MEDIA_TYPE)

"""Errors as problem documents."""

import json

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from services.ingest import problems
from shared.database import DatabaseUnavailable
from shared.errors import (
    BrokerUnavailable,
    IdempotencyConflict,
    InvalidRequest,
    NotNow,
    Overloaded,
    PublishRefused,
    RequestTooLarge,
    TooManyRequests,
    Unroutable,
)

REQUEST = Request({"type": "http"})


def document(response: Response) -> dict[str, object]:
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, object] = json.loads(bytes(response.body))
    assert found["status"] == response.status_code
    assert found["title"]
    return found


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InvalidRequest("m", pointer="/p"), 400, "invalid_request"),
        (RequestTooLarge("m", pointer="/p"), 413, "request_too_large"),
        (IdempotencyConflict("m", pointer="/p"), 422, "idempotency_conflict"),
    ],
)
async def test_the_clients_fault_says_what_and_where(error: InvalidRequest, status: int, code: str) -> None:
    found = document(await problems.on_invalid_request(REQUEST, error))
    assert found["status"] == status
    assert found["type"] == f"urn:forebay:problem:{code}"
    assert (found["code"], found["detail"], found["pointer"]) == (code, "m", "/p")


@pytest.mark.parametrize("error", [BrokerUnavailable("m"), PublishRefused("m"), DatabaseUnavailable("m")])
async def test_what_passes_says_when_to_come_back(error: Exception) -> None:
    response = await problems.on_unavailable(REQUEST, error)
    assert document(response)["status"] == 503
    assert int(response.headers["retry-after"]) > 0


async def test_what_does_not_pass_is_our_own_fault() -> None:
    assert document(await problems.on_unavailable(REQUEST, Unroutable("m")))["status"] == 500


async def test_what_the_framework_refuses_keeps_its_status_and_headers() -> None:
    error = HTTPException(405, "no", headers={"Allow": "GET"})
    response = await problems.on_http_exception(REQUEST, error)
    assert document(response)["code"] == "method_not_allowed"
    assert response.headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("error", "status"), [(TooManyRequests("m", after_s=2.1), 429), (Overloaded("m", after_s=2.1), 503)]
)
async def test_who_is_told_to_come_later_is_told_when(error: NotNow, status: int) -> None:
    response = await problems.on_not_now(REQUEST, error)
    assert (document(response)["status"], document(response)["code"]) == (status, error.code)
    assert response.headers["retry-after"] == "3"

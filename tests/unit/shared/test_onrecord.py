"""Rows, read back as the requests and results they were."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from shared.events import Attempt, Priority, ResponseCompleted, ResponseFailed
from shared.onrecord import request_of, result_of

WHEN = datetime(2026, 1, 1, tzinfo=UTC)
ID = UUID(int=7)


def row(**body: Any) -> dict[str, Any]:
    columns = {"id": ID, "tenant": "acme", "priority": "bulk", "digest": "d", "accepted_at": WHEN}
    return {**columns, "asked": json.dumps(body), "tier": "not of the request"}


def test_a_request_is_its_body_and_the_columns_beside_it() -> None:
    request = request_of(row(input="a", metadata={"user": "u"}))

    assert (request.id, request.tenant, request.priority, request.accepted_at) == (ID, "acme", Priority.BULK, WHEN)
    assert (request.prompt, request.metadata, request.replay) == ("a", {"user": "u"}, 0)


def test_it_is_as_it_was_for_the_run_that_is_asked_for() -> None:
    assert request_of(row(input="a"), replay=2).replay == 2


def completed() -> ResponseCompleted:
    return ResponseCompleted(
        request_id=ID, source="light", output_text="42", model="m", tier="light", accepted_at=WHEN, completed_at=WHEN
    )


def failed() -> ResponseFailed:
    calls = (Attempt(lane="m", code="timeout", message="too slow", at=WHEN),)
    return ResponseFailed(
        request_id=ID, code="timeout", message="too slow", attempts=1, failures=calls, failed_at=WHEN, replay=1
    )


@pytest.mark.parametrize(
    ("status", "result"),
    [("completed", completed()), ("failed", failed()), ("cancelled", failed())],
    ids=["completed", "failed", "cancelled"],
)
def test_a_result_is_what_its_status_says(status: str, result: ResponseCompleted | ResponseFailed) -> None:
    assert result_of(status, result.model_dump_json()) == result

"""Requests and results as their rows have them: what persistence put on record, read back by whoever needs it."""

import json
from collections.abc import Mapping
from typing import Any, Final

from shared.events import Request, ResponseCompleted, ResponseFailed, Result

# Parts of a request that have a column of their own, beside the run; the rest is its body.
COLUMNS: Final = ("id", "tenant", "priority", "digest", "accepted_at")


def request_of(row: Mapping[str, Any], *, replay: int = 0) -> Request:
    """The request of a row with ``COLUMNS`` and its body as ``asked``, as it was for that run."""
    columns = {name: row[name] for name in COLUMNS}
    return Request.model_validate(json.loads(row["asked"]) | columns | {"replay": replay})


def result_of(status: str, body: str) -> Result:
    """The result of a row with this status and this body, both as they stand there."""
    return (ResponseCompleted if status == "completed" else ResponseFailed).model_validate_json(body)

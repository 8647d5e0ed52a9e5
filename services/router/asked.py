"""Requests as persistence has put them on record."""

import json
from collections.abc import Mapping
from typing import Any, Final

from shared.events import Request

COLUMNS: Final = ("id", "tenant", "priority", "digest", "accepted_at")


def asked(row: Mapping[str, Any]) -> Request:
    """The request of a row with ``COLUMNS`` and its body as ``asked``."""
    return Request.model_validate(json.loads(row["asked"]) | {name: row[name] for name in COLUMNS})

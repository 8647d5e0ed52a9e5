"""Ratings that clients gave, joined with what they asked and where it ran: rows to learn from."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.router.learning.rows import Rating
from shared import database
from shared.onrecord import request_of

if TYPE_CHECKING:
    from shared.database import Pool

SQL: Final = database.statements(Path(__file__).with_name("feedback.sql"))
PATIENCE_S: Final = 120.0


async def rated(pool: "Pool", since: datetime, until: datetime, *, tenant: str | None, limit: int) -> list[Rating]:
    """The ratings given within a time of answers that were bought for the request itself, the latest if they are many.

    Raises:
        DatabaseUnavailable: PostgreSQL can't be asked.
    """
    async with database.reading("the ratings", patience_s=PATIENCE_S):
        rows = await pool.fetch(SQL["rated"], since, until, tenant, limit)
    return [
        Rating(prompt=request_of(row).prompt, good=row["quality"], tier=row["tier"], chance=row["chance"])
        for row in map(dict, rows)
    ]

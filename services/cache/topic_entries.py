"""How many entries a trending topic keeps from being served; for people who ask, never on the way of a request."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.cache.trending import Topic
from shared import database
from shared.topics import concerns, words

if TYPE_CHECKING:
    from shared.database import Pool

SQL: Final = database.statements(Path(__file__).with_name("topic_entries.sql"))
MOST_READ: Final = 10_000
# Letters of a word that are never left out.
SHORTEST: Final = 3


@dataclass(frozen=True, slots=True)
class Affected:
    """How many entries; ``more`` where only the first MOST_READ that may be meant were looked at."""

    entries: int
    more: bool


async def affected(pool: "Pool", topic: Topic, max_age: timedelta, now: datetime) -> Affected:
    """The entries of a topic that are older than it allows.

    The database finds those that may be meant, by the beginnings of words; which are is told by the rule that requests
    meet. A driver's error goes to the caller.
    """
    tenant, patterns = topic.announced.tenant, [pattern(each) for each in topic.terms]
    rows = await pool.fetch(SQL["candidates"], now - max_age, now, tenant, patterns, MOST_READ + 1)
    meant = sum(concerns(topic.terms, frozenset(words(row["prompt"]))) for row in rows[:MOST_READ])
    return Affected(meant, len(rows) > MOST_READ)


def pattern(term: tuple[str, ...]) -> str:
    """A regular expression for the longest word of a term: without its end, which differs in the plural, and with any
    character for a letter that may bear an accent.
    """
    longest = max(term, key=len)
    beginning = longest[: max(SHORTEST, len(longest) - 1)]
    return re.sub(r"[aceinosuyz]", ".", re.escape(beginning))

"""What a replica reads beside its requests: findings and invalidations of the past, and how many entries there are."""

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from services.cache.admin import SQL
from services.cache.judgement import Judge
from services.cache.learning.audits import Audits
from services.cache.learning.shadows import Shadows
from services.cache.news import News
from services.cache.selection import MOST_REMEMBERED, REMEMBERED
from shared import database
from shared.clock import Clock
from shared.events import CacheInvalidate

if TYPE_CHECKING:
    from shared.database import Pool

log = structlog.stdlib.get_logger(__name__)
# Findings older than this teach nothing any more: models, prompts and answers have changed.
RECALLED: Final = timedelta(days=30)
EVERY_S: Final = 30.0
INVALIDATIONS: Final = database.statements(Path(__file__).with_name("selection.sql"))
PATIENCE_S: Final = 10.0


class Census:
    """Recalls the findings once, the invalidations after each gap; now and then counts entries and fills metrics."""

    def __init__(self, pool: "Pool", judge: Judge, audits: Audits, shadows: Shadows, news: News, clock: Clock) -> None:
        self._pool = pool
        self._judge = judge
        self._audits = audits
        self._shadows = shadows
        self._news = news
        self._clock = clock
        self._has_recalled = False

    async def run(self) -> None:
        """Never returns; a database that is away is asked again."""
        while True:
            if self._news.behind:
                await self._catch_up()
            self._has_recalled = self._has_recalled or await self._recalled()
            await self._count()
            self._audits.tell()
            await self._clock.sleep(EVERY_S)

    async def _recalled(self) -> bool:
        findings = await self._audits.recall(self._pool, since=self._clock.now() - RECALLED)
        return await self._shadows.recall(self._pool) and findings

    async def _catch_up(self) -> None:
        """What was invalidated while this replica could not hear of it."""
        self._news.behind = False  # first: it may fall behind again while this is read
        try:
            async with database.reading("the invalidations", patience_s=PATIENCE_S):
                since = self._clock.now() - REMEMBERED
                rows = await self._pool.fetch(INVALIDATIONS["recent"], since, MOST_REMEMBERED)
        except database.DatabaseUnavailable as error:
            self._news.behind = True
            log.warning("no invalidations recalled yet", error=str(error))
            return
        invalidations = []
        for row in reversed(rows):
            try:
                said = dict(row) | {"selector": json.loads(row["selector"])}
                invalidations.append(CacheInvalidate.model_validate(said))
            except ValueError as error:  # of another version: the writer knows no more of it than this one
                log.warning("an invalidation that cannot be read", error=str(error))
        self._news.caught_up(invalidations)

    async def _count(self) -> None:
        try:
            async with database.reading("the number of entries", patience_s=PATIENCE_S):
                self._judge.entries = await self._pool.fetchval(SQL["count"])
        except database.DatabaseUnavailable as error:
            log.warning("the entries are not counted", error=str(error))

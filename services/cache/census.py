"""What a replica reads beside its requests: the findings of the past, and how many entries there are."""

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog

from services.cache.admin import SQL
from services.cache.judgement import Judge
from services.cache.learning.audits import Audits
from shared import database
from shared.clock import Clock

if TYPE_CHECKING:
    from shared.database import Pool

log = structlog.stdlib.get_logger(__name__)
# Findings older than this teach nothing any more: models, prompts and answers have changed.
RECALLED: Final = timedelta(days=30)
EVERY_S: Final = 30.0
PATIENCE_S: Final = 10.0


class Census:
    """Recalls the findings once, and counts the entries now and then."""

    def __init__(self, pool: "Pool", judge: Judge, audits: Audits, clock: Clock) -> None:
        self._pool = pool
        self._judge = judge
        self._audits = audits
        self._clock = clock

    async def run(self) -> None:
        """Never returns; a database that is away is asked again."""
        recalled = False
        while True:
            recalled = recalled or await self._audits.recall(self._pool, since=self._clock.now() - RECALLED)
            await self._count()
            await self._clock.sleep(EVERY_S)

    async def _count(self) -> None:
        try:
            async with database.reading("the number of entries", patience_s=PATIENCE_S):
                self._judge.entries = await self._pool.fetchval(SQL["count"])
        except database.DatabaseUnavailable as error:
            log.warning("the entries are not counted", error=str(error))

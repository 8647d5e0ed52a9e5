"""What was spent today, in all and by tenant, and what a request of each tier costs.

A replica adds up the answers it hears of. What was spent before it began to listen, it reads from PostgreSQL once.
"""

from collections import Counter, defaultdict
from collections.abc import ItemsView, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from shared import database
from shared.clock import Clock
from shared.events import ResponseCompleted

if TYPE_CHECKING:
    from shared.database import Pool

log = structlog.stdlib.get_logger(__name__)
SQL: Final = database.statements(Path(__file__).with_name("ledger.sql"))
# Answers of a tier that must have been heard of before its mean cost means something.
FEW: Final = 20
# The mean follows changes of price and of traffic within about so many answers.
MEMORY: Final = 1000
# Seconds the writer may take until an answer is a row.
WRITTEN_WITHIN: Final = timedelta(seconds=15)
PATIENCE_S: Final = 30.0
AGAIN_AFTER_S: Final = 10.0


class Sums:
    """US dollars by tenant, and their sum, which every decision under a budget asks for."""

    def __init__(self) -> None:
        self.total = 0.0
        self._by_tenant: defaultdict[str, float] = defaultdict(float)

    def add(self, tenant: str, usd: float) -> None:
        """Add to a tenant's."""
        self._by_tenant[tenant] += usd
        self.total += usd

    def items(self) -> ItemsView[str, float]:
        """Each tenant's."""
        return self._by_tenant.items()

    def of(self, tenant: str) -> float:
        """A tenant's."""
        return self._by_tenant.get(tenant, 0.0)


class Ledger:
    """Spending of the current day, in US dollars at list price; a day is one of UTC."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._day: date = clock.now().date()
        self._spent = Sums()  # since this replica listens
        self._before = Sums()
        self._heard_since: datetime | None = None
        self._means: dict[str, tuple[int, float]] = {}
        self.behind = True

    def subscribed(self) -> None:
        """From now on every answer is heard of; of what was before, only PostgreSQL knows."""
        self.behind = True
        self._heard_since = self._clock.now()
        for tenant, usd in self._spent.items():  # until it is read, what was heard before is the best that is known
            self._before.add(tenant, usd)
        self._spent = Sums()

    def heard(self, answer: ResponseCompleted) -> None:
        """Add what an answer cost, unless it was bought for another request."""
        if answer.source != answer.tier:
            return
        tier = answer.route.tier if answer.route else answer.tier  # a cheaper one may have answered in its place
        seen, mean = self._means.get(tier, (0, 0.0))
        seen += 1
        self._means[tier] = seen, mean + (answer.cost_usd - mean) / min(seen, MEMORY)
        self.spend(answer.tenant, answer.cost_usd, answer.completed_at)

    def spend(self, tenant: str, usd: float, at: datetime) -> None:
        """Add what was paid at a time, if that is today and since this replica listens."""
        since = self._heard_since
        if at.date() == self._today() and (since is None or at >= since):
            self._spent.add(tenant, usd)

    def spent(self, tenant: str | None = None) -> float:
        """Dollars spent today, of one tenant or of all."""
        self._today()
        if tenant is None:
            return self._spent.total + self._before.total
        return self._spent.of(tenant) + self._before.of(tenant)

    def cost_of(self, tier: str) -> float | None:
        """Dollars that a request of a tier costs on average; None where too few were heard of."""
        seen, mean = self._means.get(tier, (0, 0.0))
        return mean if seen >= FEW else None

    def left_of_day(self) -> float:
        """Seconds until the next day begins."""
        now = self._clock.now()
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        return (midnight - now).total_seconds()

    async def recall(self, pool: "Pool") -> None:
        """Never returns: reads what was spent before this replica listened, as often as it begins to listen."""
        while True:
            since = self._heard_since
            if self.behind and since is not None and self._clock.now() >= since + WRITTEN_WITHIN:
                await self._recalled(pool, since)
            await self._clock.sleep(AGAIN_AFTER_S)

    async def _recalled(self, pool: "Pool", since: datetime) -> None:
        midnight = since.replace(hour=0, minute=0, second=0, microsecond=0)
        try:
            async with database.reading("what was spent today", patience_s=PATIENCE_S):
                rows = await pool.fetch(SQL["spent"], midnight, since)
        except database.DatabaseUnavailable as error:
            log.warning("what was spent earlier today is not known yet", error=str(error))
            return
        if since == self._heard_since and midnight.date() == self._today():
            self._before = Sums()
            for row in rows:
                self._before.add(row["tenant"], row["usd"])
            self._learn_means([dict(row) for row in rows])
        self.behind = since != self._heard_since

    def _learn_means(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """What a tier's answers cost today is known from the start, where more were bought than heard of."""
        bought: Counter[str] = Counter()
        usd: defaultdict[str, float] = defaultdict(float)
        for row in rows:
            bought[row["tier"]] += row["answers"]
            usd[row["tier"]] += row["usd"]
        for tier, count in bought.items():
            if count > self._means.get(tier, (0, 0.0))[0]:
                self._means[tier] = count, usd[tier] / count

    def _today(self) -> date:
        today = self._clock.now().date()
        if today != self._day:
            self._day = today
            self._spent, self._before = Sums(), Sums()
        return today

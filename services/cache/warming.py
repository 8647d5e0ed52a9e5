"""Answers that are brought along become entries, as if they had been bought."""

from collections.abc import Sequence

from services.cache.scope import cache_key
from services.cache.search import Search
from shared.clock import Clock
from shared.errors import UndecodableMessage
from shared.events import CacheFilled, CacheWarm, Event, Freshness
from shared.policy import Policy


class Warming:
    """Gives what is brought along its place in the cache."""

    def __init__(self, policy: Policy, search: Search, clock: Clock) -> None:
        self._policy = policy
        self._search = search
        self._clock = clock

    async def brought(self, event: CacheWarm) -> Sequence[Event]:
        """``cache.filled``; an answer of an unknown freshness category is a mistake and goes to the dead letters."""
        request = event.request
        category = event.category or self._policy.freshness.default_of(request.tenant).category
        if category not in self._policy.freshness.categories:
            known = ", ".join(self._policy.freshness.categories)
            raise UndecodableMessage(f"unknown freshness category {category!r}; known: {known}")
        pool = self._policy.cache.pool_of(request.tenant)
        key = cache_key(request, embedder=self._search.embedder_version, pool=pool)
        ttl_s = self._policy.freshness.ttl_of(category, request.tenant)
        filled = CacheFilled(
            entry_id=request.id,
            tenant=request.tenant,
            origin="warm",
            key=await self._search.embedded(key),
            output_text=event.output_text,
            model=event.answered_by,
            tier=event.tier,
            freshness=Freshness(category=category, ttl_s=ttl_s, reason="brought along"),
            cost_usd=event.cost_usd,
            completed_at=self._clock.now(),
        )
        return (filled,)

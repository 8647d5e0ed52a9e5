"""Wiring of the cache."""

from services.cache.assembly import Cache, embedder
from shared import database, service, topology
from shared.background import background
from shared.cancellation import Cancellations


async def wire(it: service.Service) -> None:
    pool = await it.enter(database.vector_pool(it.settings.postgres_dsn, size=it.settings.pool_size))
    lookups = await it.enter(database.search_pool(it.settings.postgres_dsn))
    cache = Cache.assemble(it.policy, pool, lookups, await embedder(it, pool), it.clock)
    await it.enter(background(cache.census.run, name="census", clock=it.clock))
    it.consume(topology.CACHE_EVENTS, cache.news.heard, subscribed=cache.news.subscribed)
    it.consume(topology.SHADOWED, cache.shadows.completed)
    it.consume(topology.WARM, cache.warming.brought)
    # Those who wait for another's answer must not keep the others out.
    concurrency = it.settings.prefetch + it.policy.cache.max_waiting
    cancelled = Cancellations(it.clock)
    it.consume(topology.CANCELLATIONS, cancelled.heard)
    it.consume(topology.ACCEPTED, cancelled.before(cache.handler.accepted), concurrency=concurrency)
    it.app.router.routes.extend(cache.admin.routes())


if __name__ == "__main__":
    service.run("cache", wire)

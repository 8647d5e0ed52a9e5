"""Wiring of the cache."""

from services.cache.embedder import Embedder
from services.cache.handler import CacheHandler
from services.cache.inflight import InFlight
from services.cache.lookup import Lookup
from shared import database, service, topology


async def wire(it: service.Service) -> None:
    policy = it.policy.cache
    pool = await it.enter(database.vector_pool(it.settings.postgres_dsn, size=it.settings.pool_size))
    in_flight = InFlight(it.clock, threshold=policy.threshold, patience_s=policy.leader_patience_s)
    handler = CacheHandler(policy, Embedder(), Lookup(pool, candidates=policy.candidates), in_flight, it.clock)
    it.consume(topology.IN_FLIGHT_EVENTS, in_flight.heard)
    # Those who wait for another's answer must not keep the others out.
    it.consume(topology.ACCEPTED, handler.accepted, concurrency=it.settings.prefetch + policy.max_waiting)


if __name__ == "__main__":
    service.run("cache", wire)

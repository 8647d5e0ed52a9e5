"""Wiring of inference."""

from services.inference.assembly import Replica
from services.inference.cascade.cascade import warn_of_prices
from services.inference.embeddings import EmbeddingsDoor
from services.inference.finished import arrived
from services.inference.provider import Provider
from shared import database, service, topology


async def wire(it: service.Service) -> None:
    provider = Provider(it.policy, local_model_url=it.settings.local_model_url)
    warn_of_prices(it.policy, provider.price)
    pool = await it.enter(database.pool(it.settings.postgres_dsn, size=1))
    replica = Replica.assemble(it.policy, provider, pool, it.broker, it.clock)
    await it.enter(replica.lanes.sharing(it.broker))
    await it.enter(replica.calls)
    it.consume(topology.CANCELLATIONS, replica.cancelled.heard)
    it.consume(topology.LANE_EVENTS, replica.lanes.heard, subscribed=replica.lanes.subscribed)
    it.consume(topology.run_events(it.policy.tiers), replica.finished.heard)
    for tier in it.policy.tiers:
        run, at_once = replica.inference.routed, it.settings.inference_concurrency
        consumer = it.consume(topology.routed(tier), run, concurrency=at_once, decode=arrived)
        replica.waits.watch(tier, consumer.waiting)
    await it.enter(replica.waits.telling(it.broker))
    if it.policy.brownout.ages:
        it.consume(topology.QUEUE_AGES, replica.brownout.heard)
    it.consume(topology.SHADOWS, replica.shadows.requested, concurrency=it.settings.shadow_concurrency)
    door = EmbeddingsDoor(it.policy.cache.embedder, provider, timeout_s=it.settings.embeddings_timeout_s)
    it.app.router.routes.append(door.route)


if __name__ == "__main__":
    service.run("inference", wire)

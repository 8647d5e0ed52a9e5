"""Wiring of the router."""

from functools import partial

from services.router.assembly import Replica
from services.router.choice import choosing
from shared import database, service, topology
from shared.background import background
from shared.cancellation import Cancellations
from shared.policy import load_policy


async def wire(it: service.Service) -> None:
    shadow, other = it.policy.router.shadow, None
    if shadow is not None:
        tried = load_policy(shadow, named_by="router.shadow")
        other = tried, (await choosing(it, tried)).score
    replica = Replica.assemble(it.policy, (await choosing(it, it.policy)).score, other, it.broker, it.clock)
    pool = await it.enter(database.pool(it.settings.postgres_dsn, size=1))
    await it.enter(background(partial(replica.ledger.recall, pool), name="ledger", clock=it.clock))
    await it.enter(background(replica.news.announce, name="scores", clock=it.clock))
    it.consume(topology.router_events(it.policy.tiers), replica.news.heard, subscribed=replica.ledger.subscribed)
    cancelled = Cancellations(it.clock)
    it.consume(topology.CANCELLATIONS, cancelled.heard)
    it.consume(topology.MISSED, cancelled.before(replica.router.missed))


if __name__ == "__main__":
    service.run("router", wire)

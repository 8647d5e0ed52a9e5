"""Wiring of the router."""

from services.router.assembly import Replica, tried_out
from shared import database, service, topology
from shared.background import background


async def wire(it: service.Service) -> None:
    other = tried_out(it.policy, it.settings.policy_file)
    replica = Replica.assemble(it.policy, other, it.broker, it.clock)
    pool = await it.enter(database.pool(it.settings.postgres_dsn, size=1))
    await it.enter(background(replica.ledger.recall(pool), name="ledger"))
    await it.enter(background(replica.news.announce(), name="scores"))
    it.consume(topology.router_events(it.policy.tiers), replica.news.heard, subscribed=replica.ledger.subscribed)
    it.consume(topology.MISSED, replica.router.missed)


if __name__ == "__main__":
    service.run("router", wire)

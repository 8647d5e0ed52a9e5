"""Wiring of ingest."""

from services.ingest.assembly import Ingest
from shared import database, service, topology
from shared.background import background


async def wire(it: service.Service) -> None:
    plans = {"plan_cache_mode": "force_custom_plan"}  # a plan for any selector reads every entry
    pool = await it.enter(database.pool(it.settings.postgres_dsn, size=it.settings.pool_size, settings=plans))
    ingest = Ingest.assemble(it, pool)
    await it.enter(background(ingest.admission.watch, name="admission", clock=it.clock))
    it.consume(topology.TERMINAL_EVENTS, ingest.results.heard, subscribed=ingest.admission.subscribed)
    it.consume(topology.QUEUE_EVENTS, ingest.admission.surge.heard)
    if it.policy.brownout.ages:
        await it.enter(background(ingest.admission.surge.tell, name="surge", clock=it.clock))
    it.consume(topology.SUBMITTED, ingest.amqp.submitted, decode=service.undecoded)
    it.app = ingest.app


if __name__ == "__main__":
    service.run("ingest", wire)

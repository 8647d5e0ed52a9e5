"""Wiring of ingest."""

from services.ingest.assembly import Ingest
from shared import database, service, topology


async def wire(it: service.Service) -> None:
    plans = {"plan_cache_mode": "force_custom_plan"}  # a plan for any selector reads every entry
    pool = await it.enter(database.pool(it.settings.postgres_dsn, size=it.settings.pool_size, settings=plans))
    ingest = Ingest.assemble(it, pool)
    it.consume(topology.TERMINAL_EVENTS, ingest.results.heard)
    it.consume(topology.SUBMITTED, ingest.amqp.submitted, decode=service.undecoded)
    it.app = ingest.app


if __name__ == "__main__":
    service.run("ingest", wire)

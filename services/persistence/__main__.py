"""Wiring of persistence."""

from services.persistence.admin import Admin
from services.persistence.failures import Failures
from services.persistence.letters import Letters
from services.persistence.obituary import Obituaries
from services.persistence.writer import Writer
from shared import database, service, topology


async def wire(it: service.Service) -> None:
    pool = await it.enter(database.vector_pool(it.settings.postgres_dsn, size=1))
    entries = topology.entries(it.policy.tiers)
    limits = {topology.RECORDS: it.settings.tick_rows, entries: it.settings.tick_entries}
    writer = Writer(pool, it.clock, it.policy, entries=entries)
    it.consume_batches(limits, writer.write, tick_s=it.settings.tick_ms / 1000, rest_s=it.settings.rest_ms / 1000)
    dead = it.topology.queue("persistence.dead")
    it.consume(dead, Obituaries(it.clock).died, decode=service.undecoded)
    # Of its own: whoever reads the list keeps no tick waiting, and no tick keeps them.
    reading = await it.enter(database.pool(it.settings.postgres_dsn, size=1))
    admin = Admin(it.policy, Failures(reading), Letters(it.broker, it.topology), it.broker, it.clock)
    it.app.router.routes.extend(admin.routes())


if __name__ == "__main__":
    service.run("persistence", wire)

"""What a replica of the cache reads at its start of what persistence has put on record."""

from datetime import timedelta

from services.cache.census import Census
from shared.background import background
from shared.events import CacheAudited, CacheInvalidate, Selector
from tests.contract.persistence.conftest import Database, Persistence
from tests.support import make
from tests.support.clock import START
from tests.support.replica import Replica, entry
from tests.support.sample import sample


async def test_invalidations_and_audits_on_record_are_known_to_a_replica_that_starts(
    writer: Persistence, db: Database
) -> None:
    said = CacheInvalidate(
        invalidation_id=make.new_id(),
        selector=Selector(tenant="acme", topic="capital"),
        reason="it moved",
        invalidated_at=START,
    )
    audits = [
        sample(CacheAudited, audit_id=make.new_id(), audited_at=at).model_copy(update={"kind": kind})
        for kind, at in (("audit", START), ("free", START), ("audit", START - timedelta(hours=2)))
    ]
    await writer.records(said, *audits)
    replica = Replica()
    census = Census(db.pool, replica.judge, replica.audits, replica.shadows, replica.news, replica.clock)
    async with background(census.run, name="census"):
        await replica.clock.sleeper()
    assert entry() in replica.forgotten
    assert entry(tenant="other") not in replica.forgotten
    assert len(replica.learned.learned) == 3
    assert list(replica.shadows._counted) == [audits[0].audit_id]

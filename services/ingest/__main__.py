"""Wiring of ingest."""

from services.ingest.admission import Admission
from services.ingest.amqp_door import AmqpDoor
from services.ingest.cache_door import CacheDoor
from services.ingest.entries import Entries
from services.ingest.http_door import HttpDoor, application
from services.ingest.identity import Identities
from services.ingest.intake import Intake
from services.ingest.rating_door import RatingDoor
from services.ingest.results import Results
from services.ingest.topic_door import TopicDoor
from shared import __version__, database, service, topology
from shared.background import background


async def wire(it: service.Service) -> None:
    plans = {"plan_cache_mode": "force_custom_plan"}  # a plan for any selector reads every entry
    pool = await it.enter(database.pool(it.settings.postgres_dsn, size=it.settings.pool_size, settings=plans))
    admission = Admission(it.policy, it.broker, it.clock)
    await it.enter(background(admission.watch, name="admission", clock=it.clock))
    results = Results(pool, keep=it.settings.recent_results, follow=admission.finished)
    identities = Identities(it.settings.id_secret.get_secret_value())
    intake = Intake(it.policy, it.clock, max_body_bytes=it.settings.max_body_bytes)
    it.consume(topology.TERMINAL_EVENTS, results.heard, subscribed=admission.subscribed)
    amqp = AmqpDoor(intake, identities, results, admission, it, own_queues=it.topology.names)
    it.consume(topology.SUBMITTED, amqp.submitted, decode=service.undecoded)
    http = HttpDoor(intake, identities, results, admission, it, max_wait_s=it.settings.max_wait_s)
    cache = CacheDoor(intake, identities, results, Entries(pool), it)
    ratings = RatingDoor(intake, identities, results, it)
    it.app = application(http, cache, TopicDoor(intake, it), ratings, __version__)


if __name__ == "__main__":
    service.run("ingest", wire)

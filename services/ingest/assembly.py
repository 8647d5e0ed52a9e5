"""The parts of a replica of ingest, put together: what ``__main__`` wires to queues and the port."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from fastapi import FastAPI

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
from shared import __version__
from shared.service import Service

if TYPE_CHECKING:
    from shared.database import Pool


@dataclass(frozen=True, slots=True)
class Ingest:
    """What a service makes of queues and a port.

    Attributes:
        admission: what is measured of the queues, and may be accepted.
        amqp: the door for messages.
        app: the doors for HTTP.
    """

    results: Results
    admission: Admission
    amqp: AmqpDoor
    app: FastAPI

    @classmethod
    def assemble(cls, it: Service, pool: "Pool") -> Self:
        """Two doors to one intake; results and entries are read from a pool."""
        admission = Admission(it.policy, it.broker, it.clock)
        results = Results(pool, keep=it.settings.recent_results, follow=admission.finished)
        identities = Identities(it.settings.id_secret.get_secret_value())
        intake = Intake(it.policy, it.clock, max_body_bytes=it.settings.max_body_bytes)
        amqp = AmqpDoor(intake, identities, results, admission, it, own_queues=it.topology.names)
        http = HttpDoor(intake, identities, results, admission, it, max_wait_s=it.settings.max_wait_s)
        cache = CacheDoor(intake, identities, results, Entries(pool), it)
        ratings = RatingDoor(intake, identities, results, it)
        app = application(http, cache, TopicDoor(intake, it), ratings, __version__)
        return cls(results, admission, amqp, app)

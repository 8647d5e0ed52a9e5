"""Exchanges, queues and bindings: every name in the broker, once.

A work queue is a durable quorum queue. A message that comes back too often, or that a consumer gives up on, goes to
``forebay.dead`` under the name of the queue it was on, and from there into ``<queue>.dead``, where it stays until
somebody reads it. Dead-lettering is at-least-once, which needs ``reject-publish`` as overflow (RabbitMQ 3.10 and up).
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable topic exchange."""

    name: str


@dataclass(frozen=True, slots=True)
class Binding:
    """Messages of an exchange whose routing key matches: ``*`` is one word, ``#`` any number of them."""

    exchange: Exchange
    pattern: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue and what flows into it.

    Attributes:
        name: empty for a consumer's own queue: exclusive, named by the broker, gone with its consumer.
        dead_letters: whether it holds dead letters: kept for people, without delivery limit or dead letters of its own.
    """

    name: str
    bindings: tuple[Binding, ...]
    dead_letters: bool = False

    @property
    def exclusive(self) -> bool:
        """Whether this queue belongs to one consumer and goes with it."""
        return not self.name

    @property
    def dead(self) -> "Queue":
        """The queue that keeps what this one gave up on."""
        return Queue(f"{self.name}.dead", (Binding(DEAD, self.name),), dead_letters=True)


@dataclass(frozen=True, slots=True)
class Topology:
    """All that must exist before the first message."""

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]

    @property
    def names(self) -> frozenset[str]:
        """The names of all queues."""
        return frozenset(queue.name for queue in self.queues)

    def queue(self, name: str) -> Queue:
        """The queue of that name; raises KeyError."""
        return {queue.name: queue for queue in self.queues}[name]


REQUESTS = Exchange("forebay.requests")
RESPONSES = Exchange("forebay.responses")
SIGNALS = Exchange("forebay.signals")
DEAD = Exchange("forebay.dead")
EXCHANGES = (REQUESTS, RESPONSES, SIGNALS, DEAD)

SUBMITTED = Queue("ingest.submitted", (Binding(REQUESTS, "request.submitted.#"),))
ACCEPTED = Queue("cache.accepted", (Binding(REQUESTS, "request.accepted.*"),))
MISSED = Queue("router.missed", (Binding(REQUESTS, "request.missed"),))
RECORDS = Queue(
    "persistence.records",
    (
        Binding(REQUESTS, "request.accepted.*"),
        Binding(REQUESTS, "request.rejected"),
        Binding(RESPONSES, "response.completed.*"),
        Binding(RESPONSES, "response.failed.*"),
    ),
)

# Each replica's own view of what is under way: ingest answers waiting clients, the cache knows what is in flight.
TERMINAL_EVENTS = Queue("", (Binding(RESPONSES, "response.completed.*"), Binding(RESPONSES, "response.failed.*")))
IN_FLIGHT_EVENTS = Queue("", (*TERMINAL_EVENTS.bindings, Binding(REQUESTS, "request.missed")))
ALL_EVENTS = Queue("", (Binding(REQUESTS, "#"), Binding(RESPONSES, "#"), Binding(SIGNALS, "#")))


def routed(tier: str) -> Queue:
    """The work queue of one tier: a provider that is slow or dead holds up its own tier only."""
    return Queue(f"inference.{tier}", (Binding(REQUESTS, f"request.routed.{tier}"),))


def entries(tiers: Iterable[str]) -> Queue:
    """Answers bought from a model, to become cache entries; answers that came from the cache are not stored again."""
    return Queue("persistence.entries", tuple(Binding(RESPONSES, f"response.completed.{tier}") for tier in tiers))


def obituaries(work: Iterable[Queue]) -> Queue:
    """Copies of the dead letters of some queues, so that each dead request gets its terminal result."""
    return Queue("persistence.dead", tuple(Binding(DEAD, queue.name) for queue in work))


def topology(tiers: Iterable[str]) -> Topology:
    """Everything, for the tiers of a policy."""
    names = tuple(tiers)
    path = (SUBMITTED, ACCEPTED, MISSED, *(routed(tier) for tier in names), RECORDS)
    work = (*path, entries(names), obituaries(path))
    return Topology(EXCHANGES, (*work, *(queue.dead for queue in work)))

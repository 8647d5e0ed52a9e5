"""Exchanges, queues and bindings: every name in the broker, once.

A work queue is a durable quorum queue. A message that comes back too often, or that a consumer gives up on, goes to
``forebay.dead`` under the name of the queue it was on, and from there into ``<queue>.dead``, where it stays until
somebody reads it. Dead-lettering is at-least-once, which needs ``reject-publish`` as overflow (RabbitMQ 3.10 and up).

A fair queue has side queues, ``<queue>.<priority>.<n>``, without bindings as well: its consumers move there what keeps
other tenants out of their sight, and take it from there in its turn. Its dead letters are those of its queue.

A queue with delays has a parking queue for each, ``<queue>.parked.<seconds>s``, which nobody consumes: what is put
there expires after that many seconds, and the broker itself moves it back. Both ways lead through the default exchange,
which reaches every queue by its name: there is no binding. The delay is an argument of the queue, and so in its name.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from zlib import crc32

# Side queues of a queue, by priority. Tenants that hog share them by chance, and delay each other in there.
SIDES: Final[Mapping[str, int]] = {"interactive": 4, "bulk": 2}


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
class Return:
    """What a parking queue does with a message: back to its work queue, after a while."""

    queue: str
    after_s: float


@dataclass(frozen=True, slots=True)
class Fleeting:
    """How many messages a queue keeps at the most, and for how long; what goes is not dead-lettered."""

    messages: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue and what flows into it.

    Attributes:
        name: empty for a consumer's own queue: exclusive, named by the broker, gone with its consumer.
        dead_letters: whether it holds dead letters: kept for people, without delivery limit or dead letters of its own.
        delays: seconds that a delivery of this queue may stay away when it is parked, rising; none: it can't be.
        fair: whether its consumers take turns among tenants, and may set aside what keeps the others out.
        side_of: the queue of which this is a side queue.
        returns: set if this is a parking queue.
        fleeting: set if what it holds may be lost: it is bounded, and the oldest give way.
    """

    name: str
    bindings: tuple[Binding, ...]
    dead_letters: bool = False
    delays: tuple[float, ...] = ()
    fair: bool = False
    side_of: str | None = None
    returns: Return | None = None
    fleeting: "Fleeting | None" = None

    @property
    def exclusive(self) -> bool:
        """Whether this queue belongs to one consumer and goes with it."""
        return not self.name

    @property
    def dead(self) -> "Queue":
        """The queue that keeps what this one gave up on."""
        return Queue(f"{self.name}.dead", (Binding(DEAD, self.name),), dead_letters=True)

    @property
    def parking(self) -> tuple["Queue", ...]:
        """The queues where its parked messages wait, the shortest delay first."""
        return tuple(self._parking(delay) for delay in self.delays)

    @property
    def sides(self) -> tuple["Queue", ...]:
        """The queues where those wait who would keep the others out: some for each priority, by tenant."""
        return tuple(self._side(name, n) for name, count in SIDES.items() for n in range(count)) if self.fair else ()

    def side(self, priority: str, tenant: str) -> "Queue":
        """The side queue of a tenant's requests of a priority, the same for all replicas."""
        return self._side(priority, crc32(tenant.encode()) % SIDES[priority])

    def _side(self, priority: str, number: int) -> "Queue":
        return Queue(f"{self.name}.{priority}.{number}", (), side_of=self.name)

    def parked(self, after_s: float = 0.0) -> "Queue | None":
        """The queue where a message waits so long, or as long as there is; None where this one can't be parked."""
        delay = delay_for(self.delays, after_s)
        return None if delay is None else self._parking(delay)

    def _parking(self, after_s: float) -> "Queue":
        return Queue(f"{self.name}.parked.{after_s:g}s", (), returns=Return(self.name, after_s))


def delay_for(delays: Iterable[float], after_s: float, *, within_s: float = math.inf) -> float | None:
    """The first of these delays, which rise, that is long enough, else the longest; None where none ends within."""
    in_time = [delay for delay in delays if delay < within_s]
    return next((delay for delay in in_time if delay >= after_s), in_time[-1] if in_time else None)


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

# How long a follower of a request in flight stays away: about as long as a model takes to answer.
PARKED_S = 2.0
# How long a request waits for a provider that will not do now: until its pause is over, or its breaker half open. So
# does a submission of a tenant that has sent more than it may.
PUT_ASIDE_S = (2.0, 10.0, 30.0, 60.0, 120.0)

SUBMITTED = Queue("ingest.submitted", (Binding(REQUESTS, "request.submitted.#"),), delays=PUT_ASIDE_S)
ACCEPTED = Queue("cache.accepted", (Binding(REQUESTS, "request.accepted.*"),), delays=(PARKED_S,), fair=True)
MISSED = Queue("router.missed", (Binding(REQUESTS, "request.missed"),))
SHADOWS = Queue("inference.shadow", (Binding(REQUESTS, "request.shadowed"),))
SHADOWED = Queue("cache.shadowed", (Binding(RESPONSES, "response.shadowed.*"),))
WARM = Queue("cache.warm", (Binding(SIGNALS, "cache.warm"),))
# What trends counts. Its replicas split the stream, so it is one queue for all of them; a count is no promise, so where
# nobody counts the oldest go, and no backlog of yesterday is taken for a burst of today. A quorum queue as all others:
# a classic one whose node is down could hold up the confirms of accepted requests, for counts that nobody is owed.
COUNTED = Queue("trends.accepted", (Binding(REQUESTS, "request.accepted.*"),), fleeting=Fleeting(10_000, 30))
RECORDS = Queue(
    "persistence.records",
    (
        Binding(REQUESTS, "request.accepted.*"),
        Binding(REQUESTS, "request.rejected"),
        Binding(REQUESTS, "request.dropped"),
        Binding(RESPONSES, "response.completed.*"),
        Binding(RESPONSES, "response.failed.*"),
        Binding(SIGNALS, "cache.audited"),
        Binding(SIGNALS, "cache.invalidate"),
        Binding(SIGNALS, "request.rated"),
    ),
)

# Each replica's own view of what is under way: ingest answers waiting clients, the cache knows what is in flight, what
# is in the front, and what audits have found.
TERMINAL_EVENTS = Queue("", (Binding(RESPONSES, "response.completed.*"), Binding(RESPONSES, "response.failed.*")))
CACHE_EVENTS = Queue(
    "",
    (
        *TERMINAL_EVENTS.bindings,
        Binding(REQUESTS, "request.missed"),
        Binding(REQUESTS, "request.shadowed"),
        Binding(SIGNALS, "cache.audited"),
        Binding(SIGNALS, "cache.filled"),
        Binding(SIGNALS, "cache.invalidate"),
        Binding(SIGNALS, "topic.trending"),
        Binding(SIGNALS, "topic.settled"),
        Binding(SIGNALS, "queue.aged"),
    ),
)
# What a replica that may spend, or may spare it, hears of clients: these requests need no answer any more.
CANCELLATIONS = Queue("", (Binding(REQUESTS, "request.cancelled"),))
# What a replica of trends hears of the others, itself, and whoever announces topics.
TOPIC_EVENTS = Queue("", (Binding(SIGNALS, "topic.*"),))
# What a replica of inference hears of the others: what they see of the lanes, and when a lane is to be left alone.
LANE_EVENTS = Queue("", (Binding(SIGNALS, "lane.*"),))
# What a replica of ingest measures the age of queues by, and what it and the others make of it.
QUEUE_EVENTS = Queue("", (Binding(SIGNALS, "queue.*"),))
# What a replica hears that only wants to know how old the queues are.
QUEUE_AGES = Queue("", (Binding(SIGNALS, "queue.aged"),))
ALL_EVENTS = Queue("", (Binding(REQUESTS, "#"), Binding(RESPONSES, "#"), Binding(SIGNALS, "#")))


def routed(tier: str) -> Queue:
    """The work queue of one tier: a provider that is slow or dead holds up its own tier only."""
    return Queue(f"inference.{tier}", (Binding(REQUESTS, f"request.routed.{tier}"),), delays=PUT_ASIDE_S, fair=True)


def _bought(tiers: Iterable[str]) -> tuple[Binding, ...]:
    """The answers that these tiers gave."""
    return tuple(Binding(RESPONSES, f"response.completed.{tier}") for tier in tiers)


def run_events(tiers: Iterable[str]) -> Queue:
    """What each replica of inference hears of runs that ended: it is not for the cache's answers, which are most."""
    return Queue("", (*_bought(tiers), Binding(RESPONSES, "response.failed.*")))


def router_events(tiers: Iterable[str]) -> Queue:
    """Each replica's view of what its decisions hang on: scores of all replicas, costs of answers, health of lanes."""
    signals = (Binding(SIGNALS, key) for key in ("router.scored", "lane.throttled", "queue.aged"))
    return Queue("", (*_bought(tiers), Binding(RESPONSES, "response.late"), *signals))


def entries(tiers: Iterable[str]) -> Queue:
    """Answers bought or brought along, to become cache entries; those of the cache are not stored again."""
    return Queue("persistence.entries", (*_bought(tiers), Binding(SIGNALS, "cache.filled")))


def obituaries(work: Iterable[Queue]) -> Queue:
    """Copies of the dead letters of some queues, so that each dead request gets its terminal result."""
    return Queue("persistence.dead", tuple(Binding(DEAD, queue.name) for queue in work))


def topology(tiers: Iterable[str]) -> Topology:
    """Everything, for the tiers of a policy."""
    names = tuple(tiers)
    path = (SUBMITTED, ACCEPTED, MISSED, *(routed(tier) for tier in names), RECORDS)
    work = (*path, entries(names), obituaries(path), SHADOWS, SHADOWED, WARM, COUNTED)
    parked = (place for queue in work for place in queue.parking)
    sides = (side for queue in work for side in queue.sides)
    return Topology(EXCHANGES, (*work, *sides, *parked, *(queue.dead for queue in work)))

"""What one replica counts: the requests of its share of the stream, told to all replicas every second."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final
from uuid import uuid4

from shared.clock import Clock
from shared.consumer import Done, Outcome
from shared.events import Event, RequestAccepted, TopicCounted, TopicCounts
from shared.policy.trends import TrendsPolicy
from shared.telemetry import metrics
from shared.topics import keys
from shared.topology import Queue

# Names in one event, of some twenty bytes each, and names that wait to be told: a broker that is away costs counts.
MOST_TOLD: Final = 2_000
MOST_WAITING: Final = 50_000
EVERYBODY: Final = ""
# How a replica takes from the queue: seconds between two batches, and requests in one.
TICK_S: Final = 0.5
MOST_PER_TICK: Final = 2_000


class Counting:
    """Counts the topics of requests until they are told."""

    def __init__(self, policy: TrendsPolicy, clock: Clock) -> None:
        self._across = policy.across_tenants
        self._clock = clock
        self._requests: Counter[str] = Counter()
        self._keys: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._waiting = 0

    async def accepted(self, batch: Sequence[tuple[Queue, Event]]) -> Sequence[Outcome]:
        """Count what has arrived. Nothing is ever tried again: a count that is lost is no loss."""
        for _, event in batch:
            if isinstance(event, RequestAccepted) and not event.request.replay:  # nobody asks anew
                self.count(event.request.tenant, keys(event.request.prompt))
        metrics.TOPICS_COUNTED.inc(len(batch))
        return [Done() for _ in batch]

    def count(self, tenant: str, names: Sequence[str]) -> None:
        """Count one request under these names."""
        whose = EVERYBODY if self._across else tenant
        self._requests[whose] += 1
        counter = self._keys[whose]
        for name in names:
            if name not in counter:
                if self._waiting >= MOST_WAITING:
                    continue
                self._waiting += 1
            counter[name] += 1

    def taken(self) -> list[TopicCounted]:
        """What was counted since the last time, in events of bounded size."""
        requests, counted = self._requests, self._keys
        self._requests, self._keys, self._waiting = Counter(), defaultdict(Counter), 0
        now = self._clock.now()
        return [
            TopicCounted(batch_id=uuid4(), counts=(part,), counted_at=now)
            for tenant, number in requests.items()
            for part in _parts(tenant, number, counted[tenant])
        ]


def _parts(tenant: str, requests: int, counted: Counter[str]) -> Iterator[TopicCounts]:
    """The counts of a tenant, cut to size; its requests are told once."""
    rest = iter(counted.items())
    while True:
        part = dict(islice(rest, MOST_TOLD))
        yield TopicCounts(tenant=tenant, requests=requests, keys=part)
        requests = 0
        if len(part) < MOST_TOLD:
            return

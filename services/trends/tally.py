"""What all replicas counted, added up: how often each topic is asked for now and usually, of all a tenant asks."""

import math
from collections.abc import Iterator
from typing import Final

from services.trends.decision import Evidence
from services.trends.rates import Rates
from shared.clock import Clock
from shared.events import TopicCounted
from shared.policy.trends import TrendsPolicy

Name = tuple[str, str]  # whose requests, and the key they are counted under

MOST_TENANTS: Final = 10_000


def tenant_of(name: Name) -> str:
    """Whose requests."""
    return name[0]


class Tally:
    """The counts of topics and of all requests, and which topics were counted since somebody last looked."""

    def __init__(self, policy: TrendsPolicy, clock: Clock) -> None:
        self._clock = clock
        self._fast_s, self._slow_s = float(policy.fast), float(policy.slow)
        self._topics: Rates[Name] = Rates(
            fast_s=self._fast_s, slow_s=self._slow_s, max_names=policy.max_topics, owner=tenant_of
        )
        self._everything: Rates[str] = Rates(fast_s=self._fast_s, slow_s=self._slow_s, max_names=MOST_TENANTS)
        self._began = clock.now().timestamp()
        self._seen: dict[Name, None] = {}

    def __len__(self) -> int:
        return len(self._topics)

    def __iter__(self) -> Iterator[Name]:
        return iter(self._topics)

    def add(self, counted: TopicCounted) -> None:
        """Add what a replica, this one too, has counted."""
        # A clock that is ahead must not make a count outlive the others.
        at = min(counted.counted_at, self._clock.now()).timestamp()
        for part in counted.counts:
            if part.requests:
                self._everything.add(part.tenant, part.requests, at)
            for key, count in part.keys.items():
                name = (part.tenant, key)
                self._topics.add(name, count, at)
                self._seen[name] = None

    def taken(self) -> list[Name]:
        """The topics that were counted since the last time, in the order in which they were."""
        seen, self._seen = list(self._seen), {}
        return seen

    def reaches(self, name: Name, count: float) -> bool:
        """Whether there were so many recent requests when a topic was last counted; cheaper than how many there are."""
        return self._topics.reaches(name, count)

    def recent(self, name: Name, now: float) -> float:
        """Recent requests about a topic."""
        return self._topics.at(name, now).fast

    def evidence(self, name: Name, now: float) -> Evidence:
        """What the counts say of a topic."""
        return Evidence.of(self._topics.at(name, now), self._everything.at(tenant_of(name), now))

    def requests(self, tenant: str) -> Evidence:
        """All requests of a tenant, recent and usual."""
        rate = self._everything.at(tenant, self._clock.now().timestamp())
        return Evidence.of(rate, rate)

    @property
    def usual_s(self) -> float:
        """Seconds that the usual counts stand for: the slow minus the fast constant, and less in the first hours."""
        age = self._clock.now().timestamp() - self._began
        slow, fast = (constant * -math.expm1(-age / constant) for constant in (self._slow_s, self._fast_s))
        return slow - fast

"""What is told from outside: that a topic trends, or has settled, because somebody says so.

It is repeated as long as it holds, for caches and replicas that were not there. Caches believe what is repeated for
some repeats only, so that an end they have missed is felt; replicas learn the end that was told, and go on repeating it
when those who heard it first are gone. Nothing is stored: when all replicas end at once, what was told ends with them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Generic, TypeVar
from uuid import UUID

import structlog

from shared.clock import Clock
from shared.events import TopicSettled, TopicTrending, topic_id

log = structlog.stdlib.get_logger(__name__)
T = TypeVar("T")

# What is told from outside is repeated less often than what is detected, and holds as many times as long.
REPEAT_S: Final = 30.0
HOLDS: Final = timedelta(seconds=90)
# Seconds for which one that may have missed something listens to the others before it repeats anything.
LISTENS_S: Final = 1.5 * REPEAT_S
# Topics of one tenant that are remembered, and of all tenants: a replica of the cache heeds no more of them either.
MOST_OF_ONE: Final = 100
MOST_OF_ALL: Final = 2_000


class Said(Generic[T]):
    """What tenants said about topics, the latest of each; where there is no room, who said most loses its oldest."""

    def __init__(self) -> None:
        self._by_owner: dict[str, dict[UUID, T]] = {}
        self._warned: set[str] = set()

    def __len__(self) -> int:
        return sum(map(len, self._by_owner.values()))

    def items(self) -> Iterator[tuple[str, UUID, T]]:
        """All there is, as of now; the oldest of each tenant first."""
        for owner, topics in list(self._by_owner.items()):
            for topic, value in list(topics.items()):
                yield owner, topic, value

    def get(self, owner: str, topic: UUID) -> T | None:
        """What a tenant said about a topic."""
        return self._by_owner.get(owner, {}).get(topic)

    def has(self, owner: str) -> bool:
        """Whether a tenant said anything that is kept."""
        return owner in self._by_owner

    def put(self, owner: str, topic: UUID, value: T) -> None:
        """Keep what a tenant said last."""
        self.pop(owner, topic)
        if len(self._by_owner.get(owner, ())) >= MOST_OF_ONE:
            self._give_way(owner)
        elif len(self) >= MOST_OF_ALL:
            self._give_way(max(self._by_owner, key=lambda each: len(self._by_owner[each])))
        self._by_owner.setdefault(owner, {})[topic] = value

    def pop(self, owner: str, topic: UUID) -> None:
        """Forget what a tenant said about a topic, if anything."""
        topics = self._by_owner.get(owner, {})
        topics.pop(topic, None)
        if not topics and owner in self._by_owner:
            del self._by_owner[owner]
            self._warned.discard(owner)

    def clear(self) -> None:
        """Forget everything."""
        self._by_owner.clear()
        self._warned.clear()

    def _give_way(self, owner: str) -> None:
        if owner not in self._warned:
            self._warned.add(owner)
            log.warning("more topics are told than are kept", tenant=owner, of_one=MOST_OF_ONE, of_all=MOST_OF_ALL)
        self.pop(owner, next(iter(self._by_owner[owner])))


@dataclass(frozen=True, slots=True)
class Silence:
    """That a topic has settled, and until when it is not detected again."""

    settled_at: datetime
    until: datetime


class Told:
    """What this replica knows to be told."""

    def __init__(self, clock: Clock, *, silent: timedelta) -> None:
        """``silent``: for how long a topic is not detected that somebody said has settled."""
        self._clock = clock
        self._silent = silent
        self._topics: Said[TopicTrending] = Said()
        self._doubted: Said[TopicTrending] = Said()
        self._silences: Said[Silence] = Said()
        self._repeat_at = 0.0

    def __len__(self) -> int:
        return len(self._topics) + len(self._doubted)

    def subscribed(self) -> None:
        """That a topic has settled may have been missed: what the others repeat holds, and where none of them repeats
        anything, as they were all away or there are none, what this one knew.
        """
        for owner, known, told in self._topics.items():
            self._doubted.put(owner, known, told)
        self._topics.clear()
        self._repeat_at = self._clock.monotonic() + LISTENS_S

    def trends(self, event: TopicTrending) -> None:
        """Remember what was told, and what others repeat where it is new."""
        told = event.model_copy(update={"until": event.told_until or event.until, "told_until": None})
        told = told.model_copy(update={"until": told.ends(self._clock.now())})
        if event.origin == "repeated":
            self._doubted.clear()  # by others: while it doubts, this one repeats nothing
            known = self._topics.get(event.owner, event.topic_id)
            if (known is not None and known.until >= told.until) or self._has_settled(event):
                return
        else:
            self._silences.pop(event.owner, event.topic_id)
        self._topics.put(event.owner, event.topic_id, told)

    def settles(self, event: TopicSettled) -> None:
        """Whoever says that a topic has settled knows better than the counts, for a while."""
        now = self._clock.now()
        for topics in (self._topics, self._doubted):
            topics.pop(event.owner, event.topic_id)
        for owner, known, silence in self._silences.items():
            if silence.until <= now:
                self._silences.pop(owner, known)
        self._silences.put(event.owner, event.topic_id, Silence(event.settled_at, now + self._silent))

    def repeated(self) -> Iterator[TopicTrending]:
        """What is to be told again now; one whose end is lost ends by itself as any does."""
        if self._clock.monotonic() < self._repeat_at:
            return
        now = self._clock.now()
        self._repeat_at = self._clock.monotonic() + REPEAT_S
        for owner, known, told in self._doubted.items():
            if self._topics.get(owner, known) is None:
                self._topics.put(owner, known, told)
        self._doubted.clear()
        for owner, known, told in self._topics.items():
            if told.until <= now:
                self._topics.pop(owner, known)
                continue
            until = min(told.until, now + HOLDS)
            yield told.model_copy(update={"origin": "repeated", "until": until, "told_until": told.until})

    def is_silenced(self, tenant: str, key: str) -> bool:
        """Whether a topic must not be detected, for somebody said that it has settled."""
        if not self._silences.has(tenant):
            return False
        silence = self._silences.get(tenant, topic_id((key,), tenant or None))
        return silence is not None and self._clock.now() < silence.until

    def _has_settled(self, repeated: TopicTrending) -> bool:
        """Whether what is repeated was told before its end was: who repeats it has not heard of that yet."""
        silence = self._silences.get(repeated.owner, repeated.topic_id)
        return silence is not None and repeated.since <= silence.settled_at

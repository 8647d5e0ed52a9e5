"""Topics that trend, and the entries that are too old to be served while they do.

What is trending is announced again every few seconds (see ``services/trends``), so a replica that starts, or that has
missed something, knows it within seconds; nothing about it is stored with an entry, so one that was stored long ago is
concerned as well, and is served again as soon as its topic settles.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from services.cache.lookup import Entry
from shared.clock import Clock
from shared.events import TopicSettled, TopicTrending
from shared.policy.trends import TrendsPolicy
from shared.telemetry import metrics
from shared.topics import concerns, term, words

TRENDING: Final = "trending"
# Seconds for which what was announced is believed where an announcement that it is over may have been missed.
DOUBTED_S: Final = 90.0
MOST_TOPICS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic that trends: the latest announcement of it, and its terms as words."""

    announced: TopicTrending
    terms: Sequence[tuple[str, ...]]
    until: datetime

    @property
    def name(self) -> str:
        """What it is about, for people."""
        return ", ".join(self.announced.terms)


class Trending:
    """The topics in force, as this replica has heard of them."""

    def __init__(self, policy: TrendsPolicy, clock: Clock) -> None:
        self._max_age_s = policy.max_age
        self._clock = clock
        self._topics: dict[UUID, Topic] = {}
        # By one word of each term: a prompt is compared with the topics one of its words leads to.
        self._by_word: dict[str, dict[UUID, Topic]] = {}

    def heard(self, event: TopicTrending | TopicSettled) -> None:
        """Take note of a topic that trends, for as long as was ever announced, or of one that has settled."""
        known = self._topics.get(event.topic_id)
        if isinstance(event, TopicSettled):
            if known is not None:
                self._drop(event.topic_id)
        elif (ends := event.ends(now := self._clock.now())) > now:
            until = ends if known is None else max(ends, known.until)
            self._put(Topic(event, tuple(term(each) for each in event.terms), until))
        metrics.TOPICS_IN_FORCE.set(len(self._topics))

    def doubted(self) -> None:
        """That one has settled may have been missed: believe no longer than until it must have been announced again."""
        until = self._clock.now() + timedelta(seconds=DOUBTED_S)
        for topic in list(self._topics.values()):
            self._put(Topic(topic.announced, topic.terms, min(topic.until, until)))

    def topics(self) -> Sequence[Topic]:
        """Those in force, the one that began first at the top."""
        now = self._clock.now()
        for ended in [known for known, topic in self._topics.items() if topic.until <= now]:
            self._drop(ended)
        return sorted(self._topics.values(), key=lambda topic: topic.announced.since)

    def topic_of(self, entry: Entry, *, tenant: str) -> Topic | None:
        """The trending topic for which an entry is too old to be served to a tenant; None where there is none."""
        return self.topic_about(entry.prompt, entry.age_s(self._clock.now()), owner=entry.tenant, tenant=tenant)

    def topic_about(self, prompt: str, age_s: int, *, owner: str, tenant: str) -> Topic | None:
        """The trending topic for which an answer of that age, to that prompt of ``owner``, is too old for a tenant."""
        if not self._topics or age_s <= self._max_age_s:
            return None
        now, asked = self._clock.now(), frozenset(words(prompt))
        for topic in self._led_to(asked):
            whose = topic.announced.tenant
            if now < topic.until and whose in (None, owner, tenant) and concerns(topic.terms, asked):
                return topic
        return None

    def reason(self, topic: Topic) -> str:
        """Why an entry is not served."""
        return f"older than {_span(self._max_age_s)}, and its topic is trending: {topic.name}"

    @property
    def max_age(self) -> timedelta:
        """How old an entry of a trending topic may be."""
        return timedelta(seconds=self._max_age_s)

    def _led_to(self, prompt: frozenset[str]) -> Iterator[Topic]:
        for word in prompt:
            yield from self._by_word.get(word, {}).values()

    def _put(self, topic: Topic) -> None:
        known = topic.announced.topic_id
        if known not in self._topics and len(self._topics) >= MOST_TOPICS:
            self._make_room()
        self._topics[known] = topic
        for each in topic.terms:
            self._by_word.setdefault(each[0], {})[known] = topic

    def _make_room(self) -> None:
        """Who has most topics gives way, so that one tenant can't push out what concerns the others."""
        owners = Counter(topic.announced.tenant for topic in self._topics.values())
        ((most, _),) = owners.most_common(1)
        theirs = (known for known, topic in self._topics.items() if topic.announced.tenant == most)
        self._drop(min(theirs, key=lambda known: self._topics[known].until))

    def _drop(self, known: UUID) -> None:
        for each in self._topics.pop(known).terms:
            led = self._by_word.get(each[0], {})
            led.pop(known, None)
            if not led:
                self._by_word.pop(each[0], None)


def _span(seconds: int) -> str:
    """A duration in words, of the largest unit that leaves no rest."""
    for size, one in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {one}{'' if seconds == size else 's'}"
    return f"{seconds} second{'' if seconds == 1 else 's'}"

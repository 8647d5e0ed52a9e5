"""One replica of the cache without a database, a model or threads: its parts are real, what they ask is a test's."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final, TypeVar, cast

import numpy as np

from services.cache.eligibility import Eligible
from services.cache.front import Front
from services.cache.handler import CacheHandler, Parts
from services.cache.inflight import InFlight
from services.cache.judgement import Judge
from services.cache.learning.audits import Audits
from services.cache.learning.shadows import Shadows
from services.cache.lookup import Asked, Entry, Prompt
from services.cache.news import News
from services.cache.search import Search
from services.cache.selection import Forgotten
from services.cache.trending import Trending
from services.cache.warming import Warming
from shared.brownout import Brownout
from shared.database import DatabaseUnavailable
from shared.embedding.builtin import Vectors
from shared.events import (
    CacheInvalidate,
    Event,
    Request,
    RequestAccepted,
    RequestMissed,
    ResponseCompleted,
    Selector,
    ShadowRequested,
)
from tests.support import make
from tests.support.clock import START, ManualClock, settled

PROMPT: Final = "What is the capital of France?"
T = TypeVar("T")


def vector(angle: float) -> Vectors:
    """A unit vector; the cosine of the difference of two angles is their similarity."""
    return np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)


def entry(prompt: str = PROMPT, *, similarity: float = 1.0, match: str = "exact", **changes: Any) -> Entry:
    """An entry of a minute ago that is fresh for nine more, and not kept longer."""
    fields: dict[str, Any] = {
        "entry_id": make.new_id(),
        "scope": make.key().scope,
        "exact": make.key().exact,
        "tenant": "acme",
        "prompt": prompt,
        "answer": "Paris.",
        "model": "local/tiny",
        "tier": "light",
        "category": "static",
        "reason": "nothing changes",
        "cost_usd": 0.5,
        "stored_at": START - timedelta(minutes=1),
        "expires_at": START + timedelta(minutes=9),
        "hits": 0,
        "good": 0,
        "bad": 0,
        "similarity": similarity,
        "match": match,
    } | changes
    return Entry(**{"keep_until": fields["expires_at"]} | fields)


def near(prompt: str = "Tell me the capital of France.", similarity: float = 0.97, **changes: Any) -> Entry:
    """The same, as it is found for another prompt."""
    return entry(prompt, similarity=similarity, **{"match": "semantic"} | changes)


def invalidation(at: datetime = START, **selector: Any) -> CacheInvalidate:
    """``cache.invalidate`` of everything, or of what the selector says."""
    said = Selector.model_validate(selector or {"everything": True})
    return CacheInvalidate(invalidation_id=make.new_id(), selector=said, reason="a test", invalidated_at=at)


class FakeEmbedder:
    """Prompts at the angles a test gives them, all others at 1.5; answers of different words are at right angles.

    Attributes:
        refused: texts that have no vector.
        pause: takes as many turns of the event loop as it says.
    """

    def __init__(self, angles: Mapping[str, float] | None = None) -> None:
        self.version = "fake/1"
        self.angles = dict(angles or {})
        self.refused: set[str] = set()
        self.embedded: list[str] = []
        self.error: Exception | None = None
        self.pause: Callable[[], int] = lambda: 0

    async def embed_each(self, texts: Sequence[str]) -> "Sequence[Vectors | None]":
        self.embedded.extend(texts)
        await turns(self.pause())
        if self.error is not None:
            raise self.error
        return [None if text in self.refused else vector(self.angles.get(text, 1.5)) for text in texts]

    async def compare(self, texts: Sequence[str]) -> Vectors:
        """What answers are compared by."""
        return np.stack([vector(self.angles.get(text, place * np.pi / 2)) for place, text in enumerate(texts)])


class FakeLookup:
    """Finds the entries a test put there.

    Attributes:
        prompts: what was asked for by its keys.
        asked: what was asked for by a vector.
    """

    def __init__(self) -> None:
        self.exact: Entry | None = None
        self.nearest: list[Entry] = []
        self.away = False
        self.prompts: list[Prompt] = []
        self.asked: list[Asked] = []

    async def same(self, prompts: Sequence[Prompt], now: datetime) -> Sequence[Entry | None]:
        self.prompts.extend(prompts)
        self._read()
        return [self.exact for _ in prompts]

    async def near(self, asked: Sequence[Asked], now: datetime) -> Sequence[Sequence[Entry]]:
        self.asked.extend(asked)
        self._read()
        return [self.nearest for _ in asked]

    def _read(self) -> None:
        if self.away:
            raise DatabaseUnavailable("away")


class FakeGuards:
    """Nothing speaks against a pair, unless a test said so about one of the two prompts or about both."""

    def __init__(self) -> None:
        self.reasons: dict[frozenset[str], str] = {}
        self.judged: list[tuple[str, str]] = []

    def says(self, *prompts: str, reason: str = "numbers") -> None:
        """Speak against a prompt, or against a pair of them."""
        self.reasons[frozenset(prompts)] = reason

    def __call__(self, asked: str, stored: str) -> str | None:
        self.judged.append((asked, stored))
        return next((reason for prompts, reason in self.reasons.items() if prompts <= {asked, stored}), None)


@dataclass
class Decision:
    """What the learned threshold says of a candidate."""

    serve: bool = True
    risk: float = 0.001
    audit: bool = False
    audit_probability: float = 0.0
    reason: str = "static"


@dataclass
class State:
    """What it knows, in figures."""

    seen: int = 0
    served_wrong: int = 0
    false_hit_rate: float = 0.0
    low: float = 0.0
    high: float = 1.0
    threshold: float = 0.9
    exact_only: int = 0


@dataclass
class FakeLearned:
    """Decides what a test said, for all tenants, and keeps what it was taught.

    Attributes:
        idle: requests in which it had nothing to decide.
    """

    decision: Decision = field(default_factory=Decision)
    floors: dict[str, float] = field(default_factory=dict)
    learned: list[Any] = field(default_factory=list)
    decided: list[Any] = field(default_factory=list)
    idle: int = 0
    exact_only: bool = False
    warm: bool = True

    def of(self, tenant: str) -> "FakeLearned":
        return self

    def peek(self, tenant: str) -> "FakeLearned":
        return replace(self, learned=[], decided=[])

    def floor(self, category: str) -> float:
        return self.floors.get(category, 0.9)

    def decide(self, evidence: Any) -> Decision:
        self.decided.append(evidence)
        return self.decision

    def learn(self, tenant: str, label: Any) -> None:
        self.learned.append(label)

    def unmatched(self) -> None:
        self.idle += 1

    def state(self) -> State:
        return State(seen=len(self.learned))


class Replica:
    """One replica, and the events it returned."""

    def __init__(
        self,
        angles: Mapping[str, float] | None = None,
        *,
        clock: ManualClock | None = None,
        elsewhere: Mapping[str, Any] | None = None,
        **policy: Any,
    ) -> None:
        """``policy`` is what the test has to say in the table ``[cache]``, ``elsewhere`` in others."""
        self.clock = clock or ManualClock()
        changed = {f"cache__{name}": value for name, value in policy.items()} | dict(elsewhere or {})
        slow, strict = {"ttl": "7d", "stale_while_revalidate": "1h"}, {"ttl": "7d", "threshold": 0.95}
        self.policy = make.policy(**changed, freshness__categories__slow=slow, freshness__categories__strict=strict)
        rules = self.policy.cache
        self.embedder = FakeEmbedder(angles)
        self.lookup = FakeLookup()
        self.guards = FakeGuards()
        self.learned = FakeLearned()
        self.front = Front(max_entries=100, max_bytes=10_000_000, clock=self.clock)
        self.in_flight = InFlight(
            self.clock,
            threshold=rules.threshold,
            patience_s=rules.leader_patience_s,
            max_prompt_chars=rules.max_prompt_chars,
        )
        self.search = Search(
            self.embedder, cast("Any", self.lookup), self.clock, max_prompt_chars=rules.max_prompt_chars
        )
        learned = cast("Any", self.learned)
        self.judge = Judge(self.policy, learned, self.guards)
        self.audits = Audits(rules.audit, learned, self.judge.groups, self.embedder.compare, self.clock)
        self.shadows = Shadows(self.policy, self.search, self.embedder.compare, self.clock)
        self.forgotten = Forgotten(self.clock)
        self.trending = Trending(self.policy.trends, self.clock)
        self.brownout = Brownout(self.policy, self.clock)
        parts = Parts(
            Eligible(rules.never),
            self.front,
            self.in_flight,
            self.search,
            self.judge,
            self.audits,
            self.shadows,
            self.forgotten,
            self.trending,
            self.brownout,
        )
        self.handler = CacheHandler(self.policy, parts, self.clock)
        self.news = News(
            self.policy,
            self.forgotten,
            self.trending,
            self.front,
            self.in_flight,
            self.audits,
            self.shadows,
            self.brownout,
        )
        self.warming = Warming(self.policy, self.search, self.clock)
        self.events: list[Event] = []

    async def hear(self, *events: Event) -> list[Event]:
        """Hear what any replica announced; what follows from it."""
        following: list[Event] = []
        for event in events:
            following.extend(await self.news.heard(event))
        await settled()
        return following

    async def ask(self, request: Request) -> Sequence[Event]:
        """Handle a request to its end, and hear what it caused, as every replica does."""
        events = await self.handler.accepted(RequestAccepted(request=request))
        self.events.extend(events)
        for event in events:
            await self.news.heard(event)
        return events

    async def asked(self, *requests: Request) -> list["asyncio.Task[Sequence[Event]]"]:
        """Handle requests at the same time, as far as they get without waiting."""
        tasks = [asyncio.create_task(self.ask(request)) for request in requests]
        await settled()
        return tasks

    async def answer(self, miss: RequestMissed, text: str = "Paris.", **changes: Any) -> ResponseCompleted:
        """The model's answer to a miss arrives."""
        answered = {"key": miss.key, "output_text": text, "completed_at": self.clock.now()} | changes
        event = make.completed(miss.request, **answered)
        self.events.extend(await self.news.heard(event))
        await settled()
        return event

    async def fail(self, miss: RequestMissed, **changes: Any) -> None:
        """The model has no answer to a miss."""
        assert miss.key is not None
        await self.hear(make.failed(miss.request, exact=miss.key.exact, **changes))

    def misses(self) -> list[RequestMissed]:
        return [event for event in self.events if isinstance(event, RequestMissed)]

    def answers(self, source: str) -> list[ResponseCompleted]:
        return [event for event in self.events if isinstance(event, ResponseCompleted) and event.source == source]

    def shadowed(self) -> list[ShadowRequested]:
        return [event for event in self.events if isinstance(event, ShadowRequested)]

    def jittery(self, random: Random) -> None:
        """Let embedding take its time, a different one each time."""
        self.embedder.pause = lambda: random.randrange(12)


async def turns(number: int) -> None:
    """Let others run for so many turns of the event loop."""
    for _ in range(number):
        await asyncio.sleep(0)

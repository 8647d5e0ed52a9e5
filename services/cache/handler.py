"""One request at the cache, tier by tier: the same prompt, one in flight, a near entry that is verified, or a miss."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

from services.cache.eligibility import Eligibility, Eligible
from services.cache.front import Front
from services.cache.inflight import InFlight, Leader
from services.cache.judgement import SAME_PROMPT, TOO_FAR, VERIFIED, Considered, Judge
from services.cache.learning.audits import Audits
from services.cache.learning.shadows import Shadows
from services.cache.lookup import Entry
from services.cache.scope import cache_key
from services.cache.search import UNREADABLE, Found, Search, embedded
from services.cache.selection import Forgotten
from services.cache.trending import TRENDING, Trending
from shared.brownout import Brownout
from shared.clock import Clock
from shared.database import DatabaseUnavailable
from shared.embedding.builtin import Vectors
from shared.errors import Park
from shared.events import (
    AUTO,
    BrownoutNote,
    CacheHit,
    CacheKey,
    CacheVerdict,
    Event,
    Evidence,
    Request,
    RequestAccepted,
    RequestMissed,
    ResponseCompleted,
    ResponseFailed,
)
from shared.policy import Policy
from shared.telemetry import metrics

SAME: Final = 1.0
# Leaders of the very same prompt a request waits for, one after the other: each may take the whole patience to fail.
MOST_WAITED_FOR: Final = 2
# Requests that are known again when they come again: those of the last minutes.
MOST_CONSIDERED: Final = 10_000
NOTHING_NEAR: Final = "nothing near"


@dataclass(frozen=True, slots=True)
class Parts:
    """What the handler works with; each decides one thing."""

    eligible: Eligible
    front: Front
    in_flight: InFlight
    search: Search
    judge: Judge
    audits: Audits
    shadows: Shadows
    forgotten: Forgotten
    trending: Trending
    brownout: Brownout


@dataclass(frozen=True, slots=True)
class Explained:
    """What the cache would do about a request, and what it found."""

    key: CacheKey
    verdict: CacheVerdict
    considered: Sequence[Considered] = ()
    answer: str | None = None


class CacheHandler:
    """Answers from the cache what can be answered from it."""

    def __init__(self, policy: Policy, parts: Parts, clock: Clock) -> None:
        self._policy = policy.cache
        self._freshness = policy.freshness
        self._stale_answers = policy.brownout.stale_answers
        self._threshold_of = policy.threshold_of
        self._parts = parts
        self._clock = clock
        self._waiting = 0
        self._considered: dict[UUID, None] = {}

    async def accepted(self, event: RequestAccepted) -> Sequence[Event]:
        """``response.completed.cache``, ``response.completed.coalesced`` or ``request.missed``.

        ``response.failed.<code>`` where an equal prompt in flight was itself at fault.

        Raises:
            Park: so many wait for answers in flight that this one is to come again later.
        """
        request = event.request
        may = self._parts.eligible.judge(request)
        if not self._policy.enabled or not (may.reads or may.stores):
            return (_bypassed(request, None, may.reason or "off"),)
        key = self.key(request)
        if not may.reads:
            return (_bypassed(request, await self._parts.search.embedded(key), may.reason),)
        if entry := self._front(request, key):
            return self._hit(request, key, self._parts.judge.exact(entry))
        if not may.stores:
            return await self._alone(request, key, may)
        disappointed = 0
        while disappointed < MOST_WAITED_FOR:
            leader = self._parts.in_flight.leader(request.id, key, request.replay)
            if leader.request_id == request.id and not (leader.announced or leader.leading):
                return await self._lead(request, key, leader)
            if self._too_late(request):
                return (self._missed(request, await self._parts.search.embedded(key), "the deadline has passed"),)
            self._room()
            if answer := await self._follow(request, leader):
                if answer.request_id == request.id or self._young(request, answer):
                    return (self._shared(request, key, answer, SAME),)
                self._parts.in_flight.release(leader)  # too old for who asks now, who leads for a new one
                continue
            if leader.failure and leader.request_id == request.id:
                return ()  # delivered again, and its end has been told
            if leader.failure and leader.failure.prompt_at_fault:
                return (self._failed(request, leader.failure),)
            # The leader failed or took too long. Whoever is first to see it leads, the others follow that one.
            disappointed += 1
        return (self._missed(request, await self._parts.search.embedded(key), "those it waited for brought nothing"),)

    async def explain(self, request: Request) -> Explained:
        """What would be answered, leaving aside what is in flight; counts nothing and changes nothing.

        Raises:
            DatabaseUnavailable: the cache can't be read.
        """
        may, key = self._parts.eligible.judge(request), self.key(request)
        if not self._policy.enabled or not may.reads:
            return Explained(key, CacheVerdict(tier="bypass", reason=may.reason or "off"))
        if entry := self._front(request, key):
            considered: Sequence[Considered] = (self._parts.judge.exact(entry),)
            trouble = ""
        else:
            found = await self._parts.search(key, partial(self._usable, request))
            if found.trouble == UNREADABLE:
                raise DatabaseUnavailable(UNREADABLE)
            considered, trouble = self._judged(request, key, found, counts=False), found.trouble
        if hit := _served(considered):
            return Explained(key, self._verdict_of(hit), considered, hit.entry.answer)
        return Explained(key, self._verdict(considered, trouble), considered)

    def key(self, request: Request) -> CacheKey:
        """The key of a request, without its embedding."""
        pool = self._policy.pool_of(request.tenant)
        return cache_key(request, embedder=self._parts.search.embedder_version, pool=pool)

    async def _alone(self, request: Request, key: CacheKey, may: Eligibility) -> Sequence[Event]:
        """A request whose answer must not be kept: it may be served, but nobody can wait for its answer."""
        _, considered = await self._searched(request, key)
        if hit := _served(considered):
            return self._hit(request, key, hit)
        metrics.LOOKUPS.labels("miss").inc()
        return (RequestMissed(request=request, verdict=self._verdict(considered, may.reason)),)

    async def _lead(self, request: Request, key: CacheKey, own: Leader) -> Sequence[Event]:
        own.leading = True
        try:
            found, considered = await self._searched(request, key)
            if hit := _served(considered):
                events = self._hit(request, key, hit)
                self._parts.in_flight.answered(own, _answer(events))
                return events
            if found.vector is not None and (shared := await self._near(request, own, found.vector)):
                self._parts.in_flight.answered(own, shared)
                return (shared,)
        except BaseException:
            self._parts.in_flight.release(own)
            raise
        finally:
            own.leading = False
        self._parts.audits.expect(request, key, considered)
        return (self._missed(request, embedded(key, found.vector), found.trouble, considered),)

    async def _searched(self, request: Request, key: CacheKey) -> tuple[Found, Sequence[Considered]]:
        found = await self._parts.search(key, partial(self._usable, request))
        considered = self._judged(request, key, found)
        for each in considered:
            if each.against == TOO_FAR:
                continue  # nothing was verified
            if each.against is not None:
                metrics.VETOES.labels(each.against).inc()
            elif each.entry is found.exact:
                self._parts.front.put(found.exact)
        return found, considered

    def _judged(self, request: Request, key: CacheKey, found: Found, *, counts: bool = True) -> Sequence[Considered]:
        if found.exact is not None:
            return (self._parts.judge.exact(found.exact),)
        overtaken = self._overtaken(request, found)
        if found.trouble:
            return overtaken  # nothing was looked for by meaning
        near = [entry for entry in found.near if self._usable(request, entry)]
        counts = counts and self._is_new(request)
        considered = self._parts.judge.consider(key.prompt, near, tenant=request.tenant, counts=counts)
        return sorted((*overtaken, *considered), key=lambda each: -each.entry.similarity) if overtaken else considered

    def _overtaken(self, request: Request, found: Found) -> Sequence[Considered]:
        """The entries that would be usable if their topic were not trending, with the reason."""
        refused = () if found.refused is None else (found.refused,)
        entries = {entry.entry_id: entry for entry in (*found.near, *refused)}.values()
        topics = ((entry, self._parts.trending.topic_of(entry, tenant=request.tenant)) for entry in entries)
        return [
            Considered(
                entry, TRENDING, Evidence(similarity=entry.similarity), detail=self._parts.trending.reason(topic)
            )
            for entry, topic in topics
            if topic is not None and self._keeps(request, entry)
        ]

    def _is_new(self, request: Request) -> bool:
        """Whether a request is considered for the first time: one that was parked, or is delivered again, is not."""
        if request.id in self._considered:
            return False
        self._considered[request.id] = None
        if len(self._considered) > MOST_CONSIDERED:
            del self._considered[next(iter(self._considered))]
        return True

    async def _near(self, request: Request, own: Leader, vector: Vectors) -> ResponseCompleted | None:
        """The answer of a request in flight whose prompt is near and verified; None where there is none."""
        refused: set[Leader] = set()
        while candidates := [each for each in self._parts.in_flight.near(own, vector) if each[0] not in refused]:
            leader, similarity = candidates[0]
            against = self._parts.judge.shared(own.key.prompt, leader.key.prompt, tenant=request.tenant)
            if against is not None:
                metrics.VETOES.labels(against).inc()
                refused.add(leader)
                continue
            if not self._parts.in_flight.borrow(own, leader):
                continue  # it began to wait for another meanwhile
            try:
                self._room()
                answer = await self._follow(request, leader)
            finally:
                self._parts.in_flight.unborrow(own)
            if answer is not None and self._shareable(request, answer, similarity):
                return self._shared(request, own.key, answer, similarity)
            # Those who waited for it too are looking for another: the first of them leads, the others find that one.
            refused.add(leader)
        return None

    def _shareable(self, request: Request, answer: ResponseCompleted, similarity: float) -> bool:
        """Whether an answer to a near prompt will do, now that its category is known and whether it is first hand.

        One that was near to the leader's own prompt may be far from this one.
        """
        category = answer.freshness.category if answer.freshness else ""
        return _first_hand(answer) and self._young(request, answer) and similarity >= self._threshold_of(category)

    async def _follow(self, request: Request, leader: Leader) -> ResponseCompleted | None:
        """The leader's answer; None when it failed, took longer than the policy's patience, or comes too late."""
        left_s = leader.expires - self._clock.monotonic()
        if request.deadline is not None:
            left_s = min(left_s, (request.deadline - self._clock.now()).total_seconds())
        self._waiting += 1
        try:
            with metrics.WAITING.track_inprogress():
                return await leader.wait(max(0.0, left_s))
        finally:
            self._waiting -= 1

    def _room(self) -> None:
        """Raise Park where this replica lets as many wait as it may."""
        if self._waiting >= self._policy.max_waiting:
            raise Park("as many requests as may be are waiting for answers in flight")

    def _too_late(self, request: Request) -> bool:
        return request.deadline is not None and request.deadline <= self._clock.now()

    def _front(self, request: Request, key: CacheKey) -> Entry | None:
        entry = self._parts.front.get(key.exact, self._clock.now())
        return entry if entry is not None and self._usable(request, entry) else None

    def _usable(self, request: Request, entry: Entry) -> bool:
        """Whether an entry is young enough for its topic, its category and who asks; stale only while bought anew."""
        return self._keeps(request, entry) and self._parts.trending.topic_of(entry, tenant=request.tenant) is None

    def _keeps(self, request: Request, entry: Entry) -> bool:
        """Whether an entry is usable, whatever is trending."""
        now, most = self._clock.now(), request.cache_control.max_age_s
        return (
            now < entry.keep_until
            and (most is None or entry.age_s(now) <= most)
            and entry not in self._parts.forgotten
            and (self._in_time(request, entry, now) or self._for_want_of_better(request, entry, now))
        )

    def _in_time(self, request: Request, entry: Entry, now: datetime) -> bool:
        """Whether an entry is fresh, or stale for so short that it is served while a new answer is bought."""
        longest = self._freshness.longest_of(entry.category, request.tenant)
        if longest is not None and entry.age_s(now) >= longest:
            return False
        past_s = (now - entry.expires_at).total_seconds()
        # How long it is kept does not tell: that may be for brownouts, of a policy that has no such step any more.
        renewable = past_s < self._freshness.stale_s(entry.category)
        return past_s < 0 or (renewable and self._parts.shadows.renews(entry))

    def _for_want_of_better(self, request: Request, entry: Entry, now: datetime) -> bool:
        """Whether an expired entry is served because a new answer would take too long, as the operator allows.

        Not to who says how old an answer may be: without ``max-stale`` such a client wants none that is stale (RFC
        9111, section 5.2.1.1).
        """
        rung = self._stale_answers
        if rung is None or request.cache_control.max_age_s is not None:
            return False
        past_s = self._past_s(request, entry, now)
        return past_s < rung.up_to and "stale_answers" in self._parts.brownout.steps(self._next_tier(request, entry))

    def _past_s(self, request: Request, entry: Entry, now: datetime) -> float:
        """Seconds since an entry has expired, by its own time or that of who asks; infinite where it wants none."""
        past_s = (now - entry.expires_at).total_seconds()
        if entry.category not in self._freshness.categories:
            return past_s
        ttl_s = self._freshness.ttl_of(entry.category, request.tenant)
        return max(past_s, entry.age_s(now) - ttl_s) if ttl_s else math.inf

    def _next_tier(self, request: Request, entry: Entry) -> str:
        """Where a new answer would be bought, as far as that can be told: at the tier of the last one, or the cheaper
        one that a brownout sends those to who name none.
        """
        cheaper = self._parts.brownout.cheaper(entry.tier) if request.model == AUTO else ()
        return cheaper[0] if cheaper else entry.tier

    def _young(self, request: Request, answer: ResponseCompleted) -> bool:
        """Whether the answer of one in flight is young enough for who asks, its category and its topic."""
        age_s, most = _answered_s(answer, self._clock.now()), request.cache_control.max_age_s
        if most is not None and age_s > most:
            return False
        if most is not None and any(note.step == "stale_answers" for note in answer.brownout):
            return False
        if answer.answer_of is not None and answer.freshness is not None:  # that of an entry, which may be any age
            longest = self._freshness.longest_of(answer.freshness.category, request.tenant)
            if longest is not None and age_s >= longest:
                return False
        prompt = answer.key.prompt if answer.key else request.prompt
        topic = self._parts.trending.topic_about(prompt, age_s, owner=answer.tenant, tenant=request.tenant)
        return topic is None

    def _hit(self, request: Request, key: CacheKey, considered: Considered) -> tuple[Event, ...]:
        entry = considered.entry
        metrics.LOOKUPS.labels(entry.match).inc()
        completed = self._completed(
            request,
            key,
            source="cache",
            output_text=entry.answer,
            model=entry.model,
            tier=entry.tier,
            freshness=entry.freshness,
            saved_usd=entry.cost_usd,
            hit=CacheHit.model_validate(entry, from_attributes=True),
            similarity=entry.similarity,
            verdict=self._verdict_of(considered),
            brownout=self._stale(request, entry),
        )
        extra: Sequence[Event] = self._parts.shadows.refresh(request, key, entry)
        return completed, *(extra or self._parts.shadows.audit(request, key, considered))

    def _stale(self, request: Request, entry: Entry) -> tuple[BrownoutNote, ...]:
        """The note for an entry that is served though its time is over and no new answer is on its way."""
        now = self._clock.now()
        if self._in_time(request, entry, now):
            return ()
        tier = self._next_tier(request, entry)
        metrics.BROWNOUTS.labels("stale_answers", tier).inc()
        expired = f"expired {self._past_s(request, entry, now):.0f} s ago"
        age_s = round(self._parts.brownout.age_s(tier), 1)
        return (BrownoutNote(step="stale_answers", tier=tier, age_s=age_s, detail=expired),)

    def _shared(
        self, request: Request, key: CacheKey, answer: ResponseCompleted, similarity: float
    ) -> ResponseCompleted:
        if answer.request_id == request.id:  # asked twice under one id: told twice
            return answer.model_copy(update={"reply": request.reply, "replay": request.replay})
        metrics.LOOKUPS.labels("coalesced").inc()
        similarity = min(similarity, SAME if answer.similarity is None else answer.similarity)
        same = answer.key is not None and answer.key.exact == key.exact and _first_hand(answer)
        return self._completed(
            request,
            key,
            source="coalesced",
            output_text=answer.output_text,
            model=answer.model,
            tier=answer.tier,
            freshness=answer.freshness,
            saved_usd=answer.cost_usd or answer.saved_usd,
            leader_id=answer.request_id,
            similarity=similarity,
            brownout=tuple(note for note in answer.brownout if note.step != "longer_deadline"),
            verdict=CacheVerdict(
                tier="in_flight",
                reason=SAME_PROMPT if same else VERIFIED,
                similarity=similarity,
                entry_id=answer.request_id,
                age_s=_answered_s(answer, self._clock.now()),
            ),
        )

    def _completed(self, request: Request, key: CacheKey, **answer: Any) -> ResponseCompleted:
        return ResponseCompleted(**request.carried, **answer, completed_at=self._clock.now(), key=key)

    def _failed(self, request: Request, failure: ResponseFailed) -> ResponseFailed:
        """The end of a request that waited for one with the same prompt, which is at fault.

        Of the other it tells the code alone: who asked the same may be of another tenant, and what a provider said, and
        where and in which calls, is the other's own.
        """
        own = {
            "message": f"{failure.code}: the same prompt just failed, as it would again",
            "failures": (),
            "tier": None,
            "route": None,
            "failed_at": self._clock.now(),
            "attempts": 0,
        }
        metrics.LOOKUPS.labels("coalesced").inc()
        return failure.model_copy(update=request.carried | own)

    def _missed(
        self, request: Request, key: CacheKey, reason: str, considered: Sequence[Considered] = ()
    ) -> RequestMissed:
        metrics.LOOKUPS.labels("unavailable" if reason == UNREADABLE else "miss").inc()
        return RequestMissed(request=request, key=key, verdict=self._verdict(considered, reason))

    def _verdict(self, considered: Sequence[Considered], reason: str) -> CacheVerdict:
        """Why nothing was served: what spoke against the nearest entry."""
        if not considered:
            return CacheVerdict(tier="miss", reason=reason or NOTHING_NEAR)
        return self._verdict_of(considered[0])

    def _verdict_of(self, considered: Considered) -> CacheVerdict:
        entry = considered.entry
        return CacheVerdict(
            tier="miss" if considered.against else entry.match,
            reason=considered.reason,
            similarity=entry.similarity,
            risk=considered.risk,
            entry_id=entry.entry_id,
            age_s=entry.age_s(self._clock.now()),
        )


def _served(considered: Sequence[Considered]) -> Considered | None:
    return next((each for each in considered if each.against is None), None)


def _answer(events: Sequence[Event]) -> ResponseCompleted:
    answer = events[0]
    assert isinstance(answer, ResponseCompleted)
    return answer


def _first_hand(answer: ResponseCompleted) -> bool:
    """Whether an answer was given to the prompt it came with, not to one that is near to it."""
    return answer.leader_id is None and (answer.hit is None or answer.hit.match == "exact")


def _answered_s(answer: ResponseCompleted, now: datetime) -> int:
    """Seconds since an answer was bought; one that came from elsewhere says how old it was already."""
    bought = answer.answer_of is None
    before = 0 if bought or answer.verdict is None else answer.verdict.age_s or 0
    return max(0, before + int((now - answer.completed_at).total_seconds()))


def _bypassed(request: Request, key: CacheKey | None, reason: str) -> RequestMissed:
    metrics.LOOKUPS.labels("bypass").inc()
    return RequestMissed(request=request, key=key, verdict=CacheVerdict(tier="bypass", reason=reason))

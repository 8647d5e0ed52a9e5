"""One request at the cache: the exact answer, the answer of one in flight, a near answer, or a miss."""

from collections.abc import Sequence
from typing import Any, Final

import structlog

from services.cache.batching import Batcher
from services.cache.embedder import Embedder, Vectors
from services.cache.inflight import InFlight, Leader
from services.cache.lookup import Entry, Lookup
from services.cache.scope import cache_key
from services.cache.verification import differs
from shared.clock import Clock
from shared.database import DatabaseUnavailable
from shared.events import (
    CacheHit,
    CacheKey,
    Event,
    Freshness,
    Request,
    RequestAccepted,
    RequestMissed,
    ResponseCompleted,
    encode_vector,
)
from shared.policy import CachePolicy
from shared.telemetry import metrics

log = structlog.stdlib.get_logger(__name__)
SAME: Final = 1.0


class CacheHandler:
    """Answers from the cache what can be answered from it."""

    def __init__(
        self, policy: CachePolicy, embedder: Embedder, lookup: Lookup, in_flight: InFlight, clock: Clock
    ) -> None:
        self._policy = policy
        self._embedder = embedder
        self._embed: Batcher[str, Vectors] = Batcher(embedder.embed_each)
        self._lookup = lookup
        self._in_flight = in_flight
        self._clock = clock
        self._waiting = 0

    async def accepted(self, event: RequestAccepted) -> Sequence[Event]:
        """``response.completed.cache``, ``response.completed.coalesced`` or ``request.missed``."""
        request = event.request
        if not self._policy.enabled:
            return (RequestMissed(request=request),)
        key = cache_key(request, embedder=self._embedder.version)
        if entry := await self._exact(key):
            return (self._hit(request, key, entry),)
        while True:
            leader = self._in_flight.leader(request.id, key)
            if leader.request_id == request.id and not (leader.announced or leader.leading):
                return await self._lead(request, leader)
            if self._waiting >= self._policy.max_waiting or self._too_late(request):
                return (self._missed(request, key, await self._vector(key)),)
            if answer := await self._follow(request, leader):
                return (self._shared(request, key, answer, SAME),)
            if leader.failed and leader.request_id == request.id:
                return ()  # delivered again, and its end has been told
            # The leader failed or took too long. Whoever is first to see it leads, the others follow that one.

    async def _lead(self, request: Request, own: Leader) -> Sequence[Event]:
        own.leading = True
        try:
            vector = await self._vector(own.key)
            if vector is not None and (found := await self._near(request, own, vector)):
                self._in_flight.answered(own, found)
                return (found,)
        except BaseException:
            self._in_flight.release(own)
            raise
        finally:
            own.leading = False
        return (self._missed(request, own.key, vector),)

    async def _near(self, request: Request, own: Leader, vector: Vectors) -> ResponseCompleted | None:
        if entry := await self._nearest(own.key, vector):
            return self._hit(request, own.key, entry)
        near = self._in_flight.near(own, vector)
        if near is not None and self._waiting < self._policy.max_waiting:
            leader, similarity = near
            answer = await self._follow(request, leader)
            # An answer that was near to the leader's prompt may be far from this one.
            if answer is not None and answer.similarity in (None, SAME):
                return self._shared(request, own.key, answer, similarity)
            own.borrows = False
        return None

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

    def _too_late(self, request: Request) -> bool:
        return request.deadline is not None and request.deadline <= self._clock.now()

    async def _exact(self, key: CacheKey) -> Entry | None:
        try:
            return await self._lookup.exact(key, self._clock.now())
        except DatabaseUnavailable as error:
            _unreadable(error)
            return None

    async def _nearest(self, key: CacheKey, vector: Vectors) -> Entry | None:
        try:
            candidates = await self._lookup.nearest(key, vector, self._clock.now())
        except DatabaseUnavailable as error:
            _unreadable(error)
            return None
        for entry in candidates:
            if entry.similarity < self._policy.threshold:
                break
            reason = differs(key.prompt, entry.prompt)
            if reason is None:
                return entry
            metrics.VETOES.labels(reason).inc()
        return None

    async def _vector(self, key: CacheKey) -> Vectors | None:
        """The embedding of the prompt; None where it is too long to be matched by meaning."""
        if len(key.prompt) > self._policy.max_prompt_chars:
            return None
        with metrics.LOOKUP_SECONDS.time():
            return await self._embed(key.prompt)

    def _hit(self, request: Request, key: CacheKey, entry: Entry) -> ResponseCompleted:
        metrics.LOOKUPS.labels(entry.match).inc()
        ttl_s = int((entry.expires_at - entry.stored_at).total_seconds())
        return self._completed(
            request,
            key,
            source="cache",
            output_text=entry.answer,
            model=entry.model,
            tier=entry.tier,
            freshness=Freshness(category=entry.category, ttl_s=ttl_s, reason="of the cached answer"),
            saved_usd=entry.cost_usd,
            hit=CacheHit.model_validate(entry, from_attributes=True),
            similarity=entry.similarity,
        )

    def _shared(
        self, request: Request, key: CacheKey, answer: ResponseCompleted, similarity: float
    ) -> ResponseCompleted:
        if answer.request_id == request.id:  # asked twice under one id: told twice
            return answer.model_copy(update={"reply": request.reply})
        metrics.LOOKUPS.labels("coalesced").inc()
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
            similarity=min(similarity, SAME if answer.similarity is None else answer.similarity),
        )

    def _completed(self, request: Request, key: CacheKey, **answer: Any) -> ResponseCompleted:
        return ResponseCompleted(
            request_id=request.id,
            tenant=request.tenant,
            accepted_at=request.accepted_at,
            completed_at=self._clock.now(),
            key=key,
            reply=request.reply,
            metadata=request.metadata,
            **answer,
        )

    def _missed(self, request: Request, key: CacheKey, vector: Vectors | None) -> RequestMissed:
        metrics.LOOKUPS.labels("miss").inc()
        embedding = None if vector is None else encode_vector(vector.tolist())
        return RequestMissed(request=request, key=key.model_copy(update={"embedding": embedding}))


def _unreadable(error: DatabaseUnavailable) -> None:
    """A cache that cannot be read is an empty one: requests go on, at a price."""
    metrics.LOOKUPS.labels("unavailable").inc()
    log.warning("the cache cannot be read", error=str(error))

"""What a replica hears from all others: who is in flight, what was answered or learned, what is to be forgotten."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from services.cache.front import Front
from services.cache.inflight import InFlight
from services.cache.learning.audits import Audits
from services.cache.learning.shadows import Shadows
from services.cache.lookup import Entry
from services.cache.selection import Forgotten, Meant, concerns
from services.cache.trending import Trending
from shared.brownout import Brownout
from shared.events import (
    CacheAudited,
    CacheFilled,
    CacheInvalidate,
    Event,
    QueueAged,
    ResponseCompleted,
    ResponseFailed,
    ShadowRequested,
    TopicSettled,
    TopicTrending,
)
from shared.policy import Policy


class News:
    """Keeps what this replica has in memory right.

    Attributes:
        behind: whether there may be invalidations that it has not heard of; whoever reads those on record says so.
    """

    def __init__(
        self,
        policy: Policy,
        forgotten: Forgotten,
        trending: Trending,
        front: Front,
        in_flight: InFlight,
        audits: Audits,
        shadows: Shadows,
        brownout: Brownout,
    ) -> None:
        self._policy = policy
        self._forgotten = forgotten
        self._trending = trending
        self._front = front
        self._in_flight = in_flight
        self._audits = audits
        self._shadows = shadows
        self._brownout = brownout
        self.behind = True

    def subscribed(self) -> None:
        """What was announced until now may have been missed: forget what an invalidation may have meant."""
        self.behind = True
        self._trending.doubted()
        self._front.clear()
        self._in_flight.forget(lambda _: True)

    def caught_up(self, invalidations: Iterable[CacheInvalidate]) -> None:
        """Remember invalidations that are on record; which of the entries in memory they mean is not looked for."""
        for each in invalidations:
            self._forgotten.remember(each)
        self._front.clear()
        self._in_flight.forget(self._outdated)

    async def heard(self, event: Event) -> Sequence[Event]:
        """Take note of an event; ``cache.audited`` where it made an answer comparable."""
        if isinstance(event, ResponseCompleted) and self._outdated(event):
            self._in_flight.overtaken(event)
        else:
            await self._in_flight.heard(event)
        match event:
            case ResponseCompleted(answer_of=None):
                self._keep(event.request_id, event)
                return await self._audits.answered(event)
            case ResponseFailed():
                self._audits.failed(event.request_id)
            case CacheFilled() if event.origin != "reembed":  # those are old, and not hot
                self._keep(event.entry_id, event)
            case CacheInvalidate():
                self._forget(event)
            case CacheAudited():
                self._audits.learn(event)
            case TopicTrending() | TopicSettled():
                self._trending.heard(event)
            case ShadowRequested():
                self._shadows.heard(event)
            case QueueAged():
                self._brownout.told(event)
            case _:
                pass
        return ()

    def _keep(self, entry_id: UUID, event: ResponseCompleted | CacheFilled) -> None:
        entry = self._entry(entry_id, event)
        if entry is not None and entry not in self._forgotten:
            self._front.put(entry)

    def _forget(self, event: CacheInvalidate) -> None:
        meant = self._forgotten.remember(event)
        self._front.forget(lambda entry: concerns(meant, entry))
        self._in_flight.forget(lambda answer: self._concerned(meant, answer))

    def _concerned(self, meant: Sequence[Meant], answer: ResponseCompleted) -> bool:
        entry = self._entry(answer.answer_of or answer.request_id, answer)
        return entry is not None and concerns(meant, entry)

    def _outdated(self, answer: ResponseCompleted) -> bool:
        entry = self._entry(answer.answer_of or answer.request_id, answer)
        return entry is not None and entry in self._forgotten

    def _entry(self, entry_id: UUID, event: ResponseCompleted | CacheFilled) -> Entry | None:
        """The entry an event makes; None for an answer that may not be reused, or is longer than the policy allows."""
        key, freshness = event.key, event.freshness
        if key is None or key.base is None or freshness is None or not freshness.ttl_s:
            return None
        if len(event.output_text) > self._policy.cache.bounds.max_answer_chars:
            return None
        expires_at, keep_until = self._policy.lifetime(freshness, event.completed_at)
        return Entry(
            entry_id=entry_id,
            scope=key.scope,
            exact=key.exact,
            tenant=event.tenant,
            prompt=key.prompt,
            answer=event.output_text,
            model=event.model,
            tier=event.tier,
            category=freshness.category,
            reason=freshness.reason,
            cost_usd=event.cost_usd,
            stored_at=event.completed_at,
            expires_at=expires_at,
            keep_until=keep_until,
            hits=0,
            good=0,
            bad=0,
            similarity=1.0,
            match="exact",
        )

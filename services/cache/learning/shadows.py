"""Calls nobody waits for: audits of served hits, and refreshes of entries that are stale or about to be.

Both are asked for by an event, run by inference at low priority, and come back as an event. Every replica hears the
request for one, so that the hourly budgets hold for all replicas together and an entry is refreshed once.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from uuid import UUID

import structlog

from services.cache.judgement import Considered
from services.cache.learning.agreement import Embed, agreement, finding
from services.cache.learning.budget import HOUR_S, HourlyBudget
from services.cache.lookup import Entry
from services.cache.search import Search
from shared import database
from shared.clock import Clock
from shared.events import (
    CacheControl,
    CacheFilled,
    CacheHit,
    CacheKey,
    Event,
    Freshness,
    Priority,
    Request,
    ShadowCompleted,
    ShadowRequested,
    Turn,
)
from shared.policy import Policy
from shared.telemetry import metrics

if TYPE_CHECKING:
    from shared.database import Pool

log = structlog.stdlib.get_logger(__name__)
SQL: Final = database.statements(Path(__file__).with_name("shadows.sql"))
PATIENCE_S: Final = 10.0
# Seconds after which a refresh that brought nothing may be asked for again.
REFRESH_AGAIN_S: Final = 600.0
# Seconds within which a refresh has brought its answer, if it ever does: it is asked for twice, and waits its turn.
REFRESHED_S: Final = 60.0
MOST_REMEMBERED: Final = 10_000


class Shadows:
    """Decides which calls to ask for, and what their answers mean."""

    def __init__(self, policy: Policy, search: Search, embed: Embed, clock: Clock) -> None:
        """``search`` embeds prompts; ``embed`` compares answers."""
        self._audit = policy.cache.audit
        self._refresh = policy.cache.refresh
        self._freshness = policy.freshness
        self._search = search
        self._embed = embed
        self._clock = clock
        self._budgets = {
            "audit": HourlyBudget(policy.cache.audit.max_per_hour),
            "refresh": HourlyBudget(policy.cache.refresh.max_per_hour),
        }
        self._refreshing: dict[UUID, float] = {}  # entry, and when it was asked for
        self._hits: dict[UUID, int] = {}  # seen by this replica since an entry was stored
        self._counted: dict[UUID, float] = {}  # shadows that were taken from their budget, and when

    async def recall(self, pool: "Pool") -> bool:
        """Count the audits of the last hour on record, for the budget; False while they can't be read.

        Of refreshes there is no record, so that their budget begins anew with each process.
        """
        now = self._clock.now()
        try:
            async with database.reading("the audits of the last hour", patience_s=PATIENCE_S):
                rows = await pool.fetch(SQL["audits"], now - timedelta(seconds=HOUR_S))
        except database.DatabaseUnavailable as error:
            log.warning("no audits counted yet", error=str(error))
            return False
        asked = {row["audit_id"]: row["audited_at"] for row in rows if row["audit_id"] not in self._counted}
        for audit_id in asked:
            self._remember(self._counted, audit_id, self._clock.monotonic())
        ago = ((now - audited_at).total_seconds() for audited_at in asked.values())
        self._budgets["audit"].recall(self._clock.monotonic() - max(0.0, seconds) for seconds in ago)
        return True

    def audit(self, request: Request, key: CacheKey, considered: Considered) -> Sequence[ShadowRequested]:
        """The audit of a hit, where it was sampled and the budget allows it."""
        if request.cache_control.no_store:
            return ()  # the audit's answer would be kept, with the prompt
        if not (self._audit.enabled and considered.sampled and self._left("audit")):
            return ()
        return (self._shadow("audit", request, key, considered.entry, considered),)

    def renews(self, entry: Entry) -> bool:
        """Whether a fresh answer is on its way to an entry that expired, or is asked for with the next hit on it."""
        if not self._refresh.enabled:
            return False
        asked = self._refreshing.get(entry.entry_id)
        since_s = REFRESH_AGAIN_S if asked is None else self._clock.monotonic() - asked
        if since_s < REFRESH_AGAIN_S:
            return since_s < REFRESHED_S
        return self._left("refresh")

    def refresh(self, request: Request, key: CacheKey, entry: Entry) -> Sequence[ShadowRequested]:
        """The refresh of an entry that was served stale, or that is popular and soon will be."""
        now = self._clock.now()
        if not self._refresh.enabled or not (now >= entry.expires_at or self._soon_missed(entry, now)):
            return ()
        asked = self._refreshing.get(entry.entry_id)
        if asked is not None and self._clock.monotonic() - asked < REFRESH_AGAIN_S:
            return ()
        if not self._left("refresh"):
            return ()
        self._remember(self._refreshing, entry.entry_id, self._clock.monotonic())
        if key.exact != entry.exact:  # a near prompt found it: it is the entry's own that is asked again
            request = _asking(request, entry.prompt)
            key = key.model_copy(update={"exact": entry.exact, "prompt": entry.prompt, "embedding": None})
        return (self._shadow("refresh", request, key, entry, None),)

    def _soon_missed(self, entry: Entry, now: datetime) -> bool:
        hits = self._hits.get(entry.entry_id, 0) + 1
        self._remember(self._hits, entry.entry_id, hits)
        age, life = now - entry.stored_at, entry.expires_at - entry.stored_at
        return age >= self._refresh.from_share_of_ttl * life and entry.hits + hits >= self._refresh.popular_hits

    def _left(self, purpose: str) -> bool:
        left = self._budgets[purpose].left(self._clock.monotonic())
        if not left:
            metrics.SHADOWS_OVER_BUDGET.labels(purpose).inc()
        return left

    def _shadow(
        self,
        purpose: Literal["audit", "refresh"],
        request: Request,
        key: CacheKey,
        entry: Entry,
        considered: Considered | None,
    ) -> ShadowRequested:
        own = {
            "id": _derived(request.id, purpose),
            "priority": Priority.BULK,
            "reply": None,
            "deadline": None,
            "cache_control": CacheControl(),
        }
        shadow = ShadowRequested(
            request=request.model_copy(update=own),
            purpose=purpose,
            key=key,
            tier=entry.tier,
            freshness=self._renewed(entry, request.tenant),
            hit=CacheHit.model_validate(entry, from_attributes=True),
            expected=entry.answer,
            evidence=considered.evidence if considered else None,
            sampled=considered.sampled if considered else 1.0,
        )
        self._count(shadow)  # and not when it is heard: many may be asked for until then
        return shadow

    def _renewed(self, entry: Entry, tenant: str) -> Freshness:
        """How long a new answer may be reused: as long as its category says, though one caller wanted the old one less
        long (``max-age``).
        """
        if entry.category not in self._freshness.categories:
            return entry.freshness
        ttl_s = self._freshness.ttl_of(entry.category, tenant)
        return Freshness(category=entry.category, ttl_s=ttl_s, reason=entry.reason)

    def _count(self, event: ShadowRequested) -> None:
        if event.request.id not in self._counted:
            self._remember(self._counted, event.request.id, self._clock.monotonic())
            self._budgets[event.purpose].spend(self._clock.monotonic())

    def heard(self, event: ShadowRequested) -> None:
        """Count what any replica has asked for."""
        self._count(event)
        if event.purpose == "refresh":
            self._remember(self._refreshing, event.hit.entry_id, self._clock.monotonic())

    async def completed(self, event: ShadowCompleted) -> Sequence[Event]:
        """What follows from the answer: a fresh entry for this very prompt and, of an audit, its finding."""
        shadow = event.shadow
        filled = CacheFilled(
            entry_id=shadow.request.id,
            tenant=shadow.request.tenant,
            origin=shadow.purpose,
            key=await self._search.embedded(shadow.key),
            output_text=event.output_text,
            model=event.model,
            tier=shadow.tier,
            freshness=shadow.freshness,
            cost_usd=event.cost_usd,
            completed_at=event.completed_at,
        )
        if shadow.evidence is None:
            return (filled,)
        agrees = await agreement(self._embed, shadow.expected, event.output_text)
        audited = finding(
            agrees,
            self._audit.agreement,
            kind="audit",
            tenant=shadow.request.tenant,
            request_id=shadow.request.id,
            scope=shadow.key.scope,
            entry_id=shadow.hit.entry_id,
            evidence=shadow.evidence,
            sampled=shadow.sampled,
            now=self._clock.now(),
        )
        if not audited.same:
            log.warning("an audit found a wrong hit", entry_id=str(shadow.hit.entry_id), agreement=round(agrees, 3))
        return filled, audited

    def _remember(self, memory: dict[UUID, float] | dict[UUID, int], key: UUID, value: float) -> None:
        memory.pop(key, None)
        memory[key] = value  # type: ignore[assignment]  # an int for the one, a float for the other
        if len(memory) > MOST_REMEMBERED:
            del memory[next(iter(memory))]


def _asking(request: Request, prompt: str) -> Request:
    """The same request with another prompt."""
    said = request.input
    asked = prompt if isinstance(said, str) else (*said[:-1], Turn(role="user", content=prompt))
    return request.model_copy(update={"input": asked})


def _derived(request_id: UUID, purpose: str) -> UUID:
    """The id of a shadow: the same when the request is handled again, and of the request's time (its first 48 bits)."""
    tail = int.from_bytes(hashlib.sha256(f"{request_id}/{purpose}".encode()).digest()[:10], "big")
    return UUID(int=request_id.int >> 80 << 80 | tail & (1 << 80) - 1)

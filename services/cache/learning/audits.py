"""What the cache learns about itself: it compares, it remembers, and it tells how often it is wrong.

Two kinds of findings teach the threshold. Audits: a served hit was also run. And free ones: a near entry was *not*
served, the request was run anyway, so its answer can be held against the entry's without another call. All replicas
hear all findings and learn the same; a replica that starts reads the latest ones from PostgreSQL.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

import structlog

from services.cache.judgement import Considered
from services.cache.learning.agreement import Embed, agreement, finding
from services.cache.learning.budget import Pace
from services.cache.learning.lessons import Lessons
from services.cache.learning.neighbours import AnswerGroups
from services.cache.learning.threshold import Audited
from shared import database
from shared.clock import Clock
from shared.events import CacheAudited, CacheKey, Event, Request, ResponseCompleted
from shared.policy.caching import AuditPolicy
from shared.telemetry import metrics

if TYPE_CHECKING:
    from shared.database import Pool

log = structlog.stdlib.get_logger(__name__)
SQL: Final = database.statements(Path(__file__).with_name("audits.sql"))
# Findings a starting replica reads: of each tenant as many as teach it most, and of all so many as take seconds.
RECALLED_EACH: Final = 2_000
RECALLED: Final = 50_000
PATIENCE_S: Final = 10.0
MOST_PENDING: Final = 2000
# Findings that are told apart from new ones: what was recalled, and as many that were heard.
MOST_KNOWN: Final = 2 * RECALLED
# Free findings cost two embeddings of answers, some 30 to 60 ms of CPU each where an answer has the 256 tokens that the
# model reads: at this pace a quarter of a core at the most. What comes faster is not compared: which ones those are is
# a matter of time, not of what is asked, but who asks in bursts teaches less.
COMPARED_PER_S: Final = 2.0
COMPARED_AT_ONCE: Final = 2


@dataclass(frozen=True, slots=True)
class Pending:
    """A near entry that was not served to a request which is being run."""

    considered: Considered
    key: CacheKey


class Audits:
    """Compares answers, and keeps the learned threshold up to date."""

    def __init__(self, policy: AuditPolicy, lessons: Lessons, groups: AnswerGroups, embed: Embed, clock: Clock) -> None:
        self._policy = policy
        self._lessons = lessons
        self._groups = groups
        self._embed = embed
        self._clock = clock
        self._pending: dict[UUID, Pending] = {}
        self._known: dict[UUID, None] = {}  # findings that were learned from, in their order
        self._pace = Pace(COMPARED_PER_S)
        self._comparing = 0

    def expect(self, request: Request, key: CacheKey, considered: Sequence[Considered]) -> None:
        """Remember the nearest entry of a miss until the bought answer comes; not one that is forbidden anyway."""
        nearest = next((each for each in considered if each.comparable), None)
        if not self._policy.enabled or nearest is None:
            return
        self._pending[request.id] = Pending(nearest, key)
        if len(self._pending) > MOST_PENDING:
            del self._pending[next(iter(self._pending))]

    async def answered(self, event: ResponseCompleted) -> Sequence[Event]:
        """The free finding of a request that was bought although an entry was near, where there is time for it.

        Who listens to what all replicas announce calls this, so no more than a few are at it, and the others go on.
        """
        pending = self._pending.pop(event.request_id, None)
        if pending is None:
            return ()
        if self._comparing >= COMPARED_AT_ONCE or not self._pace.take(self._clock.monotonic()):
            metrics.UNCOMPARED.inc()
            return ()
        entry = pending.considered.entry
        self._comparing += 1
        try:
            agrees = await agreement(self._embed, entry.answer, event.output_text)
        finally:
            self._comparing -= 1
        audited = finding(
            agrees,
            self._policy.agreement,
            kind="free",
            tenant=event.tenant,
            request_id=event.request_id,
            scope=pending.key.scope,
            entry_id=entry.entry_id,
            evidence=pending.considered.evidence,
            sampled=1.0,
            now=self._clock.now(),
        )
        return (audited,)

    def failed(self, request_id: UUID) -> None:
        """A request that has no answer has none to compare."""
        self._pending.pop(request_id, None)

    def learn(self, event: CacheAudited) -> None:
        """Learn from a finding, wherever it was made; one that is known already teaches nothing."""
        if event.audit_id in self._known:
            return
        self._known[event.audit_id] = None
        if len(self._known) > MOST_KNOWN:
            del self._known[next(iter(self._known))]
        if event.kind == "feedback":
            return  # only the wrong ones are reported: they count against their entry, and say nothing about rates
        label = Audited(event.evidence, same=event.same, served=event.served, sampled=event.sampled)
        self._lessons.learn(event.tenant, label)
        # The answer that was bought became an entry under the id of its request.
        self._groups.join(event.request_id, event.entry_id, same=event.same)

    def tell(self) -> None:
        """Put what is known into the metrics; it takes a moment where there are many owners."""
        state = self._lessons.state()
        metrics.FALSE_HITS.labels("estimate").set(state.false_hit_rate)
        metrics.FALSE_HITS.labels("low").set(state.low)
        metrics.FALSE_HITS.labels("high").set(state.high)
        metrics.EXACT_ONLY.set(state.exact_only)
        metrics.LEARNED_THRESHOLD.set(state.threshold)

    def summary(self) -> dict[str, float | int]:
        """What is known about how often the cache is wrong."""
        state = self._lessons.state()
        return {
            "seen": state.seen,
            "served_wrong": state.served_wrong,
            "false_hit_rate": state.false_hit_rate,
            "low": state.low,
            "high": state.high,
            "exact_only": state.exact_only,
            "threshold": state.threshold,
        }

    async def recall(self, pool: "Pool", *, since: datetime) -> bool:
        """Learn again from the latest findings on record, oldest first; False while they can't be read."""
        try:
            async with database.reading("the findings of earlier audits", patience_s=PATIENCE_S):
                rows = await pool.fetch(SQL["latest"], since, RECALLED_EACH, RECALLED)
        except database.DatabaseUnavailable as error:
            log.warning("nothing recalled yet", error=str(error))
            return False
        for row in reversed(rows):
            try:
                self.learn(CacheAudited.model_validate(dict(row) | {"evidence": json.loads(row["evidence"])}))
            except ValueError as error:  # of another version, or a hand's; the others teach all the same
                log.warning("a finding that cannot be read", audit_id=str(row["audit_id"]), error=str(error))
        return True

"""Which topics trend: what every replica decides by itself, from the same counts.

Replicas need no leader. All of them hear all counts, so all of them decide alike within seconds; each announces what
it decided, and the same topic has the same id whoever announces it. Where one has just begun, or has missed something,
the next announcement of the others puts it right for those who listen.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from services.trends.decision import Evidence
from services.trends.tally import Name, Tally, tenant_of
from services.trends.told import Told
from shared.clock import Clock
from shared.events import Event, TopicCounted, TopicSettled, TopicTrending
from shared.policy.trends import TrendsPolicy
from shared.telemetry import metrics

log = structlog.stdlib.get_logger(__name__)

# Seconds an announcement holds: some times as long as the pause until the next one.
HOLDS: Final = timedelta(seconds=30)
REPEAT_S: Final = 5.0
# What is fewer is not looked at: even of a topic nobody ever asked for it would say little.
LEAST: Final = 2.0
# Share of the floor below which a topic that trends could be back to its usual share by chance.
STILL: Final = 0.12
# Share of a word's recent requests from which a phrase with it says better what they are about.
COVERED: Final = 0.5


@dataclass(slots=True)
class Trend:
    """A topic that trends.

    Attributes:
        since: seconds since the epoch.
        onset: what it was decided on; what was usual then stays what it is compared with, while less than what is now.
    """

    name: Name
    since: float
    onset: Evidence
    latest: Evidence

    def see(self, now: Evidence) -> None:
        """Compare what is now with what was usual before the topic began to trend, or is by now if that is less."""
        usual, usual_all = min(
            ((each.usual, each.usual_all) for each in (self.onset, now)), key=lambda usual: usual[0] / max(usual[1], 1)
        )
        self.latest = Evidence(now.now, now.now_all, usual, usual_all)


class Watch:
    """Hears what all replicas counted, and what is told from outside, and says what trends.

    Attributes:
        tally: what was counted.
    """

    def __init__(self, policy: TrendsPolicy, clock: Clock) -> None:
        self._policy = policy
        self._clock = clock
        self.tally = Tally(policy, clock)
        self._trends: dict[Name, Trend] = {}
        self._told = Told(clock, silent=timedelta(seconds=policy.slow))
        self._repeat_at = 0.0

    def subscribed(self) -> None:
        """Something may have been missed: of counts nobody minds, but the end of a topic that was told is told once."""
        self._told.subscribed()

    async def heard(self, event: Event) -> Sequence[Event]:
        """Take note of counts, and of what is told from outside; nothing follows at once."""
        match event:
            case TopicCounted():
                self.tally.add(event)
            case TopicTrending(origin="told" | "repeated"):
                self._told.trends(event)
            case TopicSettled(origin="told"):
                self._told.settles(event)
            case _:
                pass
        return ()

    def tick(self) -> list[Event]:
        """What changed since the last time, and now and then again all that trends."""
        now = self._clock.now()
        settled = list(self._settled(now.timestamp()))
        begun = list(self._begun(self.tally.taken(), now.timestamp()))
        metrics.TRENDING.set(len(self._trends))
        metrics.TOPICS_KEPT.set(len(self.tally))
        metrics.TOPICS_TOLD.set(len(self._told))
        if self._clock.monotonic() >= self._repeat_at:
            self._repeat_at = self._clock.monotonic() + REPEAT_S
            begun = list(self._trends.values())
        return [*settled, *(self._announced(trend, now) for trend in begun), *self._told.repeated()]

    def trends(self) -> Sequence[Trend]:
        """What trends by this replica's own counts, the longest first."""
        return sorted(self._trends.values(), key=lambda trend: trend.since)

    def rising(self, most: int) -> Sequence[Trend]:
        """The topics that are nearest to trending, by how unlikely their counts are; looks at all, so seldom."""
        now = self._clock.now().timestamp()
        found = (
            Trend(name, now, evidence, evidence)
            for name, evidence in (
                (name, self.tally.evidence(name, now)) for name in self.tally if name not in self._trends
            )
            if evidence.now >= LEAST and evidence.ratio(self._policy.prior) > 1
        )
        return sorted(found, key=lambda trend: -trend.latest.significance)[:most]

    def _begun(self, seen: Sequence[Name], now: float) -> Iterator[Trend]:
        """Topics that begin to trend: the most unlikely first, as long as there is room for their tenant's."""
        candidates = [Trend(name, now, evidence, evidence) for name, evidence in self._above(seen, now)]
        if not candidates:
            return
        covered = self._covered(seen, now)
        candidates.sort(key=lambda trend: -trend.latest.significance)
        for trend in candidates:
            tenant, key = trend.name
            if trend.latest.now * COVERED <= covered.get(trend.name, 0.0) or self._told.is_silenced(*trend.name):
                continue
            if not self._has_room(tenant):
                log.warning("more topics trend than may", tenant=tenant, max_trending=self._policy.max_trending)
                continue
            self._trends[trend.name] = trend
            log.info("a topic trends", topic=key, tenant=tenant, reason=self.reason(trend))
            metrics.TRENDS_BEGUN.inc()
            yield trend

    def _has_room(self, tenant: str) -> bool:
        """Whether a tenant may have one more: what is free, and else what a tenant that has more then must give up.

        The topic that gives way ends by itself, as it is announced no more.
        """
        if len(self._trends) < self._policy.max_trending:
            return True
        have = Counter(map(tenant_of, self._trends))
        (most, count), *_ = have.most_common(1)
        if count <= have[tenant] + 1:
            return False
        theirs = (trend for trend in self._trends.values() if tenant_of(trend.name) == most)
        gone = min(theirs, key=lambda trend: trend.latest.significance)
        del self._trends[gone.name]
        log.info("a topic gives way to another tenant's", topic=gone.name[1], tenant=most)
        return True

    def _above(self, names: Iterable[Name], now: float) -> Iterator[tuple[Name, Evidence]]:
        for name in names:
            if name in self._trends or not self.tally.reaches(name, LEAST):
                continue
            evidence = self.tally.evidence(name, now)
            if (
                evidence.now >= LEAST
                and evidence.ratio(self._policy.prior) >= self._policy.ratio
                and evidence.significance >= self._policy.floor
            ):
                yield name, evidence

    def _covered(self, seen: Sequence[Name], now: float) -> dict[Name, float]:
        """Of each word in a phrase just counted, the recent requests with the phrase of it that has most."""
        most: dict[Name, float] = {}
        for tenant, key in seen:
            if " " not in key:
                continue
            recent = self.tally.recent((tenant, key), now)
            for word in key.split():
                most[tenant, word] = max(most.get((tenant, word), 0.0), recent)
        return most

    def _settled(self, now: float) -> Iterator[TopicSettled]:
        for trend in list(self._trends.values()):
            trend.see(self.tally.evidence(trend.name, now))
            if why := self._over(trend, now):
                del self._trends[trend.name]
                tenant, key = trend.name
                log.info("a topic has settled", topic=key, tenant=tenant, reason=why)
                settled_at = datetime.fromtimestamp(now, UTC)
                yield TopicSettled(
                    terms=(key,), tenant=tenant or None, origin="detected", reason=why, settled_at=settled_at
                )

    def _over(self, trend: Trend, now: float) -> str:
        """Why a topic trends no more; empty while it does."""
        if self._told.is_silenced(*trend.name):
            return "told from outside"
        if now - trend.since > self._policy.slow:
            return "it has been so for so long that it is the usual by now"
        if trend.latest.ratio(self._policy.prior) < self._policy.settle:
            return f"below {self._policy.settle:g} times its usual share"
        if trend.latest.significance < STILL * self._policy.floor:
            return "so few requests that it could be chance"
        return ""

    def reason(self, trend: Trend) -> str:
        """Why a topic trends, for people."""
        seen = trend.latest
        usual = seen.usual_share(self._policy.prior)
        return (
            f"{seen.share:.2%} of the requests, usually {usual:.2%}: {seen.ratio(self._policy.prior):.1f} times as much"
        )

    def _announced(self, trend: Trend, now: datetime) -> TopicTrending:
        tenant, key = trend.name
        return TopicTrending(
            terms=(key,),
            tenant=tenant or None,
            origin="detected",
            score=trend.latest.ratio(self._policy.prior),
            reason=self.reason(trend),
            since=datetime.fromtimestamp(trend.since, UTC),
            until=now + HOLDS,
        )

"""The parts of a replica of the cache, put together: what ``__main__`` wires to queues and ports."""

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from services.cache.admin import Admin
from services.cache.census import Census
from services.cache.eligibility import Eligible
from services.cache.front import Front
from services.cache.handler import CacheHandler, Parts
from services.cache.inflight import InFlight
from services.cache.judgement import Judge
from services.cache.learning.audits import Audits
from services.cache.learning.lessons import Lessons
from services.cache.learning.shadows import Shadows
from services.cache.learning.threshold import Settings
from services.cache.lookup import Lookup
from services.cache.news import News
from services.cache.reembedding import Reembedding
from services.cache.search import Embeds, Search
from services.cache.selection import Forgotten
from services.cache.trending import Trending
from services.cache.warming import Warming
from shared.background import background
from shared.brownout import Brownout
from shared.clock import Clock
from shared.embedding.builtin import Embedder
from shared.embedding.remote import RemoteEmbedder
from shared.policy import Policy
from shared.service import Service

if TYPE_CHECKING:
    from shared.database import Pool


@dataclass(frozen=True, slots=True)
class Cache:
    """One replica."""

    handler: CacheHandler
    news: News
    shadows: Shadows
    warming: Warming
    admin: Admin
    census: Census

    @classmethod
    def assemble(cls, policy: Policy, pool: "Pool", lookups: "Pool", embedder: Embeds, clock: Clock) -> Self:
        """A replica that searches with ``embedder``; answers are compared by the one built in."""
        rules, reader = policy.cache, embedder if isinstance(embedder, Embedder) else Embedder()
        lookup = Lookup(lookups, candidates=rules.candidates, dimensions=rules.embedder.length)
        search = Search(embedder, lookup, clock, max_prompt_chars=rules.max_prompt_chars)
        front = Front(max_entries=rules.front.max_entries, max_bytes=rules.front.max_bytes, clock=clock)
        lessons = Lessons(_stated(policy), rules.owner_of, random.Random())
        judge = Judge(policy, lessons)
        most = rules.max_prompt_chars
        in_flight = InFlight(
            clock, threshold=rules.threshold, patience_s=rules.leader_patience_s, max_prompt_chars=most
        )
        audits = Audits(rules.audit, lessons, judge.groups, reader.embed, clock)
        shadows = Shadows(policy, search, reader.embed, clock)
        forgotten, trending = Forgotten(clock), Trending(policy.trends, clock)
        eligible, brownout = Eligible(rules.never), Brownout(policy, clock)
        parts = Parts(eligible, front, in_flight, search, judge, audits, shadows, forgotten, trending, brownout)
        handler = CacheHandler(policy, parts, clock)
        news = News(policy, forgotten, trending, front, in_flight, audits, shadows, brownout)
        return cls(
            handler=handler,
            news=news,
            shadows=shadows,
            warming=Warming(policy, search, clock),
            admin=Admin(policy, handler, audits, front, trending, pool, clock),
            census=Census(pool, judge, audits, shadows, news, clock),
        )


def _stated(policy: Policy) -> Settings:
    """What the operator states about wrong answers."""
    categories = policy.freshness.categories
    return Settings(
        max_error=policy.cache.audit.max_error,
        threshold=policy.cache.threshold,
        thresholds={name: policy.threshold_of(name) for name in categories},
        audit_share=policy.cache.audit.share,
    )


async def embedder(it: Service, pool: "Pool") -> Embeds:
    """The embedder of the policy; where it took the place of another, entries are moved to it meanwhile."""
    rules = it.policy.cache.embedder
    chosen: Embeds
    if rules.builtin:
        chosen = Embedder()
    else:
        settings = it.settings
        remote = RemoteEmbedder.connecting(
            rules, settings.embeddings_url, it.clock, timeout_s=settings.embeddings_timeout_s
        )
        chosen = await it.enter(remote)
    if rules.previous:
        most = it.policy.cache.max_prompt_chars
        moving = Reembedding(pool, chosen, it.broker, it.clock, previous=rules.previous, max_prompt_chars=most)
        await it.enter(background(moving.run, name="reembedding", clock=it.clock))
    return chosen

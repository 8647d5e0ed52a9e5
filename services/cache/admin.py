"""What operators ask a replica: what is in the cache, and what it would answer, and why.

It listens where the probes do, and asks nobody who they are: it shows any tenant's prompts, so it is for the inside of
a deployment only.
"""

from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.cache import topic_entries
from services.cache.front import Front
from services.cache.handler import CacheHandler, Explained
from services.cache.judgement import Considered
from services.cache.learning.audits import Audits
from services.cache.trending import Trending
from shared import database
from shared.bodies import body_within
from shared.clock import Clock
from shared.database import DatabaseUnavailable
from shared.errors import ForebayError, InvalidRequest, RequestTooLarge
from shared.events import DEFAULT_TENANT, Request, Submission
from shared.faults import told
from shared.policy import Policy
from shared.problems import problem
from shared.telemetry import metrics

if TYPE_CHECKING:
    from shared.database import Pool

SQL: Final = database.statements(Path(__file__).with_name("admin.sql"))
PATIENCE_S: Final = 10.0
# As the doors have it where nobody says otherwise.
MOST_BYTES: Final = 524_288


class Admin:
    """``GET /v1/stats``, ``GET /v1/topics`` and ``POST /v1/lookup`` on the cache's own port; none changes anything."""

    def __init__(
        self,
        policy: Policy,
        handler: CacheHandler,
        audits: Audits,
        front: Front,
        trending: Trending,
        pool: "Pool",
        clock: Clock,
    ) -> None:
        self._policy = policy
        self._handler = handler
        self._audits = audits
        self._front = front
        self._trending = trending
        self._pool = pool
        self._clock = clock

    def routes(self) -> Sequence[Route]:
        """The routes to add to the service's own."""
        return (
            Route("/v1/stats", self.stats),
            Route("/v1/topics", self.topics),
            Route("/v1/lookup", self.lookup, methods=["POST"]),
        )

    async def stats(self, _: HttpRequest) -> Response:
        """What is stored, what it has saved, and how often it is wrong."""
        try:
            async with database.reading("the cache", patience_s=PATIENCE_S):
                categories = await self._pool.fetch(SQL["by_category"], self._clock.now())
                tenants = await self._pool.fetch(SQL["by_tenant"])
                size = await self._pool.fetchval(SQL["bytes"])
        except DatabaseUnavailable as error:
            return _unavailable(error)
        lookups = {
            sample.labels["result"]: int(sample.value)
            for metric in metrics.LOOKUPS.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        }
        return JSONResponse(
            {
                "entries": sum(row["entries"] for row in categories),
                "bytes": size,
                "by_category": [dict(row) for row in categories],
                "by_tenant": [dict(row) for row in tenants],
                "lookups": lookups,
                "front": {"entries": len(self._front), "bytes": self._front.bytes},
                "audits": self._audits.summary(),
            }
        )

    async def topics(self, _: HttpRequest) -> Response:
        """The trending topics this replica heeds, and how many entries are not served for each."""
        now, shown = self._clock.now(), []
        for topic in self._trending.topics():
            said = topic.announced.model_dump(mode="json", include={"terms", "tenant", "origin", "reason", "since"})
            try:
                async with database.reading("the entries of a topic", patience_s=PATIENCE_S):
                    affected = await topic_entries.affected(self._pool, topic, self._trending.max_age, now)
            except DatabaseUnavailable:
                affected = None  # they are not served all the same
            shown.append(
                {"topic_id": str(topic.announced.topic_id), **said, "until": topic.until.isoformat()}
                | {"entries": affected and affected.entries, "more": affected is not None and affected.more}
            )
        return JSONResponse({"max_age_s": self._policy.trends.max_age, "topics": shown})

    async def lookup(self, asked: HttpRequest) -> Response:
        """What the cache would answer to a submission, and what it found on the way; no model is called."""
        try:
            submission = Submission.model_validate_json(await body_within(asked, MOST_BYTES), strict=True)
            request = Request.model_validate(
                submission.model_dump(exclude_unset=True)
                | {
                    "id": "00000000-0000-8000-8000-000000000000",
                    "tenant": asked.headers.get("Forebay-Tenant") or DEFAULT_TENANT,
                    "accepted_at": self._clock.now(),
                    "digest": "",
                }
            )
        except RequestTooLarge as error:
            return problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, error.code, error.message)
        except ValidationError as error:
            return problem(HTTPStatus.BAD_REQUEST, InvalidRequest.code, told(error, most=1))
        try:
            explained = await self._handler.explain(request)
        except ForebayError as error:
            return _unavailable(error)
        return JSONResponse(self._shown(explained))

    def _shown(self, explained: Explained) -> dict[str, Any]:
        now = self._clock.now()
        return {
            "verdict": explained.verdict.model_dump(mode="json"),
            "threshold": self._policy.cache.threshold,
            "candidates": [_candidate(each, now) for each in explained.considered],
            "answer": explained.answer,
            "key": {"scope": str(explained.key.scope), "exact": str(explained.key.exact)},
        }


def _candidate(considered: Considered, now: datetime) -> dict[str, Any]:
    entry = considered.entry
    return {
        "entry_id": str(entry.entry_id),
        "prompt": entry.prompt,
        "similarity": entry.similarity,
        "risk": considered.risk,
        "reason": considered.reason,
        "age_s": entry.age_s(now),
        "expires_in_s": int((entry.expires_at - now).total_seconds()),
        "category": entry.category,
        "freshness": entry.reason,
        "model": entry.model,
        "hits": entry.hits,
        "good": entry.good,
        "bad": entry.bad,
    }


def _unavailable(error: ForebayError) -> Response:
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, error.code, str(error))

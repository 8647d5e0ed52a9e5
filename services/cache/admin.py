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

from services.cache.front import Front
from services.cache.handler import CacheHandler, Explained
from services.cache.judgement import Considered
from services.cache.learning.audits import Audits
from shared import database
from shared.bodies import body_within
from shared.clock import Clock
from shared.database import DatabaseUnavailable
from shared.errors import ForebayError, InvalidRequest, RequestTooLarge
from shared.events import DEFAULT_TENANT, Request, Submission
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
    """``GET /v1/stats`` and ``POST /v1/lookup`` on the cache's own port; nothing is changed by either."""

    def __init__(
        self, policy: Policy, handler: CacheHandler, audits: Audits, front: Front, pool: "Pool", clock: Clock
    ) -> None:
        self._policy = policy
        self._handler = handler
        self._audits = audits
        self._front = front
        self._pool = pool
        self._clock = clock

    def routes(self) -> Sequence[Route]:
        """The routes to add to the service's own."""
        return (Route("/v1/stats", self.stats), Route("/v1/lookup", self.lookup, methods=["POST"]))

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
            fault = error.errors(include_url=False, include_input=False)[0]
            said = ": ".join(filter(None, (".".join(map(str, fault["loc"])), fault["msg"])))
            return problem(HTTPStatus.BAD_REQUEST, InvalidRequest.code, said)
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

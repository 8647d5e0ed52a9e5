"""What operators ask a replica: which topics trend, which are near to it, and why.

It listens where the probes do, and asks nobody who they are: it shows words of any tenant's prompts, so it is for the
inside of a deployment only.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.trends.watch import Trend, Watch
from shared.events import topic_id
from shared.policy.trends import TrendsPolicy

RISING: Final = 10
_MINUTE: Final = 60.0


class Admin:
    """``GET /v1/topics`` on the service's own port; nothing is changed by it."""

    def __init__(self, policy: TrendsPolicy, watch: Watch) -> None:
        self._policy = policy
        self._watch = watch

    def routes(self) -> Sequence[Route]:
        """The routes to add to the service's own."""
        return (Route("/v1/topics", self.topics),)

    async def topics(self, _: HttpRequest) -> Response:
        """The topics that trend, those that are nearest to it, and the rule by which that is decided."""
        return JSONResponse(
            {
                "enabled": self._policy.enabled,
                "trending": [self._shown(trend, trending=True) for trend in self._watch.trends()],
                "rising": [self._shown(trend, trending=False) for trend in self._watch.rising(RISING)],
                "rule": self._policy.model_dump(include={"fast", "slow", "ratio", "floor", "settle", "prior"}),
            }
        )

    def _shown(self, trend: Trend, *, trending: bool) -> dict[str, Any]:
        """Rates are requests per minute."""
        tenant, key = trend.name
        seen, everything = trend.latest, self._watch.tally.requests(tenant)
        usual_all = everything.usual * _MINUTE / max(1.0, self._watch.tally.usual_s)
        return {
            "topic_id": str(topic_id((key,), tenant or None)),
            "terms": [key],
            "tenant": tenant or None,
            "since": datetime.fromtimestamp(trend.since, UTC).isoformat() if trending else None,
            "per_minute": seen.now * _MINUTE / self._policy.fast,
            "usual_per_minute": seen.usual_share(self._policy.prior) * usual_all,
            "share": seen.share,
            "usual_share": seen.usual_share(self._policy.prior),
            "ratio": seen.ratio(self._policy.prior),
            "significance": seen.significance,
            "reason": self._watch.reason(trend),
        }

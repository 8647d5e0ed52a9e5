"""Requests that their clients need no more, as one replica knows them: what has not been spent yet is spared.

Every replica of the cache, the router and inference hears of every cancellation and remembers it for a while. Whichever
first meets such a request ends it. It is a courtesy, no promise: what a replica has not heard of, because it was just
starting, or has forgotten, goes on and gets its answer.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar
from uuid import UUID

from shared.clock import Clock
from shared.events import (
    CANCELLED,
    Event,
    RequestCancelled,
    RequestEvent,
    RequestRouted,
    ResponseFailed,
)
from shared.telemetry import metrics

# A backlog may be of hours; 100,000 ids take some 20 MB.
KEPT_S: Final = 86_400.0
MOST: Final = 100_000

E = TypeVar("E", bound=RequestEvent)


class Cancellations:
    """The ids that were cancelled of late; ask it before each call that costs something."""

    def __init__(self, clock: Clock, *, keep_s: float = KEPT_S, most: int = MOST) -> None:
        self._clock = clock
        self._keep_s = keep_s
        self._most = most
        self._until: OrderedDict[UUID, float] = OrderedDict()  # on the monotonic clock, the first to go first

    async def heard(self, event: Event) -> Sequence[Event]:
        """Take note of ``request.cancelled``; nothing comes of it."""
        if isinstance(event, RequestCancelled):
            now = self._clock.monotonic()
            self._until[event.request_id] = now + self._keep_s
            self._until.move_to_end(event.request_id)
            while len(self._until) > self._most or next(iter(self._until.values())) <= now:
                self._until.popitem(last=False)
        return ()

    def __call__(self, request_id: UUID) -> bool:
        """Whether this request is needed no more."""
        return self._until.get(request_id, 0.0) > self._clock.monotonic()

    def before(self, handler: Callable[[E], Awaitable[Sequence[Event]]]) -> Callable[[E], Awaitable[Sequence[Event]]]:
        """A handler of requests that gets to see only those that are still needed; the others end here."""

        async def spared(event: E) -> Sequence[Event]:
            return (self.end(event),) if self(event.request.id) else await handler(event)

        return spared

    def end(self, event: RequestEvent, *, attempts: int = 0) -> ResponseFailed:
        """``response.failed.cancelled`` after so many calls to a provider; whoever waits for its answer is freed."""
        route = event.route if isinstance(event, RequestRouted) else None
        metrics.CANCELLED.inc()
        return ResponseFailed(
            **event.request.carried,
            code=CANCELLED,
            message="cancelled by its client",
            attempts=attempts,
            tier=route.tier if route else None,
            route=route,
            failed_at=self._clock.now(),
            exact=event.exact,
        )

"""One call to a provider, through the lane's gate; it may outlive the request's deadline."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Protocol
from uuid import UUID, uuid5

import structlog

from services.inference.completion import Completion
from services.inference.errors import Cancelled, DeadlineExceeded, ProviderError
from services.inference.lanes.choice import Candidate
from services.inference.lanes.gate import Busy, Pass
from services.inference.waits import Waits
from shared.clock import Clock
from shared.errors import ForebayError
from shared.events import CacheFilled, Event, Request, RequestRouted, ResponseLate
from shared.policy.tiers import Lane, Tier
from shared.telemetry import metrics

log = structlog.stdlib.get_logger(__name__)
# Calls of a replica that go on beyond their request's deadline; those beyond are cut off.
MOST_LATE: Final = 16
# Of a token, in characters: what prompts have on average (OpenAI's rule of thumb for English).
CHARS_PER_TOKEN: Final = 4

Say = Callable[[Sequence[Event]], Awaitable[None]]
Leave = Callable[[Coroutine[Any, Any, None]], None]
Leaves = Callable[[Pass], None]


class Completes(Protocol):
    """What is needed of a provider."""

    async def complete(self, request: Request, tier: Tier, lane: Lane, *, timeout_s: float) -> Completion:
        """One call; raises ProviderError."""
        ...


class Caller:
    """Makes calls and counts them."""

    def __init__(
        self,
        provider: Completes,
        cancelled: Callable[[UUID], bool],
        waits: Waits,
        clock: Clock,
        *,
        say: Say,
        leave: Leave,
    ) -> None:
        """``cancelled`` tells whether a request is needed no more, ``waits`` is told whose turn has come, ``say``
        publishes events, ``leave`` lets work go on that nobody waits for.
        """
        self._provider = provider
        self._cancelled = cancelled
        self._waits = waits
        self._clock = clock
        self._say = say
        self._leave = leave
        self._late_calls = 0

    async def call(self, event: RequestRouted, on: Candidate, left_s: float) -> Completion:
        """The answer to a request.

        Where its deadline passes during the call, that goes on: its answer is kept for others. Where it passes before
        the call has left, none is made.

        Raises:
            Busy: the lane is to be left alone, or its turn would come after the deadline.
            ProviderError: the call failed.
            DeadlineExceeded: the request's deadline passed.
            Cancelled: the request is needed no more; nothing was spent.
        """
        if math.isinf(left_s):
            return await self._counted(event, on)
        left = asyncio.Event()
        work = asyncio.create_task(self._counted(event, on, left))
        timer = asyncio.create_task(self._clock.sleep(left_s))
        try:
            await asyncio.wait({work, timer}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
        except asyncio.CancelledError:
            work.cancel()
            raise
        finally:
            timer.cancel()
        if not left.is_set():
            work.cancel()
            raise Busy(on.lane.name, max(on.gate.wait_s(), left_s))
        if self._late_calls < MOST_LATE:
            self._late_calls += 1
            self._leave(self._late(event, on, work))
        else:
            metrics.LATE.labels("cut").inc()
            work.cancel()
        raise DeadlineExceeded("the deadline passed during the call")

    async def once(self, request: Request, on: Candidate, leaves: Leaves = lambda _: None) -> Completion:
        """One call when the lane lets it, which ``leaves`` is told; raises Busy, Cancelled and ProviderError."""
        self._still_needed(request)
        async with on.gate.call(expected_tokens(request, on.terms), patience_s=on.patience_s) as leave:
            self._still_needed(request)
            leaves(leave)
            completion = await self._provider.complete(request, on.terms, on.lane, timeout_s=on.terms.timeout_s)
            leave.tokens = float(completion.usage.input_tokens + completion.usage.output_tokens)
            leave.said = completion.said
        return completion

    def _still_needed(self, request: Request) -> None:
        if self._cancelled(request.id):
            raise Cancelled(f"request {request.id} is needed no more")

    async def _counted(self, event: RequestRouted, on: Candidate, left: asyncio.Event | None = None) -> Completion:
        try:
            with self._waits.turn(event) as begins:

                def leaves(leave: Pass) -> None:
                    begins(leave.probe is not None)
                    if left is not None:
                        left.set()

                completion = await self.once(event.request, on, leaves)
        except ProviderError as error:
            metrics.CALLS.labels(on.tier, on.lane.name, error.code).inc()
            raise
        metrics.CALLS.labels(on.tier, on.lane.name, "ok").inc()
        metrics.COST.labels(on.tier, on.lane.name).inc(completion.cost_usd)
        metrics.TOKENS.labels(on.tier, "input").inc(completion.usage.input_tokens)
        metrics.TOKENS.labels(on.tier, "output").inc(completion.usage.output_tokens)
        return completion

    async def _late(self, event: RequestRouted, on: Candidate, work: "asyncio.Task[Completion]") -> None:
        """The answer to a request that has failed by now: paid for, so others may have it."""
        try:
            completion = await work
        except (ForebayError, asyncio.CancelledError) as error:
            metrics.LATE.labels(getattr(error, "code", "cancelled")).inc()
            return
        finally:
            self._late_calls -= 1
        metrics.LATE.labels("ok").inc()
        request, now = event.request, self._clock.now()
        log.info("an answer came too late", request_id=str(request.id), tier=on.tier, cost_usd=completion.cost_usd)
        late = ResponseLate(
            request_id=request.id,
            tenant=request.tenant,
            tier=on.tier,
            lane=on.lane.name,
            usage=completion.usage,
            cost_usd=completion.cost_usd,
            completed_at=now,
        )
        if event.key is None or request.cache_control.no_store or event.freshness.ttl_s == 0:
            await self._say([late])
            return
        filled = CacheFilled(
            entry_id=uuid5(request.id, "late"),
            tenant=request.tenant,
            origin="late",
            key=event.key,
            output_text=completion.text,
            model=on.lane.model,
            tier=on.tier,
            freshness=event.freshness,
            cost_usd=completion.cost_usd,
            completed_at=now,
        )
        await self._say([late, filled])


def expected_tokens(request: Request, terms: Tier) -> float:
    """Tokens a call will use at the most, about: what a provider reserves for it."""
    texts = (request.instructions or "", request.prompt, *(turn.content for turn in request.earlier))
    answer = min(request.max_output_tokens or terms.max_output_tokens, terms.max_output_tokens)
    return sum(map(len, texts)) / CHARS_PER_TOKEN + answer

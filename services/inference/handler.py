"""One request at inference: call, retry with backoff, answer or give up."""

import random
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import uuid5

import stamina
import structlog

from services.inference.completion import Completion
from services.inference.errors import DeadlineExceeded, ProviderError, ProviderTimeout, ProviderUnreachable, RateLimited
from shared.clock import Clock
from shared.errors import ForebayError
from shared.events import Event, LaneThrottled, Request, RequestRouted, ResponseCompleted, ResponseFailed
from shared.policy import Policy
from shared.policy.tiers import Tier
from shared.telemetry import metrics

log = structlog.stdlib.get_logger(__name__)

FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 20.0
JITTER_S: Final = 2.0
# Seconds for which the router avoids a lane after all attempts at a request have failed there.
LEFT_ALONE_S: Final = 30.0
# Clients that were told the same Retry-After come back spread over this share of it.
RETRY_AFTER_SPREAD: Final = 0.25


class Completes(Protocol):
    """What this handler needs of a provider."""

    async def complete(self, request: Request, tier: Tier, *, timeout_s: float) -> Completion:
        """One call; raises ProviderError."""
        ...


class Inference:
    """Runs requests on the tier they were routed to."""

    def __init__(self, policy: Policy, provider: Completes, clock: Clock) -> None:
        self._policy = policy
        self._provider = provider
        self._clock = clock

    async def routed(self, event: RequestRouted) -> Sequence[Event]:
        """``response.completed.<tier>``, or ``response.failed.<code>``.

        With the latter ``lane.throttled`` where the provider could not be reached or wanted no more: the router then
        leaves it alone for a while.
        """
        call = _Call(event, self._policy.tiers[event.route.tier], self._provider, self._clock)
        try:
            completion = await call.until_done()
        except (ProviderError, DeadlineExceeded) as error:
            log.warning("gave up", tier=event.route.tier, code=error.code, attempts=call.attempts, error=str(error))
            failed = _failed(event, error, call.attempts, self._clock.now())
            return (failed, *_throttled(event, error, self._clock.now()))
        return (_completed(event, completion, call.attempts, self._clock.now()),)


class _Call:
    """The attempts at one request."""

    def __init__(self, event: RequestRouted, tier: Tier, provider: Completes, clock: Clock) -> None:
        self.attempts = 0
        self._began = clock.monotonic()
        self._out_of_time = False
        self._event = event
        self._tier = tier
        self._provider = provider
        self._clock = clock

    async def until_done(self) -> Completion:
        """Call until it works, with exponential backoff and jitter in between.

        Raises:
            ProviderError: the last one, when attempts or time are used up, or at once when trying again can't help.
            DeadlineExceeded: before or during a call.
        """
        if self._left_s() <= 0:
            raise self._too_late()
        retries = stamina.retry_context(on=self._wait_or_stop, attempts=self._tier.attempts, timeout=None)
        try:
            async for attempt in retries:
                with attempt:
                    return await self._once()
        except ProviderError as error:
            if self._out_of_time:
                raise DeadlineExceeded(f"no attempt is left before the deadline; the last one: {error}") from error
            raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _once(self) -> Completion:
        left_s = self._left_s()
        if left_s <= 0:
            raise self._too_late()
        self.attempts += 1
        tier, model = self._event.route.tier, self._event.route.model
        began = time.perf_counter()
        outcome = "ok"
        try:
            completion = await self._provider.complete(
                self._event.request, self._tier, timeout_s=min(self._tier.timeout_s, left_s)
            )
        except ProviderError as error:
            outcome = error.code
            if isinstance(error, ProviderTimeout) and self._left_s() <= 0:
                raise DeadlineExceeded("the deadline passed during the call") from error
            raise
        finally:
            metrics.CALLS.labels(tier, model, outcome).inc()
            metrics.CALL_SECONDS.labels(tier).observe(time.perf_counter() - began)
        metrics.COST.labels(tier, model).inc(completion.cost_usd)
        metrics.TOKENS.labels(tier, "input").inc(completion.usage.input_tokens)
        metrics.TOKENS.labels(tier, "output").inc(completion.usage.output_tokens)
        return completion

    def _wait_or_stop(self, error: Exception) -> bool | float:
        """Seconds until the next attempt: the provider's own word, or exponential backoff with jitter; or no more."""
        if not isinstance(error, ProviderError) or not error.retryable:
            return False
        wait_s = error.retry_after_s
        if wait_s is None:
            wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (self.attempts - 1)) + random.uniform(0, JITTER_S)
        else:
            wait_s *= random.uniform(1, 1 + RETRY_AFTER_SPREAD)
        too_late = wait_s >= self._left_s()
        self._out_of_time = too_late and error.retry_after_s is None
        spent_s = self._clock.monotonic() - self._began
        return False if too_late or spent_s + wait_s >= self._tier.give_up_after_s else wait_s

    def _too_late(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"the deadline {self._event.request.deadline} has passed")

    def _left_s(self) -> float:
        deadline = self._event.request.deadline
        return float("inf") if deadline is None else (deadline - self._clock.now()).total_seconds()


def _completed(event: RequestRouted, completion: Completion, attempts: int, now: datetime) -> ResponseCompleted:
    request = event.request
    return ResponseCompleted(
        request_id=request.id,
        tenant=request.tenant,
        source=event.route.tier,
        output_text=completion.text,
        model=event.route.model,
        tier=event.route.tier,
        route=event.route,
        freshness=event.freshness,
        usage=completion.usage,
        finish_reason=completion.finish_reason,
        cost_usd=completion.cost_usd,
        verdict=event.verdict,
        attempts=attempts,
        accepted_at=request.accepted_at,
        completed_at=now,
        key=event.key,
        reply=request.reply,
        replay=request.replay,
        metadata=request.metadata,
    )


def _failed(event: RequestRouted, error: ForebayError, attempts: int, now: datetime) -> ResponseFailed:
    request = event.request
    return ResponseFailed(
        request_id=request.id,
        tenant=request.tenant,
        code=error.code,
        message=str(error),
        attempts=attempts,
        tier=event.route.tier,
        route=event.route,
        accepted_at=request.accepted_at,
        failed_at=now,
        exact=event.key.exact if event.key else None,
        prompt_at_fault=error.prompt_at_fault,
        reply=request.reply,
        replay=request.replay,
        metadata=request.metadata,
    )


def _throttled(event: RequestRouted, error: ForebayError, now: datetime) -> Sequence[LaneThrottled]:
    """The signal that a provider is in trouble; none where a prompt alone can have brought the failure about."""
    if not isinstance(error, RateLimited | ProviderUnreachable):
        return ()
    pause_s = LEFT_ALONE_S if error.retry_after_s is None else error.retry_after_s
    return (
        LaneThrottled(
            signal_id=uuid5(event.request.id, LaneThrottled.TYPE),
            lane=event.route.model,
            until=now + timedelta(seconds=pause_s),
            reason=error.code,
        ),
    )

"""One request at inference: a lane, a call; else another lane, or a little later; an answer, or giving up."""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import stamina
import structlog

from services.inference.attempts import Attempts
from services.inference.caller import Caller
from services.inference.calls import Calls
from services.inference.cascade.cascade import Cascades
from services.inference.completion import Completion
from services.inference.errors import Cancelled, DeadlineExceeded, GaveUp, ProviderError
from services.inference.finished import Arrived, Finished
from services.inference.lanes.choice import Candidate, Choice
from services.inference.lanes.gate import Busy
from services.inference.more_time import MoreTime, touching
from services.inference.waits import Waits
from shared.cancellation import Cancellations
from shared.clock import Clock
from shared.errors import ForebayError, Park
from shared.events import Event, RequestRouted, ResponseCompleted, ResponseFailed
from shared.telemetry import metrics

log = structlog.stdlib.get_logger(__name__)
# Seconds a request is put aside for while another one tries whether the lane works again.
PROBED_S: Final = 5.0


class Inference:
    """Runs requests on the lanes of the tier they were routed to."""

    def __init__(
        self,
        choice: Choice,
        caller: Caller,
        cascades: Cascades,
        calls: Calls[Sequence[Event]],
        finished: Finished,
        cancelled: Cancellations,
        waits: Waits,
        more_time: MoreTime,
        clock: Clock,
    ) -> None:
        self._choice = choice
        self._caller = caller
        self._cascades = cascades
        self._calls = calls
        self._finished = finished
        self._cancelled = cancelled
        self._waits = waits
        self._more_time = more_time
        self._clock = clock

    async def routed(self, arrived: Arrived) -> Sequence[Event]:
        """``response.completed.<tier>``, or ``response.failed.<code>``.

        Raises:
            Park: no lane will do for now; it comes again, with its attempts.
        """
        event = arrived.event
        if arrived.again:
            known = await self._finished.result_of(event)
            metrics.AGAIN.labels("run" if known is None else "finished").inc()
            if known is not None:
                return (known,)
        return await self._calls.join((event.request.id, event.request.replay), lambda: self._run(event))

    async def _run(self, event: RequestRouted) -> Sequence[Event]:
        with self._waits.in_hand(event):
            return await self._ended(self._more_time.given(event))

    async def _ended(self, event: RequestRouted) -> Sequence[Event]:
        attempts = Attempts(event, self._choice, self._clock)
        try:
            event, cheaper = await self._cascades.tried(event)
            attempts = Attempts(event, self._choice, self._clock)
            candidate, completion = cheaper or await self._until_done(event, attempts)
        except Park:
            metrics.PUT_ASIDE.labels(event.route.tier).inc()
            raise
        except Cancelled:
            return (self._cancelled.end(event, attempts=attempts.calls),)
        except (ProviderError, DeadlineExceeded, GaveUp) as error:
            log.warning("gave up", tier=event.route.tier, code=error.code, attempts=attempts.calls, error=str(error))
            return (_failed(event, error, attempts, self._clock.now()),)
        return (_completed(event, candidate, completion, attempts, self._clock.now()),)

    async def _until_done(self, event: RequestRouted, attempts: Attempts) -> tuple[Candidate, Completion]:
        try:
            async for attempt in stamina.retry_context(on=attempts.again, attempts=None, timeout=None):
                with attempt:
                    return await self._once(event, attempts)
        except ProviderError as error:
            raise attempts.verdict(error) from error
        except Busy as busy:
            after_s = PROBED_S if math.isinf(busy.wait_s) else busy.wait_s
            raise attempts.later(after_s, str(busy)) from busy
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _once(self, event: RequestRouted, attempts: Attempts) -> tuple[Candidate, Completion]:
        candidate = attempts.next()
        try:
            completion = await self._caller.call(event, candidate, attempts.left_s)
        except ProviderError as error:
            attempts.failed(candidate, error)
            raise
        except DeadlineExceeded:
            attempts.calls += 1
            raise
        attempts.calls += 1
        return candidate, completion


def _completed(
    event: RequestRouted, on: Candidate, completion: Completion, attempts: Attempts, now: datetime
) -> ResponseCompleted:
    return ResponseCompleted(
        **event.request.carried,
        source=on.tier,
        output_text=completion.text,
        model=on.lane.model,
        tier=on.tier,
        lane=on.lane.name,
        route=event.route,
        freshness=event.freshness,
        usage=completion.usage,
        finish_reason=completion.finish_reason,
        cost_usd=_cost_usd(event, completion),
        verdict=event.verdict,
        attempts=max(1, attempts.calls),
        failures=attempts.failures,
        cascade=event.cascade,
        brownout=touching(event, now),
        completed_at=now,
        key=event.key,
    )


def _cost_usd(event: RequestRouted, completion: Completion) -> float:
    """US dollars of the answer and of the cheaper ones that were tried; it may be one of these."""
    cascade = event.cascade
    if cascade is None:
        return completion.cost_usd
    return cascade.cost_usd + (0.0 if cascade.passed else completion.cost_usd)


def _failed(event: RequestRouted, error: ForebayError, attempts: Attempts, now: datetime) -> ResponseFailed:
    return ResponseFailed(
        **event.request.carried,
        code=error.code,
        message=error.told if isinstance(error, ProviderError) else str(error),
        attempts=attempts.calls,
        failures=attempts.failures,
        tier=event.route.tier,
        route=event.route,
        brownout=touching(event, now),
        failed_at=now,
        exact=event.exact,
        prompt_at_fault=error.prompt_at_fault,
    )

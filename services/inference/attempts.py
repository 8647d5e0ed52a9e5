"""The attempts at one request: what has failed so far, and whether, when and where to try again.

Two layers of waiting. Short waits are made in place, with exponential backoff and full jitter (Brooker, Exponential
Backoff And Jitter, 2015). Longer ones, and those after several in place, are not: the request goes back to the broker
with its attempts and comes again, so that it takes up no worker, and is not lost with one.
"""

import math
import random
from typing import Final

from services.inference.errors import DeadlineExceeded, GaveUp, ProviderError, RateLimited
from services.inference.lanes.choice import Candidate, Choice
from shared.clock import Clock
from shared.errors import Park
from shared.events import Attempt, RequestRouted
from shared.policy.tiers import Tier
from shared.topology import PUT_ASIDE_S, delay_for

FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 60.0
# Seconds a worker may sleep between two attempts, and how often before the request is put aside.
IN_PLACE_S: Final = 4.0
IN_PLACE_TIMES: Final = 3
# "At once" for stamina, which takes 0 for "no".
AT_ONCE_S: Final = 1e-6
# Failures that travel with a request; a lane that refuses again and again must not make it grow.
MOST_LISTED: Final = 20


class Attempts:
    """What became of a request's calls, those before it was put aside included.

    Attributes:
        calls: that were made.
    """

    def __init__(self, event: RequestRouted, choice: Choice, clock: Clock) -> None:
        self._event = event
        self._choice = choice
        self._clock = clock
        self._failures = list(event.attempts)
        self._failed_here: set[str] = set()
        self._slept = 0
        self._later_s: float | None = None
        self._faults = event.faults
        self.calls = event.calls

    @property
    def failures(self) -> tuple[Attempt, ...]:
        """Calls that failed: the first, and the latest."""
        return (*self._failures[:1], *self._failures[1:][-MOST_LISTED + 1 :])

    @property
    def left_s(self) -> float:
        """Seconds until the request's deadline."""
        return self._event.seconds_left(self._clock.now())

    def next(self) -> Candidate:
        """Where to try now.

        Raises:
            DeadlineExceeded: it would be in vain.
            GaveUp: the time for attempts is over.
        """
        if self.left_s <= 0:
            more = f", and the {self._event.more_time_s} s more" if self._event.more_time_s else ""
            raise DeadlineExceeded(f"the deadline {self._event.request.deadline}{more} has passed")
        if self._time_s <= 0:
            raise GaveUp(self._failures[-1], self._terms.give_up_after_s)
        return self._choice.next(self._event.route.tier, self._event.request.model, self._failed_here)

    def failed(self, candidate: Candidate, error: ProviderError) -> None:
        """A call failed."""
        self.calls += 1
        self._faults += not isinstance(error, RateLimited)
        lane = candidate.lane.name
        self._failed_here.add(lane)
        self._failures.append(Attempt(lane=lane, code=error.code, message=error.told[:200], at=self._clock.now()))

    def again(self, error: Exception) -> bool | float:
        """Seconds to the next attempt in place; False for none: stamina's hook."""
        if not isinstance(error, ProviderError) or not error.lane_at_fault:
            return False
        elsewhere = self._choice.another(self._event.route.tier, self._event.request.model, self._failed_here)
        if self._spent() or not (elsewhere or error.retryable):
            return False
        if elsewhere or isinstance(error, RateLimited):
            return AT_ONCE_S  # the lane that refused says itself when it will do
        wait_s = random.uniform(0, min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(self._faults, 10)))
        self._slept += 1
        if wait_s > IN_PLACE_S or self._slept > IN_PLACE_TIMES:
            self._later_s = wait_s
            return False
        return False if wait_s >= self.left_s else max(AT_ONCE_S, wait_s)

    def verdict(self, error: ProviderError) -> Exception:
        """What the end of the attempts in place means: the error, or that it is to be tried later."""
        if self._later_s is not None:
            return self.later(self._later_s, str(error))
        if error.retryable and not self._spent() and error.lane_at_fault:
            return DeadlineExceeded(f"no attempt is left before the deadline; the last one: {error}")
        return error

    def later(self, after_s: float, why: str) -> Exception:
        """The request is to come again after so many seconds, with what was tried; or too late for its deadline."""
        if after_s >= self.left_s:
            return DeadlineExceeded(f"nothing will do before the deadline: {why}")
        if after_s >= self._time_s:
            return GaveUp(self._failures[-1], self._terms.give_up_after_s)
        delay_s = delay_for(PUT_ASIDE_S, after_s, within_s=min(self.left_s, self._time_s))
        if delay_s is None:
            return DeadlineExceeded(f"nothing will do before the deadline: {why}")
        event = self._event.model_copy(update={"attempts": self.failures, "calls": self.calls, "faults": self._faults})
        return Park(why, after_s=delay_s, instead=event)

    def _spent(self) -> bool:
        """Whether its tier wants no more attempts: too many failed, or the first one is too long ago.

        Refusals are no reason to give up.
        """
        return self._faults >= self._terms.attempts or self._time_s <= 0

    @property
    def _time_s(self) -> float:
        """Seconds in which further attempts may begin."""
        if not self._failures:
            return math.inf
        since_s = (self._clock.now() - self._failures[0].at).total_seconds()
        return self._terms.give_up_after_s - since_s

    @property
    def _terms(self) -> Tier:
        return self._choice.terms(self._event.route.tier)

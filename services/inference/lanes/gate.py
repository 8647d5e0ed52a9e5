"""One lane as one replica sees it: when a call may go, and what its end teaches."""

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

import structlog

from services.inference.errors import ProviderAuth, ProviderError, ProviderMissing, RateLimited
from services.inference.lanes.breaker import Breaker, Probe
from services.inference.lanes.limit import Limit
from services.inference.lanes.pacing import Pace
from services.inference.lanes.said import Allowance, Said
from services.inference.lanes.window import Window
from shared.clock import Clock
from shared.errors import ForebayError
from shared.events import Counted, LaneReport, LaneThrottled
from shared.policy.tiers import Lane
from shared.telemetry import metrics

log = structlog.stdlib.get_logger(__name__)

# Seconds without a word of the provider's after a refusal, and at the most; doubled at each in a row.
PAUSE_FIRST_S: Final = 0.5
PAUSE_LONGEST_S: Final = 20.0
# Who was told the same time comes back spread over this share of the wait, and over so many seconds at the most.
SPREAD: Final = 0.25
SPREAD_MOST_S: Final = 5.0
# A wrong key, or the name of a model that is not there, stays so until somebody changes it.
WRONG_KEY_S: Final = 60.0
# Asleep no longer than this at a time: a word that a lane is well again is heard meanwhile.
DOZE_S: Final = 0.25
# Weight of the newest call in the running mean of their durations.
NEWEST: Final = 0.1
# Of less than so many seconds it can't be told what is wanted: then the last report still holds.
MEASURED_S: Final = 0.5
# A pause that is shorter is no reason to go elsewhere.
MOMENT_S: Final = 2.0
# However long a provider, or whoever says so, wants to be left alone: then a call tries it.
LONGEST_S: Final = 600.0
# Until the other replicas were heard, seconds after the start.
LISTEN_S: Final = 1.5

Say = Callable[[LaneThrottled], None]


class Busy(ForebayError):
    """A lane can't be called soon.

    Attributes:
        wait_s: seconds until it can, as far as is known.
    """

    code = "lane_busy"
    retryable = True

    def __init__(self, lane: str, wait_s: float) -> None:
        super().__init__(f"lane {lane}: not before {wait_s:.1f} s")
        self.wait_s = wait_s


class Quota:
    """One of a lane's two limits, calls or tokens: what the provider gives, and this replica's pace within it."""

    def __init__(self, declared_per_minute: float | None, now_s: float) -> None:
        self.limit = Limit(declared_per_minute, now_s)
        self.pace = Pace()
        self._unsaid = Counted()

    def accepted(self, now_s: float, amount: float, *, held_back: bool) -> None:
        """One call was accepted that cost so much."""
        held = 1.0 if held_back else 0.0
        self.limit.accepted(now_s, amount, held_back=held)
        self._count(accepted=amount, held_back=held)

    def refused(self, now_s: float, *, under_way: float) -> None:
        """A call was refused for this limit, while so much was under way over all replicas."""
        self.limit.refused(now_s, under_way=under_way)
        self._count(refused=1.0)

    def told(self, allowance: Allowance | None) -> None:
        """What the provider's headers said of it."""
        if allowance is not None and (per_second := allowance.per_second) is not None:
            self.limit.told(per_second)

    def heard(self, now_s: float, counted: Counted) -> None:
        """What another replica saw."""
        if counted.told is not None:
            self.limit.told(counted.told)
        if counted.accepted:
            self.limit.accepted(now_s, counted.accepted, held_back=counted.held_back)
        if counted.learned is not None and self.limit.learned is None:
            self.limit.adopt(counted.learned)  # what was refused is in it
            return
        if counted.refused:
            self.limit.refused(now_s, counted.refused)
        if counted.learned is not None:
            self.limit.adopt(counted.learned)

    def report(self) -> Counted:
        """What was seen here since the last report."""
        unsaid, self._unsaid = self._unsaid, Counted()
        return unsaid.model_copy(update={"learned": self.limit.learned, "told": self.limit.by_headers})

    def _count(self, *, accepted: float = 0.0, held_back: float = 0.0, refused: float = 0.0) -> None:
        said = self._unsaid
        self._unsaid = Counted.model_construct(
            accepted=said.accepted + accepted, held_back=said.held_back + held_back, refused=said.refused + refused
        )


@dataclass(slots=True)
class Pass:
    """Leave for one call.

    Attributes:
        estimated_tokens: it may use.
        paced: whether anything was known of a limit when it left.
        held_back: whether it had to wait for the pace.
        window_full: whether it had to wait for the end of another.
        probe: what it is if it is the one that tries a lane whose breaker was open.
        left_s: when it left, monotonic.
        tokens: what it did use, once that is known.
        said: what the provider said of its limits.
    """

    estimated_tokens: float
    paced: bool
    held_back: bool
    window_full: bool
    probe: Probe | None
    left_s: float
    tokens: float
    said: Said | None = None


class Gate:
    """Lets calls of one lane through, as the provider allows and as the other replicas leave room."""

    def __init__(self, lane: Lane, clock: Clock, say: Say, replica: UUID) -> None:
        now_s = clock.monotonic()
        self.lane = lane
        self.share = 1.0
        self.calls = Quota(lane.requests_per_minute, now_s)
        self.tokens = Quota(lane.tokens_per_minute, now_s)
        self._window = Window(lane.concurrency)
        self._breaker = Breaker()
        self._clock = clock
        self._say = say
        self._replica = replica
        # Somebody else may have the whole limit in use.
        self._closed_until_s = now_s + LISTEN_S if self.calls.limit.rate or self.tokens.limit.rate else now_s
        self._refused_in_a_row = 0
        self._refused_s = -math.inf
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()
        self._waiting = 0
        self._entered = 0
        self._reported_s = now_s
        self._wants = 0.0
        self._call_s = 1.0

    def wait_s(self) -> float:
        """Seconds a call that comes now would wait, as far as is known; infinite while a probe is under way."""
        wait_s = max(self._barred_s(), self._paced_s(behind=self._waiting))
        if self._window.full(self.share):
            wait_s = max(wait_s, self._call_s * (1 + self._waiting) / self._window.size(self.share))
        return wait_s

    @asynccontextmanager
    async def call(self, tokens: float, *, patience_s: float) -> AsyncIterator[Pass]:
        """A block that makes one call: waits until it may, and learns from how it ends.

        Args:
            tokens: that it will use, estimated.
            patience_s: seconds to wait for a lane that is to be left alone. For its turn on one that is well a call
                waits as long as it takes: it would have to anywhere, and the number of callers is bounded.

        Raises:
            Busy: it would have to wait for longer.
        """
        leave = await self._enter(tokens, patience_s)
        began_s = self._clock.monotonic()
        try:
            yield leave
        except ProviderError as error:
            self._failed(leave, error)
            raise
        except ForebayError:  # no call was made
            self._breaker.abandoned(leave.probe)
            self.calls.pace.correct(-1.0)
            self.tokens.pace.correct(-leave.estimated_tokens)
            raise
        except BaseException:
            self._breaker.abandoned(leave.probe)
            raise
        else:
            call_s = self._clock.monotonic() - began_s
            self._call_s += NEWEST * (call_s - self._call_s)
            metrics.CALL_SECONDS.labels(self.lane.name).observe(call_s)
            self._worked(leave)
        finally:
            self._window.under_way -= 1
            self._freed.set()

    def heard(self, signal: LaneThrottled) -> None:
        """Another replica says that this lane is to be left alone, or that it is well again."""
        if signal.by == self._replica:
            return
        if signal.until is None:
            self._well(all_of_it=signal.by is None)
        elif signal.broken:
            self._breaker.open(self._clock.monotonic() + self._spread_s(signal.until))
        else:
            self._leave_alone(signal.until)
        self._freed.set()

    @property
    def well(self) -> bool:
        """Whether nothing speaks against calling it but its pace."""
        return self._barred_s() == 0

    @property
    def usable(self) -> bool:
        """Whether a call would be made here soon: its breaker lets one go, if only the probe, and a pause is short.

        A lane whose time is over is tried though others are well, or it would never be found well again.
        """
        now_s = self._clock.monotonic()
        return self._breaker.wait_s(now_s) == 0 and self._closed_until_s - now_s <= MOMENT_S

    @property
    def under_way(self) -> int:
        """Calls of this replica."""
        return self._window.under_way

    @property
    def waiting(self) -> int:
        """Calls of this replica that wait to be made."""
        return self._waiting

    @property
    def broken(self) -> bool:
        """Whether its breaker is open, or half open."""
        return not self._breaker.closed

    def report(self) -> LaneReport:
        """What this replica wants of the lane, and what it saw there since it was last asked."""
        now_s = self._clock.monotonic()
        elapsed_s = now_s - self._reported_s
        if elapsed_s >= MEASURED_S:
            self._wants = (self._entered + self._waiting) / elapsed_s
            self._entered, self._reported_s = 0, now_s
        return LaneReport(wants=self._wants, calls=self.calls.report(), tokens=self.tokens.report())

    async def _enter(self, tokens: float, patience_s: float) -> Pass:
        began_s = self._clock.monotonic()
        held_back = window_full = False
        self._waiting += 1
        try:
            async with self._turn:
                while True:
                    now_s, barred_s = self._clock.monotonic(), self._barred_s()
                    if barred_s and now_s - began_s >= patience_s:
                        raise Busy(self.lane.name, barred_s)
                    if (wait_s := max(barred_s, self._paced_s())) > 0:
                        held_back |= not barred_s
                        await self._clock.sleep(min(wait_s, DOZE_S))
                    elif self._window.full(self.share):
                        window_full = True
                        self._freed.clear()
                        await self._freed.wait()
                    else:
                        break
                paced = self.calls.limit.rate is not None or self.tokens.limit.rate is not None
                probe = self._leave(tokens)
        finally:
            self._waiting -= 1
        return Pass(tokens, paced, held_back, window_full, probe, self._clock.monotonic(), tokens)

    def _leave(self, tokens: float) -> Probe | None:
        """A call leaves; what it is if it is the breaker's probe."""
        self._entered += 1
        self._window.under_way += 1
        now_s = self._clock.monotonic()
        for quota, cost in ((self.calls, 1.0), (self.tokens, tokens)):
            if (rate := quota.limit.rate) is not None:
                quota.pace.take(now_s, cost, rate * self.share)
        return self._breaker.begin()

    def _barred_s(self) -> float:
        """Seconds for which nobody may call."""
        now_s = self._clock.monotonic()
        return max(self._closed_until_s - now_s, self._breaker.wait_s(now_s), 0.0)

    def _paced_s(self, *, behind: int = 0) -> float:
        """Seconds until the pace lets the next call go, after those that wait already."""
        now_s, wait_s = self._clock.monotonic(), 0.0
        if (rate := self.calls.limit.rate) is not None:
            wait_s = self.calls.pace.wait_s(now_s, rate * self.share, behind=behind)
        if (rate := self.tokens.limit.rate) is not None:
            wait_s = max(wait_s, self.tokens.pace.wait_s(now_s, rate * self.share))
        return wait_s

    def _worked(self, leave: Pass) -> None:
        self._took(leave)
        self._refused_in_a_row = 0
        self._window.answered(leave.window_full)
        self._alive(leave)

    def _alive(self, leave: Pass) -> None:
        """The provider answered, if only to refuse."""
        if self._breaker.succeeded(leave.probe):
            log.info("lane is well again", lane=self.lane.name)
            self._window.afresh()
            self._tell(None, "well again")

    def _took(self, leave: Pass) -> None:
        """The provider took the call, whatever became of it."""
        now_s = self._clock.monotonic()
        if leave.said is not None:
            self.calls.told(leave.said.calls)
            self.tokens.told(leave.said.tokens)
        self.calls.accepted(now_s, 1.0, held_back=leave.held_back)
        self.tokens.accepted(now_s, leave.tokens, held_back=leave.held_back)
        self.tokens.pace.correct(leave.tokens - leave.estimated_tokens)

    def _failed(self, leave: Pass, error: ProviderError) -> None:
        now_s = self._clock.monotonic()
        if error.said is not None:
            self.calls.told(error.said.calls)
            self.tokens.told(error.said.tokens)
        if isinstance(error, RateLimited):
            self.tokens.pace.correct(-leave.estimated_tokens)
            self._refused(leave, error, now_s)
            return
        if not error.lane_at_fault:
            self._worked(leave)
            return
        self.tokens.pace.correct(-leave.estimated_tokens)
        if error.overload:
            self._window.overloaded(now_s)
        if error.retry_after_s is not None:
            self._tell_to_wait(error.retry_after_s, error.code)
        misconfigured = isinstance(error, ProviderAuth | ProviderMissing)
        open_s = self._breaker.failed(now_s, leave.probe, for_s=WRONG_KEY_S if misconfigured else None)
        if open_s is not None:
            log.warning("lane opened its breaker", lane=self.lane.name, seconds=round(open_s, 1), code=error.code)
            self._tell(self._clock.now() + timedelta(seconds=open_s), error.code, broken=True)

    def _refused(self, leave: Pass, error: RateLimited, now_s: float) -> None:
        self._alive(leave)
        for_tokens, within = _which(error.said, leave.estimated_tokens)
        if within:
            self._window.overloaded(now_s)
        else:
            others = (self._window.under_way - 1) / self.share
            quota, under_way = (self.tokens, others * leave.tokens) if for_tokens else (self.calls, others)
            if (
                leave.paced or quota.limit.rate is None
            ):  # else it left before the limit was known, which it tells nothing of
                quota.refused(now_s, under_way=under_way)
        own_s = 0.0
        if leave.left_s > self._refused_s:  # else it left with one that was refused before: that is no news
            self._refused_in_a_row += 1
            self._refused_s = now_s
            own_s = self._pause_s(said=error.retry_after_s is not None)
        if (wait_s := max(error.retry_after_s or 0.0, own_s)) > 0:
            self._tell_to_wait(wait_s, error.code)

    def _pause_s(self, *, said: bool) -> float:
        """Seconds to leave a lane alone that refused; with ``said`` beside what it asks for, if that is too little."""
        doublings = min(self._refused_in_a_row - (2 if said else 1), 10)
        if doublings < 0:
            return 0.0
        return min(PAUSE_LONGEST_S, PAUSE_FIRST_S * 2.0**doublings) * random.uniform(0.5, 1)

    def _tell_to_wait(self, wait_s: float, reason: str) -> None:
        until = self._clock.now() + timedelta(seconds=min(LONGEST_S, wait_s))
        self._leave_alone(until)
        self._tell(until, reason)

    def _leave_alone(self, until: datetime) -> None:
        if (wait_s := self._spread_s(until)) > 0:
            self._closed_until_s = max(self._closed_until_s, self._clock.monotonic() + wait_s)
            self._freed.set()  # who waits for the end of a call is to see it
            if (rate := self.calls.limit.rate) is not None:
                self.calls.pace.begin(self._closed_until_s, random.random() * (1 - self.share), rate * self.share)

    def _spread_s(self, until: datetime) -> float:
        """Seconds until then, and a little longer: not all replicas at once. Zero for a word that comes too late."""
        wait_s = min(LONGEST_S, max(0.0, (until - self._clock.now()).total_seconds()))
        return wait_s + random.uniform(0, min(SPREAD * wait_s, SPREAD_MOST_S))

    def _well(self, *, all_of_it: bool) -> None:
        """Another replica's probe was answered; with ``all_of_it`` no pause that a provider asked for counts."""
        if all_of_it:
            self._closed_until_s = self._clock.monotonic()
        if not self._breaker.closed:
            self._breaker.close()
            self._window.afresh()

    def _tell(self, until: datetime | None, reason: str, *, broken: bool = False) -> None:
        lane = self.lane.name
        self._say(
            LaneThrottled(signal_id=uuid4(), lane=lane, until=until, reason=reason, broken=broken, by=self._replica)
        )


def _which(said: Said | None, tokens: float) -> tuple[bool, bool]:
    """Whether a refusal was for tokens, and whether it was within both limits: then something else is full."""
    if said is None:
        return False, False
    short_of_tokens = said.tokens is not None and said.tokens.remaining < tokens
    short_of_calls = said.calls is not None and said.calls.remaining < 1
    known = said.tokens is not None and said.calls is not None
    return short_of_tokens and not short_of_calls, known and not short_of_tokens and not short_of_calls

"""A SIMULATED provider and the replicas that share it, in virtual time: what becomes of a limit under load.

The provider is a token bucket that refuses what is beyond its rate. The replicas are real ``Lanes``; what they say to
each other arrives a little later, as over a broker. Nothing here is a model, and no time passes but the loop's.
"""

import asyncio
import math
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Literal

from services.inference.errors import ProviderUnreachable, RateLimited
from services.inference.lanes.gate import Busy
from services.inference.lanes.lanes import Lanes
from services.inference.lanes.said import Allowance, Said
from shared.events import Event, LaneReported
from tests.support import make
from tests.support.virtual_time import LoopClock

LANE: Final = "x"
HOP_S: Final = 0.01
REFUSAL_S: Final = 0.05
# Seconds a worker leaves a lane alone that is busy: the request is put aside.
ASIDE_S: Final = 2.0

Result = Literal["useful", "refused", "unreachable"]


@dataclass
class Provider:
    """A token bucket.

    Attributes:
        rate: calls per second.
        burst_s: seconds of the rate that it takes at once after a rest.
        tells: whether its headers name the limit.
        says_when: whether a refusal says when to come back.
        down: from when until when nobody reaches it.
        tally: calls by the second they came in, and what became of them.
    """

    rate: float
    burst_s: float = 1.0
    tells: bool = False
    says_when: bool = True
    latency_s: float = 0.8
    down: tuple[float, float] = (0.0, 0.0)
    tally: Counter[tuple[int, Result]] = field(default_factory=Counter)
    _filled: float = math.inf
    _at_s: float = 0.0

    async def call(self) -> Said | None:
        """One call; what the headers of its answer say.

        Raises:
            RateLimited: the bucket is empty.
            ProviderUnreachable: it is down.
        """
        now_s = asyncio.get_running_loop().time()
        if self.down[0] <= now_s < self.down[1]:
            self.tally[int(now_s), "unreachable"] += 1
            await asyncio.sleep(REFUSAL_S)
            raise ProviderUnreachable("no route")
        room = max(1.0, self.rate * self.burst_s)
        self._filled = min(room, self._filled + (now_s - self._at_s) * self.rate)
        self._at_s = now_s
        taken = self._filled >= 1
        if taken:
            self._filled -= 1
        self.tally[int(now_s), "useful" if taken else "refused"] += 1
        limit = 60 * self.rate
        said = Said(Allowance(limit, self._filled, (room - self._filled) / self.rate), None) if self.tells else None
        if not taken:
            await asyncio.sleep(REFUSAL_S)
            error = RateLimited("429", retry_after_s=(1 - self._filled) / self.rate if self.says_when else None)
            error.said = said
            raise error
        await asyncio.sleep(self.latency_s * random.lognormvariate(-0.1, 0.45))
        return said

    def per_second(self, since_s: float, until_s: float, result: Result = "useful") -> float:
        """Calls per second of that result."""
        return sum(self.tally[second, result] for second in range(int(since_s), int(until_s))) / (until_s - since_s)

    def refused_share(self, since_s: float, until_s: float) -> float:
        """Refused calls per call that reached it."""
        refused, useful = (self.per_second(since_s, until_s, result) for result in ("refused", "useful"))
        return refused / max(1e-9, refused + useful)

    def asked(self, second: int) -> int:
        """Calls that came in during a second, whatever became of them."""
        return sum(self.tally[second, result] for result in ("useful", "refused", "unreachable"))


class Fleet:
    """Replicas of inference that share one lane, each with workers that always have work."""

    def __init__(self, provider: Provider, *, declared: bool = False) -> None:
        lane: dict[str, object] = {"name": LANE, "model": "x/y"}
        if declared:
            lane["requests_per_minute"] = 60 * provider.rate
        self._policy = make.policy(tiers__light={"lanes": [lane]})
        self._provider = provider
        self._clock = LoopClock()
        self._work: dict[Lanes, list[asyncio.Task[None]]] = {}

    @property
    def replicas(self) -> list[Lanes]:
        """Those that are there."""
        return list(self._work)

    def join(self, workers: int) -> Lanes:
        """Another replica starts."""
        lanes = Lanes(self._policy, self._clock)
        work = [self._announce(lanes), lanes._reporting(), *(self._call(lanes) for _ in range(workers))]
        self._work[lanes] = [asyncio.create_task(each) for each in work]
        lanes.subscribed()
        return lanes

    async def leave(self, lanes: Lanes, *, saying_so: bool) -> None:
        """A replica ends: in order, or as one that was killed."""
        for task in self._work.pop(lanes):
            task.cancel()
        if saying_so:
            me = lanes._sharing.me
            gone = LaneReported(report_id=make.new_id(), replica=me, lanes={}, leaving=True)
            for other in self.replicas:
                await other.heard(gone)

    async def _announce(self, lanes: Lanes) -> None:
        loop = asyncio.get_running_loop()
        while True:
            event = await lanes._unsaid.get()
            for other in self.replicas:
                loop.call_later(HOP_S, _deliver, other, event)

    async def _call(self, lanes: Lanes) -> None:
        gate = lanes.gates[LANE]
        while True:
            try:
                async with gate.call(100, patience_s=5) as leave:
                    leave.said = await self._provider.call()
            except Busy:
                await asyncio.sleep(ASIDE_S)
            except (RateLimited, ProviderUnreachable):
                pass


def _deliver(event_to: Lanes, event: Event) -> None:
    task = asyncio.ensure_future(event_to.heard(event))
    task.add_done_callback(asyncio.Future.result)  # a failure is not to pass unseen


async def under_load(
    provider: Provider, seconds: float, *, replicas: int = 3, workers: int = 51, declared: bool = False
) -> Fleet:
    """Replicas with work for ever, and so many seconds later."""
    fleet = Fleet(provider, declared=declared)
    for _ in range(replicas):
        fleet.join(workers // replicas)
    await asyncio.sleep(seconds)
    return fleet

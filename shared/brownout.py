"""The brownout ladder: which of its steps hold for a tier, by the age of its queue.

The age is how long what is started now has waited. Every replica of ingest measures it and tells everybody once a
second while there is one; the oldest that is told counts, and who is not heard for some seconds says nothing any more.
So where nobody measures there is no brownout.
"""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from shared.clock import Clock
from shared.events import BrownoutNote, BrownoutStep, Event, QueueAged
from shared.policy import Policy

# What a replica told counts for so long: it says so every second.
GONE_S: Final = 5.0


class Ladder:
    """The steps that hold, for ages that come one after the other.

    A step begins at its age and ends below a share of that, so that an age which hovers about it does not switch it on
    and off. The share is the same for all and the ages rise, so whenever a step holds those before it hold too.
    """

    def __init__(self, ages: Mapping[BrownoutStep, float], settle: float) -> None:
        """``ages`` are those from which each step holds, in the order of the ladder."""
        self._ages = ages
        self._settle = settle
        self._steps: tuple[BrownoutStep, ...] = ()

    @property
    def steps(self) -> Sequence[BrownoutStep]:
        """Those that hold, in the order of the ladder."""
        return self._steps

    def see(self, age_s: float) -> None:
        """The age is this by now."""
        self._steps = tuple(
            step
            for step, from_s in self._ages.items()
            if age_s >= (self._settle * from_s if step in self._steps else from_s)
        )


class Brownout:
    """What one replica knows of the queues, and what that means for each tier."""

    def __init__(self, policy: Policy, clock: Clock) -> None:
        self._clock = clock
        self._order = policy.router.ladder
        self._lanes = {name: frozenset(lane.name for lane in tier.lanes) for name, tier in policy.tiers.items()}
        self._ladders = {name: Ladder(policy.brownout.ages, policy.brownout.settle) for name in policy.tiers}
        self._told: dict[UUID, tuple[float, Mapping[str, float]]] = {}

    async def heard(self, event: Event) -> Sequence[Event]:
        """Take note of ``queue.aged``; nothing comes of it."""
        if isinstance(event, QueueAged):
            self.told(event)
        return ()

    def told(self, event: QueueAged) -> None:
        """A replica of ingest says how old the queues are."""
        self._told[event.replica] = self._clock.monotonic(), event.ages
        for tier in self._ladders:
            self._seen(tier)

    def age_s(self, tier: str) -> float:
        """How long what is started now in a tier has waited, in seconds."""
        now_s = self._clock.monotonic()
        self._told = {who: (at_s, ages) for who, (at_s, ages) in self._told.items() if now_s - at_s < GONE_S}
        return max((ages.get(tier, 0.0) for _, ages in self._told.values()), default=0.0)

    def steps(self, tier: str) -> Sequence[BrownoutStep]:
        """The steps that hold for a tier; none for one that the policy does not know."""
        return self._seen(tier).steps if tier in self._ladders else ()

    def note(self, step: BrownoutStep, tier: str, detail: str = "") -> BrownoutNote | None:
        """What a result is to say where a step that holds for a tier touches it; None where the step does not hold."""
        if step not in self.steps(tier):
            return None
        return BrownoutNote(step=step, tier=tier, age_s=round(self.age_s(tier), 1), detail=detail)

    def cheaper(self, tier: str) -> Sequence[str]:
        """The tiers below one, the next first, where a request that names none is to run instead; none while it waits
        well enough there.

        A queue that is itself too old is no help, and neither is one before the same lanes.
        """
        if tier not in self._order or "cheaper_tier" not in self.steps(tier):
            return ()
        below = reversed(self._order[: self._order.index(tier)])
        return [
            name
            for name in below
            if "cheaper_tier" not in self.steps(name) and not self._lanes[name] <= self._lanes[tier]
        ]

    def _seen(self, tier: str) -> Ladder:
        ladder = self._ladders[tier]
        ladder.see(self.age_s(tier))
        return ladder

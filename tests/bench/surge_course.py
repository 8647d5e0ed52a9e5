"""What happens in a surge: who asks what and when, what the provider is like, and how long anybody waits.

Everything is drawn from one seed, so that each design meets the same requests at the same moments.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, Final, Literal

from infra.simulator.openai import ChatBody, Turn, digest
from tests.chaos.load import plan

MODEL: Final = "gpt-4o-mini"
TENANTS: Final = ("north", "east", "south", "west")
Phase = Literal["warm", "base", "surge", "after"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of the load.

    Attributes:
        at_s: seconds after the load has begun.
        meaning: prompts that may share an answer have the same.
    """

    at_s: float
    tenant: str
    prompt: str
    meaning: str

    @property
    def digest(self) -> str:
        """What the simulated provider's answer to this prompt names."""
        # Any: the model's fields may be others than those that are declared.
        turns: list[Any] = [Turn(role="user", content=self.prompt)]
        return digest(ChatBody(model=MODEL, messages=turns))


@dataclass(frozen=True, slots=True)
class Course:
    """One run of one design, in seconds of the clock on the wall.

    Users ask by their own clock, one request every ``pause_s`` on average, whether or not they have an answer: who
    waits for the answer first would ask less the worse a design does, and hide it.

    Attributes:
        users: in usual times; ``factor`` times as many in the surge.
        warm_s: from here to the surge is what the figures of usual times are of.
        surge_s: the surge begins.
        calm_s: it ends, and the usual users go on.
        end_s: nobody asks any more.
        settle_s: into the surge from which writes are counted: the first answers take that long.
        time_scale: seconds of the provider in one of the wall.
        patience_s: of a client who waits for an answer.
        drained_within_s: after the end, for what was accepted to be answered.
        calls_per_s: that the provider takes.
        tokens: of an answer.
    """

    users: int = 8
    factor: int = 25
    pause_s: float = 8.0
    warm_s: float = 10.0
    surge_s: float = 70.0
    calm_s: float = 95.0
    end_s: float = 105.0
    settle_s: float = 5.0
    time_scale: float = 4.0
    patience_s: float = 15.0
    drained_within_s: float = 90.0
    calls_per_s: float = 10.0
    tokens: int = 200

    def per_s(self, at_s: float) -> float:
        """Requests a second at some time."""
        users = self.users * (self.factor if self.surge_s <= at_s < self.calm_s else 1)
        return users / self.pause_s if at_s < self.end_s else 0.0

    def phase(self, at_s: float) -> Phase:
        """What a moment belongs to."""
        if at_s < self.warm_s:
            return "warm"
        if at_s < self.surge_s:
            return "base"
        return "surge" if at_s < self.calm_s else "after"

    def asked(self, seed: int) -> Sequence[Asked]:
        """All requests in their order: a Poisson process, as users who don't know of each other make one.

        Half of the prompts are new, three in ten repeat an earlier one of their tenant exactly, two in ten nearly.
        """
        moments = list(self._moments(Random(seed)))
        prompts = plan(Random(seed), requests=len(moments), per_s=1.0, tenants=TENANTS)
        return [Asked(at_s, one.tenant, one.prompt, one.meaning) for at_s, one in zip(moments, prompts, strict=True)]

    def _moments(self, random: Random) -> Iterator[float]:
        at_s = 0.0
        for until_s in (self.surge_s, self.calm_s, self.end_s):
            per_s = self.per_s(at_s)
            while (following_s := at_s + random.expovariate(per_s)) < until_s:
                at_s = following_s
                yield at_s
            at_s = until_s  # a gap that reaches into another rate is drawn anew: a Poisson process has no memory

    def scenario(self) -> dict[str, Any]:
        """The provider: answers after 3 to 30 of its seconds, half of them after 9.5, and a limit with headers."""
        return {
            "time_scale": self.time_scale,
            "slice": self.time_scale,
            "latency": {"kind": "lognormal", "low": 3, "high": 30},
            "limits": [{"requests_per_minute": 60 * self.calls_per_s / self.time_scale, "burst": self.time_scale}],
            "answer": {"tokens": self.tokens},
        }

    def told(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


# Too short for steady figures: to see that all of it works.
QUICK: Final = Course(warm_s=6, surge_s=26, calm_s=36, end_s=40, settle_s=4, drained_within_s=60)

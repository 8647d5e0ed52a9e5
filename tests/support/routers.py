"""A replica of the router for tests: its parts within reach, and time held by the test."""

from typing import Any

from services.router.assembly import Replica
from services.router.caps import Caps
from services.router.decision import Decider
from services.router.handler import Router
from services.router.health import Health
from services.router.ledger import Ledger
from services.router.scoring import Rules, Scores
from services.router.thresholds import Thresholds
from services.router.vectors import Embedding
from shared.broker import Broker
from shared.brownout import Brownout
from shared.clock import Clock
from shared.events import Request, ResponseCompleted, Route
from shared.policy import Policy
from tests.support import make
from tests.support.clock import ManualClock

LADDER = {
    "tiers__middle": {"model": "local/mid"},
    "router__ladder": ["light", "middle", "premium"],
    "router__thresholds": {"middle": 1.0, "premium": 3.0},
}


class Deciding:
    """One who decides by a policy, alone: what it counts, it goes by at once."""

    def __init__(
        self, policy: Policy | None = None, clock: Clock | None = None, *, score: Scores | None = None
    ) -> None:
        self.policy = policy or make.policy()
        self.clock = clock or ManualClock()
        self.ledger = Ledger(self.clock)
        self.health = Health(self.clock)
        self.thresholds = Thresholds(self.policy.router, self.ledger, self.clock, alone=True)
        score = score or Rules(self.policy.router).score
        caps = Caps(self.policy.router, self.ledger)
        self.brownout = Brownout(self.policy, self.clock)
        self.decider = Decider(self.policy, score, self.thresholds, self.health, caps, self.brownout)

    @property
    def router(self) -> Router:
        """A handler that asks it."""
        return Router(self.policy, self.decider, None, self.clock)

    def route(self, request: Request, embedding: Embedding | None = None) -> Route:
        """Where a request is to run; it must not be refused."""
        decided = self.decider.decide(request, embedding)
        assert isinstance(decided, Route)
        return decided

    def answered(self, tier: str, usd: float, *, times: int = 1, tenant: str = "default", **changes: Any) -> None:
        """Let the ledger hear of answers that were bought."""
        fields: dict[str, Any] = {
            "source": tier,
            "tier": tier,
            "route": make.route(tier),
            "cost_usd": usd,
            "tenant": tenant,
            "completed_at": self.clock.now(),
        }
        answer: ResponseCompleted = make.completed(**fields | changes)
        for _ in range(times):
            self.ledger.heard(answer)


def replica_of(policy: Policy, other: Policy | None, broker: Broker, clock: Clock) -> Replica:
    """A replica that goes by the rules, and another policy's beside it."""
    beside = None if other is None else (other, Rules(other.router).score)
    return Replica.assemble(policy, Rules(policy.router).score, beside, broker, clock)

"""The parts of a replica of the router, put together."""

from dataclasses import dataclass
from typing import Self

from services.router.caps import Caps
from services.router.decision import Decider
from services.router.handler import Router
from services.router.health import Health
from services.router.ledger import Ledger
from services.router.news import News
from services.router.scoring import Scores
from services.router.shadow import Shadow
from services.router.thresholds import Thresholds
from shared.broker import Broker
from shared.clock import Clock
from shared.policy import Policy


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica."""

    router: Router
    news: News
    ledger: Ledger

    @classmethod
    def assemble(
        cls, policy: Policy, score: Scores, other: tuple[Policy, Scores] | None, broker: Broker, clock: Clock
    ) -> Self:
        """A replica that decides by a policy and a scorer; another pair of them is asked as well."""
        ledger, health = Ledger(clock), Health(clock)
        thresholds = Thresholds(policy.router, ledger, clock)
        decider = decides(policy, score, thresholds, health, ledger)
        shadow = None
        if other is not None:
            tried, its_score = other
            alone = Thresholds(tried.router, ledger, clock, alone=True)
            shadow = Shadow(decides(tried, its_score, alone, health, ledger, live=False), ledger)
        return cls(Router(policy, decider, shadow, clock), News(thresholds, ledger, health, broker, clock), ledger)


def decides(
    policy: Policy, score: Scores, thresholds: Thresholds, health: Health, ledger: Ledger, *, live: bool = True
) -> Decider:
    """One who decides by a policy."""
    return Decider(policy, score, thresholds, health, Caps(policy.router, ledger), live=live)

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
from shared.brownout import Brownout
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
        ledger, health, brownouts = Ledger(clock), Health(clock), [Brownout(policy, clock)]
        thresholds = Thresholds(policy.router, ledger, clock)
        decider = Decider(policy, score, thresholds, health, Caps(policy.router, ledger), *brownouts)
        shadow = None
        if other is not None:
            tried, its_score = other
            brownouts.append(Brownout(tried, clock))
            shadow = Shadow(trial(tried, its_score, ledger, health, brownouts[-1], clock), ledger)
        news = News(thresholds, ledger, health, brownouts, broker, clock)
        return cls(Router(policy, decider, shadow, clock), news, ledger)


def trial(policy: Policy, score: Scores, ledger: Ledger, health: Health, brownout: Brownout, clock: Clock) -> Decider:
    """One whose decisions nobody carries out: it goes by the scores it sees itself, and tells and counts nothing."""
    thresholds = Thresholds(policy.router, ledger, clock, alone=True)
    return Decider(policy, score, thresholds, health, Caps(policy.router, ledger), brownout, live=False)

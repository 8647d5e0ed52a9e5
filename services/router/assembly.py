"""The parts of a replica of the router, put together."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from services.router.caps import Caps
from services.router.decision import Decider
from services.router.handler import Router
from services.router.health import Health
from services.router.ledger import Ledger
from services.router.news import News
from services.router.scoring import Rules
from services.router.shadow import Shadow
from services.router.thresholds import Thresholds
from shared.broker import Broker
from shared.clock import Clock
from shared.policy import Policy, load_policy


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica."""

    router: Router
    news: News
    ledger: Ledger

    @classmethod
    def assemble(cls, policy: Policy, other: Policy | None, broker: Broker, clock: Clock) -> Self:
        """A replica that decides by ``policy``; ``other`` is asked as well."""
        ledger, health = Ledger(clock), Health(clock)
        thresholds = Thresholds(policy.router, ledger, clock)
        decider = decides(policy, thresholds, health, ledger)
        shadow = None
        if other is not None:
            alone = Thresholds(other.router, ledger, clock, alone=True)
            shadow = Shadow(decides(other, alone, health, ledger, live=False), ledger)
        return cls(Router(policy, decider, shadow, clock), News(thresholds, ledger, health, broker, clock), ledger)


def decides(policy: Policy, thresholds: Thresholds, health: Health, ledger: Ledger, *, live: bool = True) -> Decider:
    """One who decides by a policy."""
    return Decider(policy, Rules(policy.router).score, thresholds, health, Caps(policy.router, ledger), live=live)


def tried_out(policy: Policy, beside: Path) -> Policy | None:
    """The policy named by ``router.shadow``, a path relative to the policy file's own.

    Raises:
        InvalidPolicy: there is no such file, or it has mistakes.
    """
    return None if policy.router.shadow is None else load_policy(beside.parent / policy.router.shadow)

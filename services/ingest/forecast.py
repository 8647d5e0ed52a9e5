"""How long a request will take: those ahead of it, at the rate at which they go, and what an answer takes by itself.

It is the forecast for a request that the cache can't answer: one that it can is answered sooner. Which tier it will run
on is the router's to say, so for one that names none the tiers count by how often they were taken lately.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from services.ingest.flow import Flow
from shared.clock import Clock
from shared.events import ResponseCompleted, ResponseFailed

# Weights of the newest answer in running means: of the time it took, and of what answered it.
NEWEST: Final = 0.1
NEWEST_SHARE: Final = 0.02
# What an answer takes, as long as none was heard of.
FIRST_GUESS_S: Final = 1.0
NOT_BOUGHT: Final = ("cache", "coalesced")


@dataclass(frozen=True, slots=True)
class Wait:
    """Seconds a request will take.

    Attributes:
        queued_s: until its turn comes.
        service_s: from then on.
        ahead: how many are ahead of it in each tier.
    """

    queued_s: float
    service_s: float
    ahead: Mapping[str, float] = field(default_factory=dict)

    @property
    def total_s(self) -> float:
        """From acceptance to the answer."""
        return self.queued_s + self.service_s


class Forecast:
    """What one replica of ingest expects, from looks at the queues and from the results that all replicas hear."""

    def __init__(self, tiers: Iterable[str], clock: Clock, *, usual: str) -> None:
        """``usual`` is the tier that all are taken to run on until more is known."""
        self._clock = clock
        self._tiers = {tier: Flow() for tier in tiers}
        self._all = Flow()
        self._shares = {tier: float(tier == usual) for tier in self._tiers}
        self._bought = 1.0  # share of requests that the cache does not answer
        self._service_s: dict[str, float] = {}
        self._looked_s: float | None = None

    @property
    def waiting(self) -> float:
        """Requests that wait somewhere in the broker: as last counted, and what came and went since."""
        return self._all.ahead

    def seconds_for(self, requests: float) -> float:
        """Seconds in which so many are finished, at the present rate."""
        return requests / (self._all.rate or 1.0)

    def wait(self, tier: str | None) -> Wait:
        """What a request can expect that is taken now; ``tier`` is the one it names."""
        shares = self.shares(tier)
        return Wait(
            sum(share * self._tiers[name].wait_s for name, share in shares.items()),
            sum(share * self._served_in(name) for name, share in shares.items()),
            {name: self._tiers[name].ahead for name in shares},
        )

    def _served_in(self, tier: str) -> float:
        known = self._service_s
        return known.get(tier, sum(known.values()) / len(known) if known else FIRST_GUESS_S)

    def shares(self, tier: str | None) -> Mapping[str, float]:
        """How likely a request is to run at each tier; ``tier`` is the one it names."""
        return self._shares if tier is None else {tier: 1.0}

    def ahead(self, tier: str) -> float:
        """Requests that wait for a tier, those included that are not routed yet."""
        return self._tiers[tier].ahead

    def took(self, tier: str | None) -> None:
        """A request was taken."""
        self._all.came()
        shares = self.shares(tier)
        for name, share in shares.items():
            self._tiers[name].came(self._bought * share)

    def withdrew(self, tier: str | None) -> None:
        """It was not taken after all."""
        self._all.came(-1.0)
        shares = self.shares(tier)
        for name, share in shares.items():
            self._tiers[name].came(-self._bought * share)

    def looked(self, before: int, waiting: Mapping[str, int]) -> None:
        """So many wait before they are routed, and so many for each tier."""
        now = self._clock.monotonic()
        elapsed_s = 0.0 if self._looked_s is None else now - self._looked_s
        self._looked_s = now
        self._all.looked(before + sum(waiting.values()), elapsed_s)
        for name, flow in self._tiers.items():
            flow.looked(waiting[name] + before * self._bought * self._shares[name], elapsed_s)

    def heard(self, event: ResponseCompleted | ResponseFailed, promised: Wait | None) -> None:
        """A request has its result; ``promised`` is what it was told, where this replica told it."""
        self._all.went()
        tier = queue_of(event)
        bought = tier in self._tiers
        self._bought += NEWEST_SHARE * (bought - self._bought)
        if tier is None or not bought:
            return
        self._tiers[tier].went()
        for name in self._shares:
            self._shares[name] += NEWEST_SHARE * ((name == tier) - self._shares[name])
        if isinstance(event, ResponseCompleted) and not event.replay:  # a replay's latency counts the time it lay dead
            self._learn(tier, event.latency_ms / 1000, promised)

    def _learn(self, tier: str, took_s: float, promised: Wait | None) -> None:
        """What an answer takes by itself, from one that did not wait for most of its time.

        Whether it did is asked twice: of what was expected then, and of what is known now. A rate that was not known
        yet, or has changed meanwhile, must not be taken for a slow model.
        """
        ahead = promised.ahead.get(tier, 0.0) if promised else self._tiers[tier].ahead
        waited_s = ahead / (self._tiers[tier].rate or math.inf)
        if max(waited_s, promised.queued_s if promised else 0.0) > took_s / 2:
            return
        alone_s = took_s - waited_s
        mean_s = self._service_s.setdefault(tier, alone_s)
        self._service_s[tier] = mean_s + NEWEST * (alone_s - mean_s)


def queue_of(event: ResponseCompleted | ResponseFailed) -> str | None:
    """The tier whose queue a request waited in; None for one that never came so far."""
    if isinstance(event, ResponseCompleted) and event.source in NOT_BOUGHT:
        return None
    return event.route.tier if event.route else event.tier

"""Token buckets: how many requests a tenant may send, and when the next one may come."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from shared.clock import Clock
from shared.policy.admission import AdmissionPolicy, Allowance

# Buckets at hand; a tenant that was longest not heard of begins with a full one when it comes back.
MOST: Final = 10_000
# A request that is to come again is not sent away for longer.
LONGEST_S: Final = 120.0


@dataclass(slots=True)
class Bucket:
    """One tenant's tokens, at one replica.

    Attributes:
        tokens: at ``at_s``.
        at_s: monotonic.
        turn_s: when the latest of those who were sent away is to come again.
    """

    tokens: float
    at_s: float
    turn_s: float = 0.0


class Buckets:
    """All tenants' buckets; each replica of ingest has its share of them.

    Attributes:
        replicas: how many there are, which share every allowance alike.
    """

    def __init__(self, policy: AdmissionPolicy, clock: Clock) -> None:
        self._policy = policy
        self._clock = clock
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()
        self.replicas = 1

    def take(self, tenant: str) -> float:
        """Take one of a tenant's tokens: 0.0, or the seconds until there is one."""
        allowance = self._policy.allowance(tenant)
        if allowance is None:
            return 0.0
        bucket = self._filled(tenant, allowance)
        if bucket.tokens >= 1:
            bucket.tokens -= 1
            return 0.0
        return (1 - bucket.tokens) / self._per_s(allowance)

    def give_back(self, tenant: str) -> None:
        """Return a token: the request was not taken after all."""
        allowance = self._policy.allowance(tenant)
        if allowance is not None:
            bucket = self._filled(tenant, allowance)
            bucket.tokens = min(self._burst(allowance), bucket.tokens + 1)

    def turn(self, tenant: str) -> float:
        """Seconds after which one who got no token may try again: everybody's turn is later than that of the one
        before, so that they do not all come at once for the next token; two minutes at most.
        """
        allowance = self._policy.allowance(tenant)
        if allowance is None:
            return 0.0
        bucket = self._filled(tenant, allowance)
        now, apart_s = self._clock.monotonic(), 1 / self._per_s(allowance)
        bucket.turn_s = min(max(bucket.turn_s, now) + apart_s, now + LONGEST_S)
        return bucket.turn_s - now

    def _filled(self, tenant: str, allowance: Allowance) -> Bucket:
        now, most = self._clock.monotonic(), self._burst(allowance)
        bucket = self._buckets.setdefault(tenant, Bucket(most, now))
        bucket.tokens = min(most, bucket.tokens + (now - bucket.at_s) * self._per_s(allowance))
        bucket.at_s = now
        self._buckets.move_to_end(tenant)
        while len(self._buckets) > MOST:
            self._buckets.popitem(last=False)
        return bucket

    def _per_s(self, allowance: Allowance) -> float:
        return allowance.requests_per_minute / 60 / self.replicas

    def _burst(self, allowance: Allowance) -> float:
        return max(1.0, allowance.burst / self.replicas)

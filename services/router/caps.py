"""What a tenant may have of the stronger tiers: a share of its requests, and money a day."""

from typing import Final

from services.router.ledger import Ledger
from shared.policy.routing import RouterPolicy

# Requests in a row that may go to a tier after a time without any.
BURST: Final = 10.0


class _Bucket:
    """Each request adds the share, each that goes to the tier takes one: in the long run no more than the share do."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._left = 1.0 if share else 0.0

    def fill(self) -> None:
        self._left = min(BURST, self._left + self._share)

    @property
    def empty(self) -> bool:
        return self._left < 1.0

    def take(self) -> None:
        self._left -= 1.0


class Caps:
    """The limits of all tenants that have any.

    Every replica sees its part of a tenant's requests and holds the share of that part; all together then hold it too.
    """

    def __init__(self, policy: RouterPolicy, ledger: Ledger) -> None:
        self._tenants = policy.tenants
        self._ledger = ledger
        self._buckets = {
            name: {tier: _Bucket(share) for tier, share in tenant.shares.items()}
            for name, tenant in policy.tenants.items()
        }

    def fails(self, tenant: str) -> bool:
        """Whether a request over the limit is to fail, where another tenant's would be given a lower tier."""
        return tenant in self._tenants and self._tenants[tenant].over == "error"

    def arrived(self, tenant: str) -> None:
        """One more request of a tenant, whatever its tier will be."""
        for bucket in self._buckets.get(tenant, {}).values():
            bucket.fill()

    def over(self, tenant: str, tier: str) -> str | None:
        """What a request of this tenant at this tier would go over; None where it may run there."""
        limits = self._tenants.get(tenant)
        if limits is None:
            return None
        if limits.usd_per_day is not None and (spent := self._ledger.spent(tenant)) >= limits.usd_per_day:
            return f"{tenant} has spent {spent:.4f} of {limits.usd_per_day:g} dollars today"
        bucket = self._buckets[tenant].get(tier)
        if bucket is not None and bucket.empty:
            return f"{tier} is for {100 * limits.shares[tier]:g}% of {tenant}'s requests"
        return None

    def take(self, tenant: str, tier: str) -> None:
        """A request of this tenant runs at this tier."""
        if (bucket := self._buckets.get(tenant, {}).get(tier)) is not None:
            bucket.take()

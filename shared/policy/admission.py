"""How much may wait, and how much each tenant may ask for."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from shared.events import Word
from shared.policy.section import Section


class Allowance(Section):
    """What one tenant may ask for: a token bucket.

    Attributes:
        requests_per_minute: that its bucket is filled with.
        burst: requests it may send at once when it has sent none for a while.
    """

    requests_per_minute: Annotated[PositiveFloat, Field(allow_inf_nan=False)]
    burst: PositiveInt = 10


class AdmissionPolicy(Section):
    """When a request is told to come back later.

    Attributes:
        max_queued: requests taken and not yet answered, of everybody.
        max_queued_bulk: of these the bulk ones.
        max_queued_per_tenant: of these one tenant's.
        max_unwritten: events that persistence has not written yet: PostgreSQL is away, full or slow.
        default: what a tenant may ask for that is not listed; None: as much as it likes.
        tenants: what those may ask for that are.
    """

    max_queued: PositiveInt = 100_000
    max_queued_bulk: PositiveInt = 80_000
    max_queued_per_tenant: PositiveInt = 50_000
    max_unwritten: PositiveInt = 500_000
    default: Allowance | None = None
    tenants: dict[Word, Allowance] = Field(default_factory=dict)

    def allowance(self, tenant: str) -> Allowance | None:
        """What a tenant may ask for; None: as much as it likes."""
        return self.tenants.get(tenant, self.default)

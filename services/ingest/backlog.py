"""The requests that this replica took and has not heard the end of."""

from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from services.ingest.forecast import Wait
from shared.clock import Clock
from shared.events import Priority

# Its end was missed, or it will come to nothing: after so long a request is counted no more.
FORGOTTEN_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Taken:
    """A request under way.

    Attributes:
        at_s: when it was taken, monotonic.
        tier: that it names.
        promised: what its client was told.
    """

    tenant: str
    priority: Priority
    tier: str | None
    at_s: float
    promised: Wait


class Backlog:
    """Requests under way, and how many of them are whose."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._taken: OrderedDict[UUID, Taken] = OrderedDict()
        self._by_tenant: Counter[str] = Counter()
        self._by_priority: Counter[Priority] = Counter()

    def __len__(self) -> int:
        return len(self._taken)

    def of_tenant(self, tenant: str) -> int:
        """How many are a tenant's."""
        return self._by_tenant[tenant]

    def of_priority(self, priority: Priority) -> int:
        """How many are of a priority."""
        return self._by_priority[priority]

    def get(self, request_id: UUID) -> Taken | None:
        """One that is under way."""
        return self._taken.get(request_id)

    def add(self, request_id: UUID, taken: Taken) -> None:
        """One more; nothing changes where it is here already."""
        if self._taken.setdefault(request_id, taken) is taken:
            self._by_tenant[taken.tenant] += 1
            self._by_priority[taken.priority] += 1

    def remove(self, request_id: UUID) -> Taken | None:
        """One is finished; None where it is not known."""
        taken = self._taken.pop(request_id, None)
        if taken is not None:
            self._by_priority[taken.priority] -= 1
            self._by_tenant[taken.tenant] -= 1
            if not self._by_tenant[taken.tenant]:
                del self._by_tenant[taken.tenant]
        return taken

    def forget_old(self) -> None:
        """Count those no more whose end should have been heard long ago."""
        while self._taken:
            oldest = next(iter(self._taken))
            if self._clock.monotonic() - self._taken[oldest].at_s < FORGOTTEN_S:
                return
            self.remove(oldest)

    def clear(self) -> None:
        """Count none: how many of them have ended meanwhile, nobody can tell."""
        self._taken.clear()
        self._by_tenant.clear()
        self._by_priority.clear()

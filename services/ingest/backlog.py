"""The requests that this replica took and has not heard the end of.

A surge may be a hundred thousand of them. As objects they took 670 bytes each. Here each is a record of 54 bytes,
and records stand side by side in a fixed number of byte strings, spread by id. To find one is to search a short
string for its id, at the speed of memory; and there is no table that has to be made anew as it grows.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from struct import Struct
from typing import Final
from uuid import UUID

from services.ingest.forecast import Wait
from shared.clock import Clock
from shared.events import Priority

# Its end was missed, or it will come to nothing: after so long a request is counted no more.
FORGOTTEN_S: Final = 3600.0
# Seconds between two looks for those, each of which goes through all records.
FORGETS_EVERY_S: Final = 60.0
# A dozen records in each while 100,000 are under way; half a megabyte while none is. Ids end with a signature, which
# spreads them evenly.
STRINGS: Final = 8192
NO_TIER: Final = 255
PRIORITIES: Final = tuple(Priority)


@dataclass(frozen=True, slots=True)
class Taken:
    """A request under way.

    Attributes:
        at_s: when it was taken, monotonic.
        tier: that it names.
        promised: what its client was told; the numbers ahead of it to seven digits.
    """

    tenant: str
    priority: Priority
    tier: str | None
    at_s: float
    promised: Wait


class Backlog:
    """Requests under way, and how many of them are whose."""

    def __init__(self, clock: Clock, tiers: Iterable[str]) -> None:
        """``tiers`` are all that requests may name or wait for; fewer than 255."""
        self._clock = clock
        self._tiers = tuple(tiers)
        # Id; at_s, queued_s, service_s; the numbers of tenant, priority and tier; how many are ahead in each tier.
        self._record = Struct(f"<16s3dI2B{len(self._tiers)}f")
        self._forget_at_s = 0.0
        self.clear()

    def __len__(self) -> int:
        return self._by_priority.total()

    def of_tenant(self, tenant: str) -> int:
        """How many are a tenant's."""
        return self._by_tenant[tenant]

    def of_priority(self, priority: Priority) -> int:
        """How many are of a priority."""
        return self._by_priority[priority]

    def get(self, request_id: UUID) -> Taken | None:
        """One that is under way."""
        records, place = self._find(request_id)
        return None if place < 0 else self._read(records, place)

    def add(self, request_id: UUID, taken: Taken) -> None:
        """One more; nothing changes where it is here already."""
        records, place = self._find(request_id)
        if place >= 0:
            return
        promised = taken.promised
        records += self._record.pack(
            request_id.bytes,
            *(taken.at_s, promised.queued_s, promised.service_s),
            self._tenants.number(taken.tenant),
            PRIORITIES.index(taken.priority),
            NO_TIER if taken.tier is None else self._tiers.index(taken.tier),
            *(promised.ahead.get(tier, 0.0) for tier in self._tiers),
        )
        self._by_tenant[taken.tenant] += 1
        self._by_priority[taken.priority] += 1

    def remove(self, request_id: UUID) -> Taken | None:
        """One is finished; None where it is not known."""
        records, place = self._find(request_id)
        if place < 0:
            return None
        taken = self._read(records, place)
        last = len(records) - self._record.size  # which takes the place of the one that goes
        records[place : place + self._record.size] = records[last:]
        del records[last:]
        self._by_priority[taken.priority] -= 1
        self._by_tenant[taken.tenant] -= 1
        if not self._by_tenant[taken.tenant]:
            del self._by_tenant[taken.tenant]
            self._tenants.release(taken.tenant)
        return taken

    def forget_old(self) -> None:
        """Count those no more whose end should have been heard long ago."""
        now_s = self._clock.monotonic()
        if now_s < self._forget_at_s:
            return
        self._forget_at_s = now_s + FORGETS_EVERY_S
        for records in self._strings:
            old = [found[0] for found in self._record.iter_unpack(records) if now_s - found[1] >= FORGOTTEN_S]
            for request_id in old:
                self.remove(UUID(bytes=request_id))

    def clear(self) -> None:
        """Count none: how many of them have ended meanwhile, nobody can tell."""
        self._strings = tuple(bytearray() for _ in range(STRINGS))
        self._tenants = Numbers()
        self._by_tenant: Counter[str] = Counter()
        self._by_priority: Counter[Priority] = Counter()

    def _find(self, request_id: UUID) -> tuple[bytearray, int]:
        """The string where a request belongs, and the place of its record there; -1 where it has none."""
        records, wanted = self._strings[request_id.int % STRINGS], request_id.bytes
        place = records.find(wanted)
        while place > 0 and place % self._record.size:  # these bytes in the middle of another record
            place = records.find(wanted, place + 1)
        return records, place

    def _read(self, records: bytearray, place: int) -> Taken:
        _, at_s, queued_s, service_s, tenant, priority, tier, *ahead = self._record.unpack_from(records, place)
        return Taken(
            self._tenants.name(tenant),
            PRIORITIES[priority],
            None if tier == NO_TIER else self._tiers[tier],
            at_s,
            Wait(queued_s, service_s, dict(zip(self._tiers, ahead, strict=True))),
        )


class Numbers:
    """A small number for each name that is in use; one that is released is given to another."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._names: list[str] = []
        self._free: list[int] = []

    def number(self, name: str) -> int:
        """That of a name."""
        if name not in self._numbers:
            if not self._free:
                self._free.append(len(self._names))
                self._names.append("")
            self._numbers[name] = self._free.pop()
            self._names[self._numbers[name]] = name
        return self._numbers[name]

    def name(self, number: int) -> str:
        """The name of a number in use."""
        return self._names[number]

    def release(self, name: str) -> None:
        """Nobody uses a name any more."""
        self._free.append(self._numbers.pop(name))

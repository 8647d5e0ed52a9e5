"""When the housekeeping does what; what its statements mean is asked of PostgreSQL itself."""

from typing import TYPE_CHECKING, Any, cast

import pytest

from services.persistence.housekeeping import CROWDED_EVERY_S, EVERY_S, EVICTED_AT_ONCE, SQL, Housekeeping
from shared.policy.caching import BoundsPolicy
from tests.support.clock import ManualClock

if TYPE_CHECKING:
    from shared.database import Connection

BOUNDS = BoundsPolicy(max_entries=1000, max_entries_per_tenant=1000)
NAMES = {text: name for name, text in SQL.items()}


class Scripted:
    """A connection that says what a test wants it to.

    Attributes:
        about: how many entries the statistics know of.
        excess: what is over the bounds, by tenant.
        asked: the statements so far.
        evicted: (tenant, how many) of each eviction.
    """

    def __init__(self) -> None:
        self.about = 2000
        self.excess: list[tuple[str | None, int]] = []
        self.asked: list[str] = []
        self.evicted: list[tuple[str | None, int]] = []

    async def execute(self, statement: str, *_: object) -> None:
        self.asked.append(NAMES[statement])

    async def fetchval(self, statement: str, *_: object) -> object:
        self.asked.append(NAMES[statement])
        return {"evicting": True, "about": self.about}[NAMES[statement]]

    async def fetch(self, statement: str, *arguments: Any) -> list[Any]:
        name = NAMES[statement]
        self.asked.append(name)
        if name == "evict":
            tenant, number, *_ = arguments
            self.evicted.append((tenant, number))
            return [{"entry_id": place} for place in range(number)]
        return list(self.excess) if name == "crowded" else []


@pytest.fixture
def connection() -> Scripted:
    return Scripted()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def housekeeping(clock: ManualClock) -> Housekeeping:
    return Housekeeping(clock, BOUNDS, dimensions=384)


async def tick(housekeeping: Housekeeping, connection: Scripted) -> list[str]:
    """The statements of a tick that is committed."""
    connection.asked.clear()
    await housekeeping.begin(cast("Connection", connection))
    await housekeeping.end(cast("Connection", connection), brought=3)
    housekeeping.committed()
    return list(connection.asked)


async def test_most_ticks_only_let_expire(housekeeping: Housekeeping, connection: Scripted, clock: ManualClock) -> None:
    assert "crowded" in await tick(housekeeping, connection)
    assert await tick(housekeeping, connection) == ["expire"]
    clock.skip(EVERY_S)
    assert "crowded" in await tick(housekeeping, connection)


@pytest.mark.parametrize(("about", "counts"), [(799, False), (800, True)])
async def test_nobody_counts_while_there_is_room(
    about: int, counts: bool, housekeeping: Housekeeping, connection: Scripted
) -> None:
    connection.about = about
    assert ("crowded" in await tick(housekeeping, connection)) == counts


async def test_what_tenants_lose_counts_for_all(housekeeping: Housekeeping, connection: Scripted) -> None:
    connection.excess = [("a", 10), ("b", 5), (None, 20)]
    await tick(housekeeping, connection)
    assert connection.evicted == [("a", 10), ("b", 5), (None, 5)]


async def test_too_many_to_evict_at_once_are_evicted_soon(
    housekeeping: Housekeeping, connection: Scripted, clock: ManualClock
) -> None:
    connection.excess = [("a", 10), (None, EVICTED_AT_ONCE + 10)]
    await tick(housekeeping, connection)
    assert connection.evicted == [("a", 10), (None, EVICTED_AT_ONCE - 10)]
    connection.excess = []
    clock.skip(CROWDED_EVERY_S - 1)
    assert await tick(housekeeping, connection) == ["expire"]
    clock.skip(1)
    assert "crowded" in await tick(housekeeping, connection)
    clock.skip(CROWDED_EVERY_S)
    assert await tick(housekeeping, connection) == ["expire"]


async def test_what_was_not_committed_is_due_again(housekeeping: Housekeeping, connection: Scripted) -> None:
    await housekeeping.begin(cast("Connection", connection))
    assert "partitions" in await tick(housekeeping, connection)

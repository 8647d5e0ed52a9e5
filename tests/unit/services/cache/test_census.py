"""What a replica reads beside its requests, at its start and after a gap."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from services.cache.census import EVERY_S, INVALIDATIONS, Census
from services.cache.selection import MOST_REMEMBERED, REMEMBERED
from shared.background import background
from shared.events import CacheInvalidate, RequestMissed
from tests.support import make
from tests.support.clock import START
from tests.support.replica import Replica, entry, invalidation

if TYPE_CHECKING:
    from shared.database import Pool


class Table:
    """Knows invalidations, newest first, and nothing else; can be away."""

    def __init__(self, *rows: Mapping[str, Any]) -> None:
        self.rows = list(rows)
        self.away = False
        self.asked: list[tuple[object, ...]] = []

    async def fetch(self, statement: str, *arguments: object) -> Sequence[Mapping[str, Any]]:
        if statement != INVALIDATIONS["recent"]:
            return ()
        self.asked.append(arguments)
        if self.away:
            raise OSError("away")
        return self.rows

    async def fetchval(self, _: str) -> int:
        return 7


def row(of: CacheInvalidate) -> dict[str, Any]:
    """An invalidation as it is on record: the selector is JSON."""
    return of.model_dump() | {"selector": of.selector.model_dump_json(exclude_none=True)}


@pytest.fixture
def replica() -> Replica:
    return Replica()


def census(replica: Replica, table: Table) -> Census:
    return Census(cast("Pool", table), replica.judge, replica.audits, replica.shadows, replica.news, replica.clock)


async def asked(replica: Replica) -> type:
    """What becomes of a request whose entry is still in the table."""
    request = make.request()
    key = replica.handler.key(request)
    replica.lookup.exact = entry(scope=key.scope, exact=key.exact)
    return type((await replica.ask(request))[0])


async def test_a_replica_that_starts_serves_nothing_that_was_invalidated_before(replica: Replica) -> None:
    table = Table(row(invalidation(topic="capital")))
    async with background(census(replica, table).run, name="census"):
        await replica.clock.sleeper()
        assert await asked(replica) is RequestMissed
    assert table.asked == [(START - REMEMBERED, MOST_REMEMBERED)]
    assert replica.judge.entries == 7


async def test_after_a_gap_they_are_read_again_and_only_then(replica: Replica) -> None:
    table = Table()
    async with background(census(replica, table).run, name="census"):
        await replica.clock.advance(EVERY_S)
        assert len(table.asked) == 1
        replica.news.subscribed()
        table.rows.append(row(invalidation(START + timedelta(seconds=EVERY_S))))
        await replica.clock.advance(EVERY_S)
        assert await asked(replica) is RequestMissed
        await replica.clock.advance(EVERY_S)
    assert len(table.asked) == 2


async def test_a_database_that_is_away_is_asked_again(replica: Replica) -> None:
    table = Table(row(invalidation(topic="capital")))
    table.away = True
    async with background(census(replica, table).run, name="census"):
        await replica.clock.sleeper()
        assert replica.news.behind
        table.away = False
        await replica.clock.advance(EVERY_S)
        assert not replica.news.behind
        assert await asked(replica) is RequestMissed


@pytest.mark.parametrize("selector", ["{", "{}", '{"colour": "red"}', '{"topic": "%s"}' % ("x" * 2000)])
async def test_one_that_cannot_be_read_hides_no_other(replica: Replica, selector: str) -> None:
    table = Table(row(invalidation(tenant="x")) | {"selector": selector}, row(invalidation(topic="capital")))
    async with background(census(replica, table).run, name="census"):
        await replica.clock.sleeper()
        assert await asked(replica) is RequestMissed

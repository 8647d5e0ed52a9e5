"""A real PostgreSQL with the schema in a database of its own, empty for each test."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from infra.local import stack as local
from services.persistence.writer import Writer
from shared import database
from shared.clock import Clock
from shared.consumer import Outcome
from shared.events import Event
from shared.policy import Policy
from shared.topology import RECORDS, Queue, entries
from tests.support import make
from tests.support.clock import ManualClock

if TYPE_CHECKING:
    from shared.database import Pool

ENTRIES = entries(("light", "premium"))
NAME = "contract"
TABLES = ("requests", "responses", "cache_entries", "cache_uses", "cache_audits", "cache_invalidations", "ratings")
Rows = Sequence[asyncpg.Record]


@pytest.fixture(scope="session")
def server(home: Path) -> str:
    """The session's PostgreSQL, without the rest of the stack."""
    return local.up(home, say=print, services=(), infrastructure=("postgres",)).postgres_dsn


def named(dsn: str, name: str) -> str:
    """The address of another database of a server."""
    start, _, options = dsn.partition("?")
    return f"{start.rpartition('/')[0]}/{name}?{options}"


async def created(server: str, name: str) -> str:
    """A database without anything in it."""
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    return named(server, name)


@pytest.fixture(scope="session")
def schema(server: str) -> str:
    """A database with the schema in it."""

    async def make_one() -> str:
        dsn = await created(server, NAME)
        await database.migrate(dsn)
        return dsn

    return asyncio.run(make_one())


class Database:
    """What a test sees of the database."""

    def __init__(self, pool: "Pool") -> None:
        self.pool = pool

    async def all(self, statement: str, *arguments: object) -> Rows:
        return await self.pool.fetch(statement, *arguments)

    async def one(self, statement: str, *arguments: object) -> Any:
        return await self.pool.fetchval(statement, *arguments)

    async def count(self, table: str) -> int:
        return int(await self.one(f"SELECT count(*) FROM {table}"))

    async def uses(self, entry_id: object) -> dict[str, Any] | None:
        """What was counted for an entry; None: nothing."""
        found = await self.all("SELECT * FROM cache_uses WHERE entry_id = $1", entry_id)
        return dict(found[0]) if found else None


@pytest.fixture
async def db(schema: str) -> AsyncIterator[Database]:
    async with database.pool(schema, size=3) as pool:
        # Emptied by deleting: TRUNCATE makes new files for each of some hundred indexes.
        await pool.execute(";".join(f"DELETE FROM {table}" for table in TABLES))
        yield Database(pool)


class Persistence:
    """A writer of its own, with a connection of its own."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer

    async def records(self, *events: Event) -> Sequence[Outcome]:
        return await self.write([(RECORDS, event) for event in events])

    async def entries(self, *events: Event) -> Sequence[Outcome]:
        return await self.write([(ENTRIES, event) for event in events])

    async def write(self, batch: Sequence[tuple[Queue, Event]]) -> Sequence[Outcome]:
        return await self.writer.write(batch)


@pytest.fixture
async def another(schema: str, db: Database) -> AsyncIterator[Callable[..., Any]]:
    """Makes writers."""
    async with AsyncExitStack() as stack:

        async def one(policy: Policy | None = None, clock: Clock | None = None) -> Persistence:
            pool = await stack.enter_async_context(database.vector_pool(schema, size=1))
            made = Persistence(Writer(pool, clock or ManualClock(), policy or make.policy(), entries=ENTRIES))
            await made.records()  # its first transaction does the housekeeping of the minute
            return made

        yield one


@pytest.fixture
async def writer(another: Callable[..., Any]) -> Persistence:
    made: Persistence = await another()
    return made

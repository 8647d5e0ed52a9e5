"""PostgreSQL: a pool, named statements, migrations.

``python -m shared.database`` applies the migrations and exits; it is what the migration Job runs.
"""

import asyncio
import logging
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from shared import settings
from shared.errors import ForebayError, StartupError

MIGRATIONS: Final = Path(__file__).parent.parent / "infra" / "migrations"
CONNECT_TIMEOUT_S: Final = 5.0
STATEMENT_TIMEOUT_S: Final = 30.0
# What asyncpg raises when the server is away, shuts down, restarts or is out of connections.
AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.CannotConnectNowError,
    asyncpg.InsufficientResourcesError,
)
# What a reader that can do without the answer takes for "not available": all of the above, a missing table, a wrong
# password, a database without pgvector (a ValueError of pgvector's own).
FAILED: Final = (*AWAY, asyncpg.PostgresError, ValueError)
# For searches by vector: look at 100 candidates (of the nearest entries 64 found 98.2 %, 100 found 99.2 %, of 100,000
# in one scope), and go on while the filter leaves too few (pgvector 0.8). The plan is made once for all parameters:
# planning takes longer than searching, and finds no better one. It takes the vector index wherever it can; that a scope
# is too small for it is seen by the statement, not by statistics.
SEARCH_SETTINGS: Final = {
    "hnsw.ef_search": "100",
    "hnsw.iterative_scan": "relaxed_order",
    "hnsw.max_scan_tuples": "2000",
    "plan_cache_mode": "force_generic_plan",
    "enable_sort": "off",
    "jit": "off",
}

if TYPE_CHECKING:  # generic in the type stubs only
    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]


class DatabaseUnavailable(ForebayError):
    """PostgreSQL is away; what was to be written is kept."""

    code = "database_unavailable"
    retryable = True


@asynccontextmanager
async def reading(what: str, *, patience_s: float) -> AsyncIterator[None]:
    """For readers that can do without: raises DatabaseUnavailable where there is no answer within some seconds."""
    try:
        async with asyncio.timeout(patience_s):
            yield
    except FAILED as error:
        raise DatabaseUnavailable(f"{what} cannot be read: {error!r}") from error


def statements(path: Path) -> Mapping[str, str]:
    """The statements of a .sql file by name: each begins with a line ``-- name: what it does``."""
    parts = re.split(r"^-- (\w+): .*$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return MappingProxyType({name: text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)})


def pool(
    dsn: str,
    *,
    size: int,
    init: Callable[[Any], Awaitable[None]] | None = None,
    reset: Callable[[Any], Awaitable[None]] | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> AbstractAsyncContextManager["Pool"]:
    """A pool that connects when it is first used, so that a service starts while PostgreSQL is away.

    ``init`` runs on each new connection, ``reset`` whenever one is given back, in place of what undoes all that may
    have been set in its session; ``settings`` are PostgreSQL's own.
    """
    return asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=size,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=STATEMENT_TIMEOUT_S,
        init=init,  # type: ignore[arg-type]  # the stubs want a protocol that a plain function can't show
        reset=reset,
        server_settings={"application_name": "forebay", **settings},
    )


def vector_pool(dsn: str, *, size: int) -> AbstractAsyncContextManager["Pool"]:
    """A pool whose connections know pgvector's types and search as the cache wants it."""
    from pgvector.asyncpg import register_vector  # only the services that have it installed get here

    return pool(dsn, size=size, init=register_vector, settings=SEARCH_SETTINGS)


def search_pool(dsn: str) -> AbstractAsyncContextManager["Pool"]:
    """The same for lookups alone, which are two at a time: a batch by keys and one by vectors.

    A connection that is given back is not reset, which takes a round trip: no lookup changes its session. So one that
    failed may be in any state, and whoever saw it fail ends it.
    """
    from pgvector.asyncpg import register_vector

    return pool(dsn, size=2, init=register_vector, reset=_nothing, settings=SEARCH_SETTINGS)


async def _nothing(_: object) -> None:
    """What is left to undo where nothing was changed."""


async def migrate(dsn: str) -> None:
    """Apply all migrations that are missing; safe to run from several places at once.

    Raises:
        StartupError: PostgreSQL cannot be reached, or lacks pgvector 0.8 or newer.
    """
    from pogo_core.util import migrate as pogo  # only the migration Job and the local stack need it

    logging.getLogger("pogo_core").setLevel(logging.WARNING)
    try:
        connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S)
    except AWAY as error:
        raise StartupError(f"cannot reach PostgreSQL: {error}; see FOREBAY_POSTGRES_DSN") from None
    try:
        await connection.execute("SELECT pg_advisory_lock(hashtext('forebay migrations'))")
        available = await connection.fetchval(
            "SELECT default_version FROM pg_available_extensions WHERE name = 'vector'"
        )
        if available is None or tuple(int(part) for part in available.split(".")[:2]) < (0, 8):
            raise StartupError(f"PostgreSQL needs the extension pgvector 0.8 or newer; found: {available or 'none'}")
        await pogo.apply(connection, MIGRATIONS, schema_name="public")
    finally:
        await connection.close()


if __name__ == "__main__":
    try:
        asyncio.run(migrate(settings.load().postgres_dsn))
    except StartupError as failure:
        sys.exit(f"forebay migrations: {failure}")

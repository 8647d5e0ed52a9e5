"""Each migration can be taken back."""

from pathlib import Path

import asyncpg
import pytest
from pogo_core.util import migrate as pogo

from shared import database
from tests.contract.persistence.conftest import created

SHAPE = """
SELECT table_name || '.' || column_name || ' ' || data_type FROM information_schema.columns
          WHERE table_schema = 'public'
UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT proname || pg_get_function_identity_arguments(oid) FROM pg_proc
          WHERE pronamespace = 'public'::regnamespace AND proname LIKE 'forebay%'
ORDER BY 1
"""


async def shape(connection: "asyncpg.Connection[asyncpg.Record]") -> list[str]:
    return [row[0] for row in await connection.fetch(SHAPE)]


@pytest.mark.parametrize("count", range(1, len(list(Path(database.MIGRATIONS).glob("*.sql"))) + 1))
async def test_down_and_up_again_gives_the_same(server: str, count: int) -> None:
    dsn = await created(server, "migrations")
    await database.migrate(dsn)
    connection = await asyncpg.connect(dsn)
    try:
        before = await shape(connection)
        await pogo.rollback(connection, database.MIGRATIONS, schema_name="public", count=count)
        assert await shape(connection) != before
        await database.migrate(dsn)
        assert await shape(connection) == before
    finally:
        await connection.close()

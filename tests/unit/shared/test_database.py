"""Named statements, and a pool that waits for its server."""

import socket
from pathlib import Path

import pytest

from shared import database
from shared.errors import StartupError

ROOT = Path(__file__).parents[3]


def test_statements_are_found_by_name(tmp_path: Path) -> None:
    file = tmp_path / "some.sql"
    file.write_text(
        "-- A file about something.\n-- first: Say one.\nSELECT 1\n\n"
        "-- second: Say two, which\n-- takes long.\nSELECT 2\n"
    )
    found = database.statements(file)
    assert set(found) == {"first", "second"}
    assert found["first"] == "SELECT 1"
    assert found["second"].endswith("SELECT 2")


def test_a_file_without_statements_has_none(tmp_path: Path) -> None:
    file = tmp_path / "none.sql"
    file.write_text("SELECT 1\n")
    assert dict(database.statements(file)) == {}


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("services/ingest/results.sql", {"find"}),
        ("services/cache/lookup.sql", {"near", "same"}),
        (
            "services/persistence/writer.sql",
            {
                *("cache_audits", "cache_entries", "cache_invalidations", "cache_uses"),
                *("requests", "responses", "dropped", "ratings"),
            },
        ),
    ],
)
def test_the_statements_of_the_services_have_names(path: str, names: set[str]) -> None:
    found = database.statements(ROOT / path)
    assert set(found) == names
    assert all(found.values())


async def test_a_pool_opens_while_postgresql_is_away_and_says_so_when_it_is_used() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with database.pool(f"postgresql://nobody@127.0.0.1:{port}/nothing", size=1) as pool:
        with pytest.raises(database.AWAY):
            await pool.fetch("SELECT 1")


async def test_migrating_without_postgresql_says_what_to_set() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(StartupError, match=r"cannot reach PostgreSQL: .*FOREBAY_POSTGRES_DSN"):
        await database.migrate(f"postgresql://nobody@127.0.0.1:{port}/nothing")


def test_a_database_that_is_away_is_worth_waiting_for() -> None:
    assert database.DatabaseUnavailable.retryable

"""What PostgreSQL refuses, and what it has no room for, harms nothing else."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from shared.consumer import Dead, Done
from shared.database import DatabaseUnavailable
from shared.events import Event, Request
from tests.contract.persistence.conftest import Database, Persistence
from tests.support import make

# Without a tenant neither an accepted request nor an answer is a row.
NOBODY: dict[str, Any] = {"tenant": None}


def batch_of(requests: Sequence[Request]) -> list[Event]:
    """The accepted requests and their answers."""
    return [event for request in requests for event in (make.accepted(request), make.completed(request))]


async def ids(db: Database, table: str) -> set[Any]:
    return {row["id"] for row in await db.all(f"SELECT id FROM {table}")}


async def test_poison_among_five_hundred_harms_no_other_row_of_either_table(writer: Persistence, db: Database) -> None:
    requests = [make.request() for _ in range(250)]
    events = batch_of(requests)
    unasked, unanswered = requests[125], (requests[0], requests[124], requests[249])
    events[events.index(make.accepted(unasked))] = make.accepted(unasked.model_copy(update=NOBODY))
    for request in unanswered:
        events[events.index(make.completed(request))] = make.completed(request).model_copy(update=NOBODY)
    outcomes = await writer.records(*events)
    reasons = [outcome.reason for outcome in outcomes if isinstance(outcome, Dead)]
    assert [reason.split(":")[0] for reason in reasons] == ["responses", "responses", "requests", "responses"]
    assert all("null value in column" in reason for reason in reasons)
    everybody = {request.id for request in requests}
    assert await ids(db, "requests") == everybody - {unasked.id}
    assert await ids(db, "responses") == everybody - {request.id for request in unanswered}


async def test_two_writers_with_the_same_events_and_the_same_poison_write_each_row_once(
    another: Callable[..., Any], db: Database
) -> None:
    writers = [await another(), await another()]
    requests = [make.request() for _ in range(100)]
    events = [*batch_of(requests), *(make.completed(tier="light").model_copy(update=NOBODY) for _ in range(3))]
    orders = [random.Random(seed).sample(events, len(events)) for seed in range(6)]
    told = await asyncio.gather(
        *(writer.records(*order) for order in orders for writer in writers),
    )
    assert [sum(isinstance(outcome, Dead) for outcome in outcomes) for outcomes in told] == [3] * len(told)
    everybody = {request.id for request in requests}
    assert (await ids(db, "requests"), await ids(db, "responses")) == (everybody, everybody)


@asynccontextmanager
async def full_disk(db: Database, table: str) -> AsyncIterator[None]:
    """While this is open, PostgreSQL has no room for another row of a table, and says so as it does."""
    await db.pool.execute(
        "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE disk_full USING MESSAGE = 'could not extend file: No space left on device'; END $$;"
        f"CREATE TRIGGER no_room BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION no_room()"
    )
    try:
        yield
    finally:
        await db.pool.execute("DROP FUNCTION no_room CASCADE")


@pytest.mark.parametrize("table", ["requests", "responses"])
async def test_on_a_full_disk_nothing_is_written_or_given_up_and_all_of_it_once_there_is_room(
    table: str, writer: Persistence, db: Database
) -> None:
    requests = [make.request() for _ in range(20)]
    events = [*batch_of(requests), make.completed().model_copy(update=NOBODY)]
    async with full_disk(db, table):
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable, match="No space left on device"):
                await writer.records(*events)
        assert (await db.count("requests"), await db.count("responses")) == (0, 0)
    outcomes = await writer.records(*events)
    assert [type(outcome) for outcome in outcomes] == [Done] * 40 + [Dead]
    assert (await db.count("requests"), await db.count("responses")) == (20, 20)


async def test_a_writer_that_lost_its_connection_after_the_commit_counts_nothing_twice(
    writer: Persistence, db: Database
) -> None:
    leader = make.new_id()
    answer = make.completed(source="coalesced", leader_id=leader, saved_usd=0.25)
    await writer.records(answer)  # committed; that this was said, the writer may not have heard
    await db.pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle' AND pid <> pg_backend_pid()"
        " AND datname = current_database()"
    )
    while True:
        try:
            assert list(await writer.records(answer)) == [Done()]
        except DatabaseUnavailable:
            continue
        break
    uses = await db.uses(leader)
    assert uses is not None
    assert (uses["hits"], uses["saved_usd"]) == (1, 0.25)

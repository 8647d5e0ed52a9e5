"""What the writer's statements mean for a request that is run anew: one result, and the latest run's."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from services.ingest.results import Known, Results
from shared.consumer import Done
from shared.events import Event, Request, RequestDropped
from tests.contract.persistence.conftest import Database, Persistence
from tests.support import make
from tests.support.clock import START

PATIENCE_S = 20


def again(request: Request, replay: int = 1) -> Request:
    return request.model_copy(update={"replay": replay})


async def result(db: Database, request_id: UUID) -> tuple[str, str | None, int]:
    """Status, code and run of the one result there is."""
    (row,) = await db.all("SELECT status, code, replay FROM responses WHERE id = $1", request_id)
    return row["status"], row["code"], row["replay"]


async def test_the_result_of_a_replay_takes_the_place_of_the_failure(writer: Persistence, db: Database) -> None:
    request = make.request()
    await writer.records(make.accepted(request), make.failed(request))
    await writer.records(make.accepted(again(request)))
    assert await result(db, request.id) == ("failed", "rate_limited", 0)
    answer = make.completed(again(request))
    for _ in range(2):
        await writer.records(make.accepted(request), make.accepted(again(request)), answer)
    assert await result(db, request.id) == ("completed", None, 1)
    (row,) = await db.all("SELECT * FROM responses")
    assert (row["source"], row["tier"], row["cost_usd"]) == ("light", "light", 0.25)
    (asked,) = await db.all("SELECT * FROM requests")
    assert (asked["replay"], asked["accepted_at"]) == (1, START)


@pytest.mark.parametrize("end", [make.completed, make.failed], ids=["answer", "failure"])
async def test_whatever_the_run_before_still_brings_counts_no_more(
    writer: Persistence, db: Database, end: Callable[..., Event]
) -> None:
    request = make.request()
    await writer.records(make.accepted(request), make.failed(request), make.accepted(again(request)))
    await writer.records(end(request, tier="premium"))
    assert await result(db, request.id) == ("failed", "rate_limited", 0)
    await writer.records(make.failed(again(request), code="provider_auth"))
    await writer.records(end(request, tier="premium"))
    assert await result(db, request.id) == ("failed", "provider_auth", 1)


async def test_of_two_results_of_one_run_the_first_counts(writer: Persistence, db: Database) -> None:
    request = make.request()
    await writer.records(make.failed(request))
    await writer.records(make.failed(again(request), code="provider_auth"))
    await writer.records(make.completed(again(request)))
    assert await result(db, request.id) == ("failed", "provider_auth", 1)
    await writer.records(make.completed(again(request, 2)))
    assert await result(db, request.id) == ("completed", None, 2)


@pytest.mark.parametrize("first", [make.completed, lambda of: make.failed(of, code="cancelled")])
async def test_what_has_not_failed_is_never_overwritten(
    writer: Persistence, db: Database, first: Callable[[Request], Event]
) -> None:
    request = make.request()
    await writer.records(first(request))
    before = await result(db, request.id)
    await writer.records(make.failed(again(request)), make.completed(again(request, 2)))
    assert await result(db, request.id) == before


async def test_two_writers_that_hear_two_replays_at_once_leave_one_result(
    another: Callable[..., Any], db: Database
) -> None:
    one, other = await another(), await another()
    requests = [make.request() for _ in range(50)]
    await one.records(*(make.accepted(each) for each in requests), *(make.failed(each) for each in requests))
    ends = [make.completed(again(each)) for each in requests]
    failures = [make.failed(again(each)) for each in reversed(requests)]
    accepted = [make.accepted(again(each)) for each in requests]
    await asyncio.gather(one.records(*accepted, *ends), other.records(*accepted, *failures))
    assert await db.count("responses") == 50
    assert await db.one("SELECT array_agg(DISTINCT replay) FROM responses") == [1]


async def test_two_writers_of_which_each_drops_what_the_other_has_a_result_of_do_not_deadlock(
    another: Callable[..., Any], db: Database
) -> None:
    one, other = await another(), await another()
    requests = first, second, *held = [make.request() for _ in range(4)]
    await one.records(*map(make.failed, requests))
    drops = [RequestDropped(request_id=each.id, tenant="acme", dropped_at=START) for each in (first, second)]
    ends = [make.completed(again(each)) for each in requests]
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with db.pool.acquire() as connection, asyncio.timeout(PATIENCE_S):
        # Results that neither can write until both have begun; they come last.
        async with connection.transaction():
            await connection.fetch("SELECT FROM responses WHERE id = ANY($1) FOR UPDATE", [each.id for each in held])
            writing = asyncio.gather(one.records(ends[1], drops[0], ends[2]), other.records(ends[0], drops[1], ends[3]))
            while await db.one(waiting) != 2:
                pass
        outcomes = await writing
    assert {type(outcome) for each in outcomes for outcome in each} == {Done}
    rows = await db.all("SELECT status, replay, dropped_at FROM responses")
    assert [tuple(row) for row in rows] == [("completed", 1, None)] * 4


async def test_a_replays_answer_counts_for_its_entry_once(writer: Persistence, db: Database) -> None:
    request, leader = make.request(), make.new_id()
    await writer.records(make.failed(request))
    answer = make.completed(again(request), source="coalesced", leader_id=leader, cost_usd=0.0)
    for _ in range(2):
        await writer.records(answer)
    assert (await db.uses(leader) or {})["hits"] == 1


async def test_a_failure_that_is_dropped_stays_the_result_and_one_of_a_later_run_is_listed_again(
    writer: Persistence, db: Database
) -> None:
    request, other = make.request(), make.request()
    await writer.records(make.failed(request), make.completed(other))
    drops = [RequestDropped(request_id=each.id, tenant="acme", dropped_at=START) for each in (other, request)]
    await writer.records(*drops, *drops)
    rows = await db.all("SELECT id, dropped_at FROM responses")
    assert {row["id"]: row["dropped_at"] for row in rows} == {request.id: START, other.id: None}
    assert await result(db, request.id) == ("failed", "rate_limited", 0)
    await writer.records(make.failed(again(request)))
    await writer.records(drops[1])  # of the run before
    assert await db.one("SELECT dropped_at FROM responses WHERE id = $1", request.id) is None


async def test_ingest_tells_that_a_failed_request_is_queued_again(writer: Persistence, db: Database) -> None:
    request = make.request()
    failure = make.failed(request)
    await writer.records(make.accepted(request), failure)
    results = Results(db.pool, keep=10)
    await results.heard(failure)
    assert await results.find("acme", request.id) == Known("d1", failure)
    await writer.records(make.accepted(again(request)))
    assert await results.find("acme", request.id) == Known("d1", None)
    answer = make.completed(again(request), key=None)
    await writer.records(answer)
    assert await results.find("acme", request.id) == Known("d1", answer)


async def test_two_writers_that_drop_what_the_other_brings_do_not_wait_for_each_other_without_end(
    another: Callable[..., Any], db: Database
) -> None:
    one, other = await another(), await another()
    held, low, high = sorted((make.request() for _ in range(3)), key=lambda each: each.id)
    await one.records(*(make.failed(each) for each in (held, low, high)))

    def dropped(*requests: Request) -> list[Event]:
        return [RequestDropped(request_id=each.id, tenant="acme", dropped_at=START) for each in requests]

    async with asyncio.TaskGroup() as tasks, db.pool.acquire() as connection, connection.transaction():
        # Each brings a result, then waits for this row before it goes for the row that the other has brought.
        await connection.execute("SELECT FROM responses WHERE id = $1 FOR UPDATE", held.id)
        tasks.create_task(one.records(make.failed(again(high)), *dropped(held, low)))
        tasks.create_task(other.records(make.failed(again(low)), *dropped(held, high)))
        await waiting(db, 2)
    assert await db.one("SELECT count(*) FROM responses WHERE replay = 1") == 2
    assert await db.one("SELECT dropped_at FROM responses WHERE id = $1", held.id) == START


async def waiting(db: Database, count: int) -> None:
    """Return once so many transactions wait for a lock."""
    async with asyncio.timeout(20):
        while await db.one("SELECT count(*) FROM pg_locks WHERE NOT granted") < count:
            await asyncio.sleep(0.01)

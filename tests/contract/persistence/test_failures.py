"""What the list of failures means to PostgreSQL."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from services.persistence.failures import ClassOfFailures, Failure, Failures, NoFailure, Place, Which
from shared.events import CacheControl, ReplyAddress, Request, RequestDropped
from tests.contract.persistence.conftest import Database, Persistence
from tests.support import make
from tests.support.clock import START

EVERY = Which()


def at(minutes: int) -> datetime:
    return START + timedelta(minutes=minutes)


def again(request: Request) -> Request:
    return request.model_copy(update={"replay": 1})


async def failed(writer: Persistence, minutes: int = 0, code: str = "rate_limited", **changes: Any) -> Request:
    """A request that was taken and failed, some minutes after the start."""
    request = make.request(**changes)
    await writer.records(make.accepted(request), make.failed(request, code=code, failed_at=at(minutes)))
    return request


def requests(found: Sequence[Failure | NoFailure]) -> list[Request]:
    return [each.request for each in found if isinstance(each, Failure)]


async def listed(db: Database, which: Which = EVERY) -> list[Request]:
    return requests(await Failures(db.pool).listed(which, after=None, limit=10))


async def test_a_failure_says_what_was_asked_and_what_came_of_it(writer: Persistence, db: Database) -> None:
    asked: dict[str, Any] = {
        "input": [{"role": role, "content": "Hi?"} for role in ("user", "assistant", "user")],
        "reply": ReplyAddress(queue="q", correlation_id="c"),
        "cache_control": CacheControl(no_store=True),
        "deadline": at(60),
        "priority": "bulk",
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
    }
    request = await failed(writer, **asked)
    (found,) = await Failures(db.pool).listed(Which(), after=None, limit=10)
    assert found.request == request
    assert (found.result.code, found.result.attempts, found.result.message) == ("rate_limited", 3, "429")
    assert (found.running, found.dropped_at) == (False, None)


async def test_only_what_is_to_be_looked_after_is_listed(writer: Persistence, db: Database) -> None:
    open_, running, dropped, twice = [await failed(writer) for _ in range(4)]
    cancelled, answered = await failed(writer, code="cancelled"), make.request()
    await writer.records(
        make.rejected(),
        make.accepted(answered),
        make.completed(answered),
        make.accepted(again(running)),
        RequestDropped(request_id=dropped.id, dropped_at=START),
        make.accepted(again(twice)),
        make.failed(again(twice)),
    )
    assert await listed(db) == [open_, again(twice)]
    named = await Failures(db.pool).named(
        [each.id for each in (open_, running, dropped, cancelled, answered, open_)] + [make.new_id()]
    )
    assert requests(named) == [open_, again(running), dropped]
    assert [each.running for each in named if isinstance(each, Failure)] == [False, True, False]
    assert [each.dropped_at for each in named if isinstance(each, Failure)] == [None, None, START]
    refused = [(each.code, each.reason) for each in named if isinstance(each, NoFailure)]
    assert refused == [
        ("not_failed", "it is cancelled"),
        ("not_failed", "it is completed"),
        ("not_found", "no request has this id"),
    ]


async def test_ids_under_which_nothing_can_be_run_say_why(writer: Persistence, db: Database) -> None:
    queued, rejected = make.request(), make.rejected()
    await writer.records(make.accepted(queued), rejected)
    found = await Failures(db.pool).named([queued.id, rejected.request_id])
    assert [each.code for each in found if isinstance(each, NoFailure)] == ["not_failed", "rejected"]


async def test_failures_are_picked_by_all_conditions_given(writer: Persistence, db: Database) -> None:
    first = await failed(writer, 1)
    second = await failed(writer, 2, "provider_auth")
    third = await failed(writer, 3, "provider_auth", tenant="globex")
    assert await listed(db, Which(classes=["provider_auth"])) == [second, third]
    assert await listed(db, Which(classes=["provider_auth", "rate_limited"])) == [first, second, third]
    assert await listed(db, Which(classes=["provider_auth"], tenant="globex")) == [third]
    assert await listed(db, Which(since=at(2))) == [second, third]
    assert await listed(db, Which(until=at(2))) == [first]
    assert await listed(db, Which(since=at(2), until=at(3), tenant="acme")) == [second]
    classes = await Failures(db.pool).classes(Which(since=at(1)))
    assert classes == [
        ClassOfFailures("provider_auth", 2, at(2), at(3)),
        ClassOfFailures("rate_limited", 1, at(1), at(1)),
    ]
    assert await Failures(db.pool).classes(Which(tenant="nobody")) == []


async def test_a_list_goes_on_where_it_ended_also_among_failures_of_one_instant(
    writer: Persistence, db: Database
) -> None:
    expected = [await failed(writer, minutes) for minutes in (1, 2, 2, 2, 3)]
    seen: list[Request] = []
    after: Place | None = None
    while part := await Failures(db.pool).listed(Which(), after=after, limit=2):
        seen += requests(part)
        after = Place.parse(str(part[-1].place))
        await writer.records(*(make.accepted(again(each)) for each in requests(part)))
    assert seen == expected

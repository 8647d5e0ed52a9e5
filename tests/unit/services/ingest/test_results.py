"""Results as ingest knows them."""

import asyncio

import pytest

from services.ingest.results import Known, Results
from shared.database import DatabaseUnavailable
from shared.errors import UndecodableMessage
from shared.events import Result
from tests.support import make
from tests.support.pool import FakePool


@pytest.fixture
def pool() -> FakePool:
    return FakePool()


@pytest.fixture
def results(pool: FakePool) -> Results:
    return Results(pool.as_pool, keep=3)


async def test_who_waits_hears_the_result(results: Results) -> None:
    request = make.request()
    event = make.completed(request)
    with results.waiter(request.id) as first, results.waiter(request.id) as second:
        await results.heard(event)
        assert first.result() == second.result() == event


async def test_who_comes_late_hears_it_at_once(results: Results) -> None:
    event = make.failed()
    await results.heard(event)
    with results.waiter(event.request_id) as waiter:
        assert waiter.result().request_id == event.request_id


async def test_other_results_wake_nobody(results: Results) -> None:
    with results.waiter(make.new_id()) as waiter:
        await results.heard(make.completed())
        assert not waiter.done()


async def test_who_left_is_not_told_and_nothing_is_kept_of_it(results: Results) -> None:
    request = make.request()
    with results.waiter(request.id) as gone:
        pass
    with results.waiter(request.id) as cancelled:
        cancelled.cancel()
        await results.heard(make.completed(request))
    assert not gone.done()
    assert results._waiting == {}


async def test_the_first_result_is_the_one_that_counts(results: Results) -> None:
    request = make.request()
    await results.heard(make.completed(request, output_text="first"))
    await results.heard(make.failed(request))
    known = await results.find("acme", request.id)
    assert known is not None
    assert known.result is not None
    assert getattr(known.result, "output_text", None) == "first"


async def test_what_is_no_result_is_refused(results: Results) -> None:
    with pytest.raises(UndecodableMessage):
        await results.heard(make.accepted())


async def test_memory_is_bounded(results: Results, pool: FakePool) -> None:
    for _ in range(50):
        request = make.request()
        results.admitted(request)
        await results.heard(make.completed(request))
    sizes = [len(value) for value in vars(results).values() if hasattr(value, "__len__")]
    assert max(sizes) == 3


async def test_a_result_that_memory_forgot_is_read_from_its_row(results: Results, pool: FakePool) -> None:
    request = make.request()
    results.admitted(request)
    event = make.completed(request)
    await results.heard(event)
    for _ in range(3):
        await results.heard(make.completed())
    pool.rows = [{"digest": "d1", "replay": 0, "status": "completed", "body": event.model_dump_json(exclude={"key"})}]
    known = await results.find("acme", request.id)
    assert known is not None
    assert known.result is not None
    assert known.result.request_id == request.id


async def test_a_result_that_was_never_heard_is_read_from_its_row(results: Results, pool: FakePool) -> None:
    event = make.failed()
    results.admitted(make.request(id=event.request_id))
    pool.rows = [{"digest": "d1", "replay": 0, "status": "failed", "body": event.model_dump_json()}]
    assert await results.find("acme", event.request_id) == Known("d1", event)


async def test_a_request_without_a_result_is_known_by_its_digest(results: Results, pool: FakePool) -> None:
    request = make.request()
    assert await results.find("acme", request.id) is None
    results.admitted(request)
    assert await results.find("acme", request.id) == Known("d1", None, confirmed=False)
    results.admitted(request, confirmed=True)
    assert await results.find("acme", request.id) == Known("d1", None)
    pool.error = ConnectionRefusedError()
    assert await results.find("acme", request.id) == Known("d1", None)


async def test_nothing_of_one_tenant_is_known_to_another(results: Results, pool: FakePool) -> None:
    request = make.request(tenant="acme")
    results.admitted(request)
    assert await results.find("other", request.id) is None
    await results.heard(make.completed(request))
    assert await results.find("other", request.id) is None


async def test_the_row_is_asked_for_with_the_tenant(results: Results, pool: FakePool) -> None:
    request_id = make.new_id()
    await results.find("other", request_id)
    assert pool.asked == [(request_id, "other")]


async def test_what_memory_does_not_know_while_the_database_is_away_is_unavailable(
    results: Results, pool: FakePool
) -> None:
    pool.error = ConnectionRefusedError("refused")
    with pytest.raises(DatabaseUnavailable):
        await results.find("acme", make.new_id())


async def test_who_follows_is_told_each_result_once(pool: FakePool) -> None:
    told: list[Result] = []
    results = Results(pool.as_pool, keep=3, follow=told.append)
    event = make.completed()
    await results.heard(event)
    await results.heard(event)
    assert [each.request_id for each in told] == [event.request_id]
    assert results.finished(event.request_id)


async def test_the_answer_may_come_before_anybody_awaits_it(results: Results) -> None:
    request = make.request()
    with results.waiter(request.id) as waiter:
        await results.heard(make.completed(request))
        async with asyncio.timeout(1):
            assert (await waiter).request_id == request.id


async def test_a_result_heard_elsewhere_is_compared_with_the_row(results: Results, pool: FakePool) -> None:
    event = make.failed()
    await results.heard(event)
    pool.rows = [{"digest": "d9", "replay": 0, "status": None, "body": None}]
    assert await results.find("acme", event.request_id, with_digest=True) == Known("d9", event)


def row(status: str | None = None, body: str | None = None, replay: int = 0) -> dict[str, object]:
    return {"digest": "d1", "replay": replay, "status": status, "body": body}


async def test_a_failed_request_that_is_replayed_has_no_result_until_it_has_another(
    results: Results, pool: FakePool
) -> None:
    request = make.request()
    again = request.model_copy(update={"replay": 1})
    await results.heard(make.failed(request))
    pool.rows = [row(replay=1)]
    assert await results.find("acme", request.id) == Known("d1", None)
    await results.heard(make.failed(request))  # once more, and an answer that comes too late
    await results.heard(make.completed(request))
    assert await results.find("acme", request.id) == Known("d1", None)
    with results.waiter(request.id) as waiter:
        assert not waiter.done()
        await results.heard(make.completed(again, output_text="at last"))
        assert waiter.result().replay == 1
    pool.error = ConnectionRefusedError()
    known = await results.find("acme", request.id)
    assert known is not None
    assert getattr(known.result, "output_text", None) == "at last"


async def test_the_row_of_a_later_run_counts_where_memory_has_an_earlier_one(results: Results, pool: FakePool) -> None:
    request = make.request()
    await results.heard(make.failed(request))
    answer = make.completed(request, replay=2, key=None)
    pool.rows = [row("completed", answer.model_dump_json(), replay=2)]
    assert await results.find("acme", request.id) == Known("d1", answer)


async def test_a_replay_that_fails_too_is_the_result(results: Results, pool: FakePool) -> None:
    request = make.request()
    await results.heard(make.failed(request))
    second = make.failed(request, replay=1, code="provider_auth")
    await results.heard(second)
    pool.rows = [row(replay=1)]  # its result is not written yet
    assert await results.find("acme", request.id) == Known("d1", second)


async def test_a_failure_is_told_from_memory_where_no_row_is_there_or_to_be_read(
    results: Results, pool: FakePool
) -> None:
    request = make.request()
    results.admitted(request, confirmed=True)
    failure = make.failed(request)
    await results.heard(failure)
    assert await results.find("acme", request.id, with_digest=True) == Known("d1", failure)
    pool.error = ConnectionRefusedError()
    assert await results.find("acme", request.id) == Known("d1", failure)


async def test_an_answer_needs_no_row(results: Results, pool: FakePool) -> None:
    event = make.completed()
    await results.heard(event)
    await results.find("acme", event.request_id)
    assert pool.asked == []

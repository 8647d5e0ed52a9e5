"""The writer's own logic, with a pool that only pretends; what PostgreSQL says is asked end to end."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import asyncpg
import pytest

from services.persistence import forgetting, housekeeping
from services.persistence import writer as writing
from services.persistence.housekeeping import EVERY_S
from services.persistence.rows import CACHE_INVALIDATIONS, REQUESTS, RESPONSES, TABLES, Record
from services.persistence.writer import UNSTORABLE, Writer, _without_repeats
from shared.consumer import Again, Dead, Done
from shared.database import DatabaseUnavailable
from shared.events import CacheInvalidate, Event, RequestDropped
from shared.topology import RECORDS, Queue, entries
from tests.support import make
from tests.support.clock import ManualClock
from tests.support.sample import sample

if TYPE_CHECKING:
    from shared.database import Pool

ENTRIES = entries(("light", "premium"))
STATEMENTS = (writing.SQL, forgetting.SQL, housekeeping.SQL)
REQUEST_COLUMNS = 7
NAMES = {text: name for statements in STATEMENTS for name, text in statements.items()}


class FakePool:
    """Keeps what is written once its transaction commits.

    Attributes:
        refuses: whether a row is one PostgreSQL would refuse.
        error: raised instead of connecting.
        full: the tables whose rows have no room on the disk.
        committed: (statement, rows) of each insert that was committed, in order.
        transactions: how many transactions were committed.
        savepoints: how many were set.
    """

    def __init__(self) -> None:
        self.refuses: Callable[[Sequence[Any]], bool] = lambda _: False
        self.error: Exception | None = None
        self.full: Sequence[str] = ()
        self.committed: list[tuple[str, list[tuple[Any, ...]]]] = []
        self.transactions = 0
        self.savepoints = 0
        self._pending: list[tuple[str, list[tuple[Any, ...]]]] = []
        self._depth = 0

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator["FakePool"]:
        if self.error is not None:
            raise self.error
        yield self

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        outermost, before = self._depth == 0, len(self._pending)
        self.savepoints += not outermost
        self._depth += 1
        try:
            yield
        except BaseException:
            del self._pending[before:]
            raise
        finally:
            self._depth -= 1
        if outermost:
            self.transactions += 1
            self.committed.extend(self._pending)
            self._pending.clear()

    async def fetch(self, statement: str, *arguments: Any, timeout: float | None = None) -> list[Any]:
        if statement not in writing.SQL.values():
            await self.execute(statement, *arguments)
            return []
        if NAMES[statement] in self.full:
            raise asyncpg.DiskFullError("could not extend file: No space left on device")
        rows = list(zip(*arguments, strict=True))
        if any(self.refuses(row) for row in rows):
            raise asyncpg.UntranslatableCharacterError("unsupported Unicode escape sequence")
        self._pending.append((NAMES[statement], rows))
        return rows

    async def execute(self, statement: str, *arguments: object) -> None:
        self._pending.append((NAMES[statement], [arguments]))

    async def fetchval(self, statement: str, *arguments: object) -> None:
        await self.execute(statement, *arguments)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """The committed rows of a statement."""
        return [row for name, rows in self.committed if name == statement for row in rows]

    def ids(self, statement: str = "responses") -> list[Any]:
        """The first column of them."""
        return [row[0] for row in self.rows(statement)]


@pytest.fixture
def pool() -> FakePool:
    return FakePool()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def writer(pool: FakePool, clock: ManualClock) -> Writer:
    return Writer(cast("Pool", pool), clock, make.policy(), entries=ENTRIES)


def records(*events: Event) -> list[tuple[Queue, Event]]:
    return [(RECORDS, event) for event in events]


async def test_everything_of_a_tick_is_one_transaction(writer: Writer, pool: FakePool) -> None:
    answer = make.completed()
    batch = [*records(make.accepted(), make.accepted(), answer, make.failed(), make.rejected()), (ENTRIES, answer)]
    assert list(await writer.write(batch)) == [Done()] * 6
    assert (pool.transactions, pool.savepoints) == (1, 0)
    assert [len(pool.rows(name)) for name in ("requests", "responses", "cache_entries")] == [2, 3, 1]


async def test_requests_come_before_responses_and_these_before_entries(writer: Writer, pool: FakePool) -> None:
    answer = make.completed()
    await writer.write([(ENTRIES, answer), *records(answer, make.accepted())])
    written = [name for name, _ in pool.committed if name in ("requests", "responses", "cache_entries")]
    assert written == ["requests", "responses", "cache_entries"]


async def test_the_queue_decides_whether_an_answer_is_recorded_or_cached(writer: Writer, pool: FakePool) -> None:
    await writer.write([(ENTRIES, make.completed())])
    assert pool.ids("responses") == []
    await writer.write(records(make.completed()))
    assert len(pool.ids("cache_entries")) == 1


async def test_rows_are_written_in_the_order_of_their_keys(writer: Writer, pool: FakePool) -> None:
    events = [make.completed() for _ in range(5)]
    await writer.write(records(*reversed(events)))
    assert pool.ids() == [event.request_id for event in events]


async def test_of_a_request_that_ended_twice_the_first_end_is_written(writer: Writer, pool: FakePool) -> None:
    request = make.request()
    outcomes = await writer.write(records(make.completed(request), make.failed(request)))
    assert list(outcomes) == [Done(), Done()]
    assert [row[2] for row in pool.rows("responses")] == ["completed"]


async def test_of_two_runs_the_later_ones_end_is_written(writer: Writer, pool: FakePool) -> None:
    request = make.request()
    again = request.model_copy(update={"replay": 1})
    late = make.completed(request, output_text="too late")
    await writer.write(records(make.failed(again), late, make.completed(again), make.failed(request)))
    assert [(row[2], row[-1]) for row in pool.rows("responses")] == [("failed", 1)]
    await writer.write(records(make.accepted(request), make.accepted(again), make.accepted(request)))
    assert [row[-1] for row in pool.rows("requests")] == [1]


def test_repeats_are_left_out_and_the_rest_is_in_order() -> None:
    ids = [make.new_id() for _ in range(3)]
    runs = [(ids[2], 1), (ids[0], 0), (ids[2], 1), (ids[1], 0), (ids[0], 0), (ids[1], 1)]
    items = [(place, Record(RESPONSES, row)) for place, row in enumerate(runs)]
    assert _without_repeats(RESPONSES, items) == [items[1], items[5], items[0]]


@pytest.mark.parametrize("size", [1, 2, 3, 8, 33])
@pytest.mark.parametrize("place", [0, -1])
async def test_a_row_that_is_refused_is_found_and_its_neighbours_are_written(
    writer: Writer, pool: FakePool, size: int, place: int
) -> None:
    events = [make.completed() for _ in range(size)]
    poison = events[place]
    pool.refuses = lambda row: row[0] == poison.request_id
    outcomes = await writer.write(records(*events))
    for event, outcome in zip(events, outcomes, strict=True):
        if event is poison:
            assert isinstance(outcome, Dead)
            assert outcome.code == UNSTORABLE
            assert "unsupported Unicode" in outcome.reason
        else:
            assert outcome == Done()
    assert pool.ids() == [event.request_id for event in events if event is not poison]
    assert pool.transactions == 1


async def test_several_that_are_refused_are_all_found(writer: Writer, pool: FakePool) -> None:
    events = [make.completed() for _ in range(10)]
    poison = {event.request_id for event in events[::3]}
    pool.refuses = lambda row: row[0] in poison
    outcomes = await writer.write(records(*events))
    assert [isinstance(outcome, Dead) for outcome in outcomes] == [event.request_id in poison for event in events]
    assert set(pool.ids()) == {event.request_id for event in events} - poison


async def test_an_event_that_makes_no_row_is_refused_while_the_others_are_written(
    writer: Writer, pool: FakePool
) -> None:
    broken = make.completed(key=make.key(embedding="x"))
    batch = [(ENTRIES, broken), (ENTRIES, make.completed(key=make.key(exact=make.new_id())))]
    outcomes = await writer.write(batch)
    assert isinstance(outcomes[0], Dead)
    assert outcomes[0].code == UNSTORABLE
    assert outcomes[1] == Done()
    assert len(pool.ids("cache_entries")) == 1


async def test_an_event_that_leaves_no_trace_is_done(writer: Writer, pool: FakePool) -> None:
    assert list(await writer.write(records(make.missed()))) == [Done()]


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError("refused"),
        TimeoutError(),
        asyncpg.AdminShutdownError("terminating"),
        asyncpg.CannotConnectNowError("starting up"),
        asyncpg.TooManyConnectionsError("full"),
        asyncpg.ConnectionDoesNotExistError("gone"),
        asyncpg.InterfaceError("closing"),
        asyncpg.DiskFullError("could not extend file: No space left on device"),
        asyncpg.DeadlockDetectedError("deadlock detected"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_while_the_database_is_away_nothing_is_written_and_it_says_so(
    writer: Writer, pool: FakePool, error: Exception
) -> None:
    pool.error = error
    with pytest.raises(DatabaseUnavailable):
        await writer.write(records(make.completed()))
    pool.error = None
    assert list(await writer.write(records(make.completed()))) == [Done()]


@pytest.mark.parametrize("tables", [("requests",), ("responses",), ("requests", "responses")])
async def test_where_a_disk_is_full_no_row_is_blamed_and_all_are_written_once_there_is_room(
    writer: Writer, pool: FakePool, tables: Sequence[str]
) -> None:
    batch = records(make.accepted(), make.completed(), make.completed())
    pool.full = tables
    for _ in range(3):
        with pytest.raises(DatabaseUnavailable, match="No space left"):
            await writer.write(batch)
    assert pool.committed == []
    pool.full = ()
    assert list(await writer.write(batch)) == [Done()] * 3
    assert [len(pool.rows(name)) for name in ("requests", "responses")] == [1, 2]


async def test_a_poison_row_on_a_full_disk_waits_with_the_others(writer: Writer, pool: FakePool) -> None:
    events = [make.accepted(), *(make.completed() for _ in range(4))]
    pool.refuses = lambda row: row[0] == events[2].subject
    pool.full = ("requests",)
    with pytest.raises(DatabaseUnavailable):
        await writer.write(records(*events))
    pool.full = ()
    outcomes = await writer.write(records(*events))
    assert [type(outcome) for outcome in outcomes] == [Done, Done, Dead, Done, Done]


async def test_partitions_are_made_before_the_first_row_and_then_once_a_minute(
    writer: Writer, pool: FakePool, clock: ManualClock
) -> None:
    for _ in range(3):
        await writer.write(records(make.completed()))
    assert len(pool.rows("partitions")) == 1
    clock.skip(EVERY_S)
    await writer.write(records(make.completed()))
    assert len(pool.rows("partitions")) == 2
    assert pool.transactions == 4


async def test_every_tick_makes_room_for_what_it_adds(writer: Writer, pool: FakePool, clock: ManualClock) -> None:
    await writer.write(records(make.completed()))
    assert [row[0] for row in pool.rows("expire")] == [clock.now()]


async def test_when_the_first_of_two_ends_is_refused_the_other_is_written(writer: Writer, pool: FakePool) -> None:
    request = make.request()
    pool.refuses = lambda row: row[2] == "completed"
    outcomes = await writer.write(records(make.completed(request), make.failed(request)))
    assert isinstance(outcomes[0], Dead)
    assert isinstance(outcomes[1], Again)  # it comes again, alone
    assert list(await writer.write(records(make.failed(request)))) == [Done()]
    assert pool.ids() == [request.id]


async def test_housekeeping_that_was_not_committed_is_done_again(
    writer: Writer, pool: FakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise asyncpg.ConnectionDoesNotExistError("gone")

    with monkeypatch.context() as patched:
        patched.setattr(pool, "execute", away)
        with pytest.raises(DatabaseUnavailable):
            await writer.write(records(make.completed()))
    await writer.write(records(make.completed()))
    assert len(pool.rows("partitions")) == 1


async def test_what_was_new_is_counted_once_per_entry(writer: Writer, pool: FakePool) -> None:
    leader = make.new_id()
    answers = [make.completed(source="coalesced", leader_id=leader, saved_usd=0.25) for _ in range(3)]
    pool.refuses = lambda row: row[0] == answers[0].request_id
    await writer.write(records(*answers, answers[1]))
    assert pool.rows("cache_uses") == [(leader, 2, 0, 0, 0.5, answers[0].completed_at)]


async def test_who_must_be_alone_or_not_disturb_takes_a_lock_before_anything_else(
    writer: Writer, pool: FakePool
) -> None:
    for batch, lock in (
        ([(ENTRIES, make.completed())], "together"),
        (records(make.completed()), "together"),
        ([(RECORDS, sample(CacheInvalidate)), (ENTRIES, make.completed())], "alone"),
        (records(make.completed(), sample(RequestDropped)), "alone"),
        (records(make.accepted()), None),
    ):
        pool.committed.clear()
        await writer.write(batch)
        names = [name for name, _ in pool.committed]
        assert [name for name in names if name in ("together", "alone")] == ([lock] if lock else [])
        assert lock in (None, names[0])


async def test_what_is_counted_comes_after_every_row_somebody_may_wait_for(writer: Writer, pool: FakePool) -> None:
    answer = make.completed(source="coalesced", leader_id=make.new_id())
    await writer.write([*records(answer, sample(CacheInvalidate)), (ENTRIES, make.completed())])
    written = [name for name, _ in pool.committed]
    after = written[written.index("cache_uses") + 1 :]
    assert not {"forget", "turn_back", *(table.name for table in TABLES)} & set(after)


async def test_each_selector_is_carried_out_once_up_to_its_latest_time(writer: Writer, pool: FakePool) -> None:
    first = sample(CacheInvalidate)
    at = first.invalidated_at + timedelta(seconds=1)
    await writer.write(records(first, sample(CacheInvalidate, invalidation_id=make.new_id(), invalidated_at=at)))
    assert len(pool.rows(CACHE_INVALIDATIONS.name)) == 2
    ((_, until),) = pool.rows("forget")
    assert until == at


async def test_a_tick_that_brings_no_rows_needs_no_transaction_once_the_housekeeping_is_done(
    writer: Writer, pool: FakePool, clock: ManualClock
) -> None:
    for _ in range(3):
        assert list(await writer.write(records(make.missed()))) == [Done()]
    assert pool.transactions == 1
    clock.skip(EVERY_S)
    await writer.write(records(make.missed()))
    assert pool.transactions == 2


async def test_poison_in_several_tables_is_found_in_one_tick_among_five_hundred(writer: Writer, pool: FakePool) -> None:
    requests = [make.request() for _ in range(250)]
    events = [event for request in requests for event in (make.accepted(request), make.completed(request))]
    asked, answered = requests[125].id, {requests[0].id, requests[124].id, requests[249].id}
    pool.refuses = lambda row: row[0] == asked if len(row) == REQUEST_COLUMNS else row[0] in answered
    outcomes = await writer.write(records(*events))
    dead = [event for event, outcome in zip(events, outcomes, strict=True) if isinstance(outcome, Dead)]
    assert {(type(event).__name__, event.subject) for event in dead} == {
        ("RequestAccepted", asked),
        *(("ResponseCompleted", request_id) for request_id in answered),
    }
    assert pool.transactions == 1
    assert pool.ids("requests") == [request.id for request in requests if request.id != asked]
    assert pool.ids() == [request.id for request in requests if request.id not in answered]


async def test_the_housekeeping_needs_no_rows(writer: Writer, pool: FakePool) -> None:
    await writer.write([])
    done = {name for name, _ in pool.committed}
    assert {"partitions", "expire", "sweep", "old_audits", "old_invalidations", "evicting"} <= done
    assert pool.rows(REQUESTS.name) == []

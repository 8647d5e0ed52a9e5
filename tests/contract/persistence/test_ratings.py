"""Ratings in a real PostgreSQL: a tenant's last word on a request, however often and in whatever order it comes."""

from datetime import UTC, datetime, timedelta
from itertools import permutations
from uuid import UUID

import pytest

from services.persistence.housekeeping import EVERY_S, KEEP_RATINGS
from services.router.learning import feedback
from services.router.learning.rows import Rating
from shared.consumer import Dead, Done
from shared.events import Cascaded, RequestRated
from tests.contract.persistence.conftest import Database, Persistence
from tests.contract.persistence.test_bounds import Make
from tests.support import make
from tests.support.clock import START, ManualClock
from tests.support.sample import sample

REQUEST = make.new_id()
CASCADE = Cascaded(first=("light",), verdict="agreed", calls=2, cost_usd=0.1)


def rated(quality: float, after_s: float = 0, **changes: object) -> RequestRated:
    fields = {"rating_id": make.new_id(), "request_id": REQUEST, "rated_at": START + timedelta(seconds=after_s)}
    return sample(RequestRated, quality=quality, **fields | changes)


async def qualities(db: Database, request_id: UUID = REQUEST) -> dict[str, float]:
    rows = await db.all("SELECT tenant, quality FROM ratings WHERE request_id = $1", request_id)
    return {row["tenant"]: row["quality"] for row in rows}


async def test_it_is_stored_with_all_it_says(writer: Persistence, db: Database) -> None:
    event = rated(0.8)
    assert list(await writer.records(event)) == [Done()]
    (row,) = await db.all("SELECT * FROM ratings")
    assert dict(row) == event.model_dump()


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "one by one"])
async def test_the_last_word_counts_in_whatever_order_they_come(
    writer: Persistence, db: Database, together: bool
) -> None:
    for order in permutations([0.1, 0.5, 0.9]):
        await db.all("DELETE FROM ratings")
        events = [rated(quality, after_s=quality) for quality in order]
        for batch in [events] if together else [[event] for event in events]:
            await writer.records(*batch)
        assert await qualities(db) == {"acme": 0.9}


async def test_a_redelivery_changes_nothing(writer: Persistence, db: Database) -> None:
    first, last = rated(0.1), rated(0.9, after_s=60)
    for event in (first, last, first, last):
        await writer.records(event)
    assert await qualities(db) == {"acme": 0.9}


async def test_another_tenant_takes_nothing_away(writer: Persistence, db: Database) -> None:
    await writer.records(rated(0.9), rated(0.0, after_s=60, tenant="globex"))
    assert await qualities(db) == {"acme": 0.9, "globex": 0.0}


async def test_one_from_the_future_is_of_now_and_not_the_last_for_ever(writer: Persistence, db: Database) -> None:
    await writer.records(rated(0.1, rated_at=datetime.now(UTC) + timedelta(days=1000)))
    assert await db.one("SELECT rated_at <= now() FROM ratings")
    stored = await db.one("SELECT rated_at FROM ratings")
    await writer.records(rated(0.9, rated_at=stored + timedelta(microseconds=1)))
    assert await qualities(db) == {"acme": 0.9}


async def test_one_that_cannot_be_stored_harms_itself_alone(writer: Persistence, db: Database) -> None:
    bad = rated(0.5).model_copy(update={"quality": 7.0, "request_id": make.new_id()})
    outcomes = await writer.records(bad, rated(0.9))
    assert [type(outcome) for outcome in outcomes] == [Dead, Done]
    assert await qualities(db) == {"acme": 0.9}


async def test_after_a_year_it_goes(another: Make, db: Database) -> None:
    clock = ManualClock()
    writer = await another(clock=clock)
    old, young = (
        rated(0.5, request_id=make.new_id(), rated_at=START - KEEP_RATINGS + age)
        for age in (timedelta(0), timedelta(days=1))
    )
    await writer.records(old, young)
    clock.skip(EVERY_S)
    await writer.records()
    assert [row["request_id"] for row in await db.all("SELECT request_id FROM ratings")] == [young.request_id]


async def test_what_was_rated_is_read_with_what_was_asked_and_where_it_ran(writer: Persistence, db: Database) -> None:
    asked = [make.request(prompt) for prompt in ("one", "two", "hit", "queued", "fell back", "tried", "other's")]
    one, two, hit, queued, fallen, tried, foreign = asked
    turns = [{"role": "user", "content": "earlier"}, {"role": "user", "content": "last"}]
    spoken = make.request(input=turns)
    drawn = make.route("premium", chance=0.25)
    answers = [
        make.completed(one, route=make.route()),
        make.completed(two, source="premium", tier="premium", route=drawn),
        make.completed(hit, source="cache"),
        make.completed(fallen, source="premium", tier="premium", route=make.route("light", chance=0.9)),
        make.completed(tried, route=make.route("light", chance=0.9), cascade=CASCADE),
        make.completed(foreign),
        make.completed(spoken, route=None),
    ]
    await writer.records(*map(make.accepted, [*asked, spoken]), *answers)
    await writer.records(
        *(rated(0.1 * n, n, request_id=request.id) for n, request in enumerate([one, two, hit, queued, spoken])),
        *(rated(1.0, request_id=request.id) for request in (fallen, tried)),
        rated(1.0, request_id=foreign.id, tenant="globex"),
        rated(1.0, request_id=make.new_id()),
    )
    until = START + timedelta(minutes=1)
    found = await feedback.rated(db.pool, START, until, tenant=None, limit=10)
    assert found == [
        Rating(prompt="last", good=0.4, tier="light"),
        Rating(prompt="two", good=0.1, tier="premium", chance=0.25),
        Rating(prompt="one", good=0.0, tier="light"),
    ]
    assert await feedback.rated(db.pool, START, until, tenant="acme", limit=1) == found[:1]
    assert await feedback.rated(db.pool, START, START + timedelta(seconds=1), tenant="acme", limit=9) == found[2:]
    assert await feedback.rated(db.pool, START, until, tenant="globex", limit=9) == []

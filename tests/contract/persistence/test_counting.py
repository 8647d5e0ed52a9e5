"""What the writer's statements mean to PostgreSQL: rows once, counts once, nothing lost over what can't be stored."""

import asyncio
import json
from datetime import timedelta
from typing import Any

from shared.consumer import Dead, Done
from shared.events import CacheAudited, CacheFilled, CacheHit, ResponseCompleted
from shared.vectors import encode_vector
from tests.contract.persistence.conftest import Database, Persistence
from tests.support import make
from tests.support.clock import START
from tests.support.sample import sample


def hit(entry_id: object, **changes: Any) -> ResponseCompleted:
    """An answer of the cache."""
    found = {"entry_id": entry_id, "similarity": 1, "match": "exact", "stored_at": START, "expires_at": START}
    fields: dict[str, Any] = {
        "source": "cache",
        "hit": CacheHit.model_validate(found),
        "saved_usd": 0.25,
        "cost_usd": 0.0,
    }
    return make.completed(**fields | changes)


def coalesced(leader_id: object) -> ResponseCompleted:
    """The answer of a leader, for one who waited."""
    return make.completed(source="coalesced", leader_id=leader_id, saved_usd=0.25, cost_usd=0.0)


def audited(entry_id: object, *, same: bool = True) -> CacheAudited:
    """A finding about an entry."""
    return sample(CacheAudited, audit_id=make.new_id(), entry_id=entry_id, same=same)


async def test_hits_are_counted_once_however_often_they_are_told(writer: Persistence, db: Database) -> None:
    entry_id = make.new_id()
    later = START + timedelta(hours=1)
    told = [hit(entry_id, completed_at=later), hit(entry_id), coalesced(entry_id)]
    for _ in range(2):
        await writer.records(*told, told[0])
    uses = await db.uses(entry_id)
    assert uses is not None
    assert (uses["hits"], uses["saved_usd"], uses["last_hit_at"]) == (3, 0.75, later)
    assert (uses["good"], uses["bad"]) == (0, 0)
    assert await db.one("SELECT count(*) FROM responses WHERE answer_of = $1", entry_id) == 3


async def test_a_second_end_of_a_request_counts_nothing(writer: Persistence, db: Database) -> None:
    entry_id, request = make.new_id(), make.request()
    await writer.records(make.failed(request))
    assert list(await writer.records(hit(entry_id, request_id=request.id))) == [Done()]
    assert await db.uses(entry_id) is None


async def test_audits_are_kept_and_counted_once(writer: Persistence, db: Database) -> None:
    entry_id = make.new_id()
    found = [audited(entry_id), audited(entry_id), audited(entry_id, same=False)]
    for _ in range(2):
        await writer.records(*found)
    uses = await db.uses(entry_id)
    assert uses is not None
    assert (uses["good"], uses["bad"], uses["hits"], uses["last_hit_at"]) == (2, 1, 0, None)
    rows = await db.all("SELECT * FROM cache_audits ORDER BY audit_id")
    assert [row["audit_id"] for row in rows] == [audit.audit_id for audit in found]
    assert json.loads(rows[0]["evidence"])["similarity"] == found[0].evidence.similarity


async def test_two_writers_count_for_the_same_entries_without_a_deadlock(another: Any, db: Database) -> None:
    writers = [await another(), await another()]
    entry_ids = [make.new_id() for _ in range(20)]
    batches = [
        [event for entry_id in order for event in (hit(entry_id), audited(entry_id))]
        for order in (entry_ids, entry_ids[::-1]) * 5
    ]
    told = [*batches, *batches]  # each by both
    await asyncio.gather(
        *(_in_turn(writer, told[place::2]) for place, writer in enumerate(writers)),
        *(_in_turn(writer, []) for writer in writers),
    )
    counted = await db.all("SELECT hits, good FROM cache_uses")
    assert [tuple(row) for row in counted] == [(10, 10)] * 20


async def _in_turn(writer: Persistence, batches: list[list[Any]]) -> None:
    for batch in batches:
        await writer.records(*batch)


async def test_an_answer_with_a_nul_is_stored_with_a_replacement(writer: Persistence, db: Database) -> None:
    answer = make.completed(output_text="a\x00b \\u0000", model="m\x00", metadata={"k\x00": "v\x00"})
    assert list(await writer.records(answer)) == [Done()]
    assert list(await writer.entries(answer)) == [Done()]
    body = json.loads(await db.one("SELECT body FROM responses"))
    assert (body["output_text"], body["metadata"]) == ("a\ufffdb \\u0000", {"k\ufffd": "v\ufffd"})
    (entry,) = await db.all("SELECT answer, model FROM cache_entries")
    assert tuple(entry) == ("a\ufffdb \\u0000", "m\ufffd")


async def test_a_row_that_cannot_be_stored_dies_alone(writer: Persistence, db: Database) -> None:
    endless = make.key(exact=make.new_id(), embedding=encode_vector((float("inf"), 0.0)))
    good = [make.completed(key=make.key(exact=make.new_id())) for _ in range(5)]
    outcomes = await writer.entries(*good[:2], make.completed(key=endless), *good[2:])
    assert [type(outcome) for outcome in outcomes] == [Done, Done, Dead, Done, Done, Done]
    assert await db.count("cache_entries") == 5


async def test_a_newer_answer_takes_the_place_of_an_older_one_whoever_bought_it(
    writer: Persistence, db: Database
) -> None:
    older = make.completed()
    assert older.key is not None
    newer = sample(
        CacheFilled, key=older.key, completed_at=START + timedelta(seconds=1), tenant="other", output_text="new"
    )
    await writer.entries(newer)
    await writer.entries(older)
    await writer.entries(newer, older)
    (entry,) = await db.all("SELECT entry_id, tenant, answer, stored_at FROM cache_entries")
    assert tuple(entry) == (newer.entry_id, "other", "new", newer.completed_at)

"""Calls nobody waits for: when one is asked for, how many, and what its answer means."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from services.cache.learning import shadows
from services.cache.learning.shadows import REFRESH_AGAIN_S, REFRESHED_S
from services.cache.lookup import Entry
from shared.events import (
    CacheAudited,
    CacheControl,
    CacheFilled,
    Event,
    Freshness,
    Priority,
    ReplyAddress,
    Request,
    RequestAccepted,
    RequestMissed,
    ResponseCompleted,
    ShadowCompleted,
    ShadowRequested,
    Usage,
)
from shared.vectors import decode_vector
from tests.support import make
from tests.support.clock import START, ManualClock
from tests.support.pool import FakePool
from tests.support.replica import PROMPT, Decision, Replica, entry, near, vector

SAMPLED = Decision(audit=True, audit_probability=0.25)


def audited(replica: Replica, **changes: Any) -> Replica:
    """A replica that finds a near entry, and draws each hit for an audit."""
    replica.learned.decision = SAMPLED
    replica.lookup.nearest = [near(**changes)]
    return replica


def stale(**changes: Any) -> Entry:
    """An entry that expired a minute ago, of a category whose answers may be served stale for a while."""
    at = START - timedelta(minutes=1)
    times = {"stored_at": START - timedelta(hours=1), "expires_at": at, "keep_until": START + timedelta(days=1)}
    return entry(**{"category": "slow"} | times | changes)


def shadow(events: Sequence[Event]) -> ShadowRequested:
    (found,) = [event for event in events if isinstance(event, ShadowRequested)]
    return found


def answer(of: ShadowRequested, text: str = "Paris.", **changes: Any) -> ShadowCompleted:
    """What inference makes of it."""
    fields = {
        "shadow": of,
        "output_text": text,
        "model": "local/newer",
        "usage": Usage(input_tokens=1, output_tokens=1),
        "cost_usd": 0.125,
        "completed_at": START + timedelta(seconds=5),
    }
    return ShadowCompleted.model_validate(fields | changes)


# Audits


async def test_a_hit_that_is_drawn_is_also_run_for_nobody_and_in_no_hurry() -> None:
    replica = audited(Replica())
    request = make.request(
        reply=ReplyAddress(queue="q"), deadline=START + timedelta(hours=1), cache_control={"max_age_s": 100}
    )
    served, asked = await replica.ask(request)
    assert isinstance(served, ResponseCompleted)
    assert isinstance(asked, ShadowRequested)
    assert served.hit is not None
    assert (asked.purpose, asked.expected, asked.tier, asked.sampled) == ("audit", "Paris.", "light", 0.25)
    assert (asked.hit, asked.key) == (served.hit, replica.handler.key(request))
    assert asked.evidence is not None
    assert asked.evidence.similarity == 0.97
    assert asked.freshness == Freshness(category="static", ttl_s=7 * 86_400, reason="nothing changes")
    own = asked.request
    assert (own.input, own.tenant, own.metadata) == (request.input, request.tenant, request.metadata)
    assert (own.priority, own.reply, own.deadline, own.cache_control) == (Priority.BULK, None, None, CacheControl())


async def test_a_hit_that_is_not_drawn_is_not_run() -> None:
    replica = Replica()
    replica.lookup.nearest = [near()]
    assert len(await replica.ask(make.request())) == 1


async def test_the_same_prompt_is_never_audited() -> None:
    replica = audited(Replica())
    replica.lookup.exact = entry()
    assert len(await replica.ask(make.request())) == 1


async def test_a_shadow_has_an_id_that_follows_from_the_request_and_its_purpose() -> None:
    request = make.request()
    asked = [shadow(await audited(Replica()).ask(each)) for each in (request, request, make.request())]
    first, again, other = (each.request.id for each in asked)
    assert first == again
    assert len({first, other, request.id}) == 3
    assert first.int >> 80 == request.id.int >> 80
    replica = Replica()
    replica.lookup.nearest = [near(category="slow", expires_at=START, keep_until=START + timedelta(days=1))]
    assert shadow(await replica.ask(request)).request.id != first


async def test_a_hit_for_no_store_is_not_audited_because_that_answer_would_be_kept() -> None:
    replica = audited(Replica())
    (event,) = await replica.ask(make.request(cache_control={"no_store": True}))
    assert isinstance(event, ResponseCompleted)


async def test_audits_can_be_switched_off() -> None:
    assert len(await audited(Replica(audit={"enabled": False})).ask(make.request())) == 1


async def test_no_more_audits_are_asked_for_than_the_hourly_budget_allows() -> None:
    replica = audited(Replica(audit={"max_per_hour": 3}))
    for number in range(10):
        await replica.ask(make.request(str(number)))
    assert len(replica.shadowed()) == 3
    replica.clock.skip(3600)
    replica.lookup.nearest = [near(keep_until=START + timedelta(days=1), expires_at=START + timedelta(days=1))]
    await replica.ask(make.request("an hour later"))
    assert len(replica.shadowed()) == 4


async def test_the_budget_holds_before_any_of_its_calls_was_heard_of() -> None:
    replica = audited(Replica(audit={"max_per_hour": 2}))
    asked = [await replica.handler.accepted(RequestAccepted(request=make.request(str(n)))) for n in range(5)]
    assert sum(isinstance(event, ShadowRequested) for events in asked for event in events) == 2


async def test_the_budget_is_that_of_all_replicas_together() -> None:
    here, there = audited(Replica(audit={"max_per_hour": 2})), audited(Replica(audit={"max_per_hour": 2}))
    for number in range(2):
        await here.hear(*(await there.ask(make.request(str(number)))))
    assert len(await here.ask(make.request("one too many"))) == 1


async def test_a_replica_that_starts_counts_the_audits_on_record_each_once() -> None:
    replica = audited(Replica(audit={"max_per_hour": 3}), expires_at=START + timedelta(days=1))
    asked = shadow(await replica.ask(make.request("here")))
    recorded = [
        {"audit_id": asked.request.id, "audited_at": START},
        {"audit_id": make.new_id(), "audited_at": START - timedelta(minutes=50)},
    ]
    pool = FakePool(*recorded)
    assert await replica.shadows.recall(pool.as_pool)
    assert await replica.shadows.recall(pool.as_pool)
    assert pool.asked[0] == (START - timedelta(hours=1),)
    for number in range(3):
        await replica.ask(make.request(str(number)))
    assert len(replica.shadowed()) == 2  # and with the one on record three
    replica.clock.skip(600)
    await replica.ask(make.request("an hour after that"))
    assert len(replica.shadowed()) == 3


async def test_audits_that_cannot_be_read_are_counted_another_time() -> None:
    pool = FakePool()
    pool.error = OSError("away")
    assert not await Replica().shadows.recall(pool.as_pool)


async def test_what_is_delivered_twice_counts_once() -> None:
    replica = audited(Replica(audit={"max_per_hour": 2}))
    request = make.request()
    asked = shadow(await replica.ask(request))
    await replica.hear(asked, asked)
    assert shadow(await replica.ask(request)) == asked
    assert len(await replica.ask(make.request("another"))) == 2


# Refreshes


async def test_a_stale_entry_is_served_and_bought_anew_once() -> None:
    replica = Replica()
    found = stale()
    replica.lookup.exact = found
    events = await replica.ask(make.request())
    assert isinstance(events[0], ResponseCompleted)
    assert events[0].output_text == "Paris."
    asked = shadow(events)
    assert (asked.purpose, asked.hit.entry_id, asked.evidence, asked.sampled) == ("refresh", found.entry_id, None, 1.0)
    for _ in range(5):
        assert len(await replica.ask(make.request())) == 1


@pytest.mark.parametrize(("category", "ttl_s"), [("static", 7 * 86_400), ("of an earlier policy", 60 * 60)])
async def test_a_refreshed_answer_is_kept_as_long_as_its_category_says_though_a_caller_shortened_the_old_ones_time(
    category: str, ttl_s: int
) -> None:
    replica = Replica()
    stored, popular = START - timedelta(minutes=59), 9  # it is asked for before it expires
    expires = stored + timedelta(hours=1)
    replica.lookup.exact = stale(
        category=category, reason="task: 'translate'", stored_at=stored, expires_at=expires, hits=popular
    )
    asked = shadow(await replica.ask(make.request()))
    assert asked.freshness == Freshness(category=category, ttl_s=ttl_s, reason="task: 'translate'")


async def test_two_replicas_refresh_an_entry_once_when_they_heard_of_each_other() -> None:
    clock = ManualClock()
    here, there = Replica(clock=clock), Replica(clock=clock)
    here.lookup.exact = there.lookup.exact = stale()
    await there.hear(*(await here.ask(make.request())))
    assert len(await there.ask(make.request())) == 1
    clock.skip(REFRESH_AGAIN_S)
    await here.hear(*(await there.ask(make.request())))  # nothing came of it: it is asked for again
    assert (len(here.shadowed()), len(there.shadowed())) == (1, 1)
    assert len(await here.ask(make.request())) == 1


async def test_a_near_hit_on_a_stale_entry_refreshes_the_entrys_own_prompt() -> None:
    replica = Replica({PROMPT: 0.3, "Capital of France": 0.2})
    found = stale(prompt="Capital of France", similarity=0.97, match="semantic")
    replica.lookup.nearest = [found]
    request = make.request(input=({"role": "user", "content": "Hi."}, {"role": "user", "content": PROMPT}))
    asked = shadow(await replica.ask(request))
    assert (asked.request.prompt, asked.request.earlier) == ("Capital of France", request.earlier)
    own = replica.handler.key(request)
    assert (asked.key.exact, asked.key.prompt, asked.key.scope) == (found.exact, found.prompt, own.scope)
    (filled,) = await replica.shadows.completed(answer(asked))
    assert isinstance(filled, CacheFilled)
    assert filled.key.embedding is not None
    assert decode_vector(filled.key.embedding) == pytest.approx(vector(0.2), abs=1e-3)
    plain = shadow(await _refreshed(Replica(), found, make.request(PROMPT)))
    assert plain.request.input == "Capital of France"


async def _refreshed(replica: Replica, found: Entry, request: Request) -> Sequence[Event]:
    replica.lookup.nearest = [found]
    return await replica.ask(request)


async def test_a_stale_hit_is_refreshed_and_not_audited_besides() -> None:
    replica = Replica()
    replica.learned.decision = SAMPLED
    replica.lookup.nearest = [stale(similarity=0.97, match="semantic")]
    assert shadow(await replica.ask(make.request())).purpose == "refresh"


@pytest.mark.parametrize(
    ("age_min", "hits", "counted", "asked"),
    [(8, 3, 0, True), (8, 1, 2, True), (8, 2, 0, False), (7, 9, 9, False), (10, 1, 0, True)],
)
async def test_a_popular_entry_is_bought_anew_before_it_is_missed(
    age_min: int, hits: int, counted: int, *, asked: bool
) -> None:
    """It lives for ten minutes; popular is what was hit three times, soon is the last fifth of its life."""
    replica = Replica()
    stored = START - timedelta(minutes=age_min)
    replica.lookup.exact = entry(
        stored_at=stored,
        expires_at=stored + timedelta(minutes=10),
        keep_until=START + timedelta(hours=1),
        category="slow",
        hits=counted,
    )
    for _ in range(hits):
        await replica.ask(make.request())
    assert len(replica.shadowed()) == asked


@pytest.mark.parametrize("match", ["exact", "semantic"])
async def test_where_refreshes_are_switched_off_what_expired_is_not_served(match: str) -> None:
    replica = Replica(refresh={"enabled": False})
    found = stale(similarity=0.97, match=match)
    replica.lookup.exact, replica.lookup.nearest = (found, []) if match == "exact" else (None, [found])
    (event,) = await replica.ask(make.request())
    assert isinstance(event, RequestMissed)


async def test_what_expired_is_served_while_its_refresh_is_under_way_and_not_after_it_brought_nothing() -> None:
    replica = Replica()
    replica.lookup.exact = stale()
    served, _ = await replica.ask(make.request())
    assert isinstance(served, ResponseCompleted)
    replica.clock.skip(REFRESHED_S - 1)
    (still,) = await replica.ask(make.request())
    assert isinstance(still, ResponseCompleted)
    replica.clock.skip(1)
    (event,) = await replica.ask(make.request())
    assert isinstance(event, RequestMissed)
    replica.clock.skip(REFRESH_AGAIN_S - REFRESHED_S)
    await replica.fail(event)
    again = await replica.ask(make.request())
    assert isinstance(again[0], ResponseCompleted)
    assert shadow(again).purpose == "refresh"


async def test_no_more_refreshes_are_asked_for_than_the_hourly_budget_allows() -> None:
    replica = Replica({str(number): 0.6 * number for number in range(5)}, refresh={"max_per_hour": 2})
    for number in range(5):
        replica.lookup.exact = stale(entry_id=make.new_id())
        await replica.ask(make.request(str(number)))
    assert len(replica.shadowed()) == 2
    assert len(replica.answers("cache")) == 2  # the others are bought, because nothing fresh would come


async def test_the_two_budgets_are_apart() -> None:
    replica = Replica(refresh={"max_per_hour": 0})
    replica.lookup.exact = stale()
    assert len(await replica.ask(make.request())) == 1
    replica.lookup.exact = None
    assert shadow(await audited(replica).ask(make.request("near"))).purpose == "audit"


async def test_what_is_remembered_of_entries_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadows, "MOST_REMEMBERED", 3)
    replica = Replica()
    for number in range(10):
        replica.lookup.exact = stale(entry_id=make.new_id())
        await replica.ask(make.request(str(number)))
    assert max(len(memory) for memory in (replica.shadows._refreshing, replica.shadows._counted)) == 3


# What comes back


async def test_the_answer_to_a_refresh_is_an_entry() -> None:
    replica = Replica({PROMPT: 0.3})
    replica.lookup.exact = stale()
    asked = shadow(await replica.ask(make.request()))
    (filled,) = await replica.shadows.completed(answer(asked, "Paris, still."))
    assert isinstance(filled, CacheFilled)
    assert (filled.entry_id, filled.tenant, filled.origin) == (asked.request.id, "acme", "refresh")
    assert (filled.output_text, filled.model, filled.tier, filled.cost_usd) == (
        "Paris, still.",
        "local/newer",
        "light",
        0.125,
    )
    assert filled.completed_at == START + timedelta(seconds=5)
    assert filled.key.embedding is not None  # an exact hit was found without one


async def test_an_entry_that_was_refreshed_is_fresh() -> None:
    replica = Replica()
    request = make.request()
    key = replica.handler.key(request)
    replica.front.put(stale(scope=key.scope, exact=key.exact))
    asked = shadow(await replica.ask(request))
    await replica.hear(*(await replica.shadows.completed(answer(asked, "Paris, still."))))
    replica.clock.skip(5)
    (event,) = await replica.ask(make.request())
    assert isinstance(event, ResponseCompleted)
    assert event.output_text == "Paris, still."


async def test_the_answer_to_an_audit_is_an_entry_of_this_very_prompt_and_a_finding() -> None:
    replica = audited(Replica({PROMPT: 0.3}))
    request = make.request()
    asked = shadow(await replica.ask(request))
    filled, finding = await replica.shadows.completed(answer(asked, "Paris."))
    assert isinstance(filled, CacheFilled)
    assert isinstance(finding, CacheAudited)
    assert (filled.origin, filled.key.prompt, filled.key.exact) == ("audit", PROMPT, replica.handler.key(request).exact)
    assert finding.evidence == asked.evidence
    assert (finding.kind, finding.served, finding.same, finding.agreement) == ("audit", True, True, 1.0)
    assert (finding.entry_id, finding.sampled, finding.scope) == (asked.hit.entry_id, 0.25, asked.key.scope)
    assert (finding.audit_id, finding.request_id) == (asked.request.id, filled.entry_id)


@pytest.mark.parametrize(
    ("text", "angle", "same"),
    [("It is Paris.", 0.2, True), ("Lyon.", np.pi / 2, False), ("Paris. Or so", np.arccos(0.79), False)],
)
async def test_an_audit_compares_what_was_served_with_the_fresh_answer(text: str, angle: float, *, same: bool) -> None:
    replica = audited(Replica({"Paris.": 0.0, text: angle}))
    _, finding = await replica.shadows.completed(answer(shadow(await replica.ask(make.request())), text))
    assert isinstance(finding, CacheAudited)
    assert finding.same == same
    assert finding.agreement == pytest.approx(np.cos(angle), abs=1e-6)


async def test_a_wrong_hit_is_reported(logged: list[dict[str, Any]]) -> None:
    replica = audited(Replica())
    asked = shadow(await replica.ask(make.request()))
    await replica.shadows.completed(answer(asked, "Lyon."))
    (line,) = [line for line in logged if line["event"] == "an audit found a wrong hit"]
    assert line["entry_id"] == str(asked.hit.entry_id)


async def test_an_answer_that_is_delivered_twice_means_the_same_twice() -> None:
    replica = audited(Replica())
    completed = answer(shadow(await replica.ask(make.request())))
    assert await replica.shadows.completed(completed) == await replica.shadows.completed(completed)


async def test_while_the_embedder_is_away_the_answer_is_kept_for_the_same_prompt() -> None:
    replica = Replica(max_prompt_chars=5)
    replica.lookup.exact = stale()
    (filled,) = await replica.shadows.completed(answer(shadow(await replica.ask(make.request()))))
    assert isinstance(filled, CacheFilled)
    assert filled.key.embedding is None

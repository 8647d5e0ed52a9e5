"""Findings: what makes one, what is learned from it, and what a replica that starts reads again."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import asyncpg
import numpy as np
import pytest

from services.cache.learning import audits
from services.cache.learning.audits import COMPARED_AT_ONCE, COMPARED_PER_S, RECALLED, RECALLED_EACH
from shared.events import CacheAudited, Event, Evidence, RequestMissed
from shared.telemetry import metrics
from tests.support import make
from tests.support.clock import START, settled
from tests.support.pool import FakePool
from tests.support.replica import PROMPT, Decision, Replica, near

REFUSED = Decision(serve=False, risk=0.4, reason="too risky")


def finding(**changes: Any) -> CacheAudited:
    fields = {
        "audit_id": make.new_id(),
        "kind": "audit",
        "tenant": "acme",
        "request_id": make.new_id(),
        "scope": make.key().scope,
        "entry_id": make.new_id(),
        "evidence": Evidence(similarity=0.97),
        "served": True,
        "same": True,
        "agreement": 0.95,
        "sampled": 0.25,
        "audited_at": START,
    }
    return CacheAudited.model_validate(fields | changes)


def row(of: CacheAudited) -> dict[str, Any]:
    """A finding as it is on record: the evidence is JSON."""
    return of.model_dump() | {"evidence": of.evidence.model_dump_json()}


async def bought(replica: Replica, text: str = "Paris.") -> list[Event]:
    """A request is missed, and its answer bought; what follows from that."""
    (miss,) = await replica.ask(make.request(PROMPT))
    assert isinstance(miss, RequestMissed)
    return list(await replica.news.heard(make.completed(miss.request, key=miss.key, output_text=text)))


@pytest.fixture
def replica() -> Replica:
    replica = Replica()
    replica.lookup.nearest = [near()]
    replica.learned.decision = REFUSED
    return replica


async def test_a_near_entry_that_was_not_served_is_compared_with_the_answer_that_was_bought(replica: Replica) -> None:
    (found,) = await bought(replica)
    assert isinstance(found, CacheAudited)
    assert (found.kind, found.served, found.same, found.agreement, found.sampled) == ("free", False, True, 1.0, 1.0)
    assert found.entry_id == replica.lookup.nearest[0].entry_id
    assert found.evidence == replica.learned.decided[0]
    (miss,) = replica.misses()
    assert miss.key is not None
    assert (found.audit_id, found.request_id, found.scope) == (miss.request.id, miss.request.id, miss.key.scope)


async def test_other_words_of_another_meaning_are_a_finding_against_the_entry(replica: Replica) -> None:
    replica.embedder.angles |= {"Paris.": 0.0, "Lyon.": np.pi / 2}
    (found,) = await bought(replica, "Lyon.")
    assert isinstance(found, CacheAudited)
    assert not found.same
    assert found.agreement == pytest.approx(0.0, abs=1e-6)


async def test_what_a_guard_advised_against_is_compared_too(replica: Replica) -> None:
    replica.guards.says(PROMPT, reason="content")
    (found,) = await bought(replica)
    assert isinstance(found, CacheAudited)
    assert found.evidence.objected


async def test_what_is_in_quarantine_is_compared_and_so_can_leave_it() -> None:
    replica = Replica(audit={"quarantine": True})
    replica.lookup.nearest = [near()]
    (found,) = await bought(replica)
    assert isinstance(found, CacheAudited)
    assert found.same


async def test_what_is_forbidden_teaches_nothing(replica: Replica) -> None:
    replica.guards.says(PROMPT, reason="numbers")
    assert await bought(replica) == []


async def test_what_was_too_far_to_be_verified_teaches_nothing(replica: Replica) -> None:
    replica.lookup.nearest = [near(similarity=0.5)]
    assert await bought(replica) == []


async def test_of_several_candidates_the_nearest_that_no_guard_forbids_is_compared(replica: Replica) -> None:
    replica.lookup.nearest = [near("a", 0.99), near("b", 0.98), near("c", 0.97)]
    replica.guards.says("a", reason="numbers")
    (found,) = await bought(replica)
    assert isinstance(found, CacheAudited)
    assert found.entry_id == replica.lookup.nearest[1].entry_id


async def test_where_nothing_was_near_there_is_nothing_to_compare() -> None:
    assert await bought(Replica()) == []


async def test_an_answer_is_compared_once(replica: Replica) -> None:
    (found,) = await bought(replica)
    (miss,) = replica.misses()
    assert await replica.news.heard(make.completed(miss.request, key=miss.key)) == ()
    assert isinstance(found, CacheAudited)


async def test_an_answer_that_was_not_bought_is_not_compared(replica: Replica) -> None:
    (miss,) = await replica.ask(make.request(PROMPT))
    assert isinstance(miss, RequestMissed)
    shared = make.completed(miss.request, key=miss.key, source="coalesced", leader_id=make.new_id())
    assert await replica.news.heard(shared) == ()


async def test_audits_that_are_switched_off_compare_nothing() -> None:
    replica = Replica(audit={"enabled": False})
    replica.lookup.nearest = [near()]
    replica.learned.decision = REFUSED
    assert await bought(replica) == []


async def misses(replica: Replica, number: int) -> list[RequestMissed]:
    """Requests that are missed at the same time, each near to an entry and far from the others."""
    replica.embedder.angles |= {str(n): 0.6 * n for n in range(number)}
    found = [event for n in range(number) for event in await replica.ask(make.request(str(n)))]
    return [event for event in found if isinstance(event, RequestMissed)]


async def test_no_more_are_compared_than_there_is_time_for(replica: Replica) -> None:
    skipped = metrics.UNCOMPARED._value.get()
    asked = await misses(replica, 10)
    events = [make.completed(miss.request, key=miss.key) for miss in asked]
    assert len(await replica.hear(*events[:5])) == COMPARED_PER_S
    assert metrics.UNCOMPARED._value.get() == skipped + 3
    replica.clock.skip(0.5)
    assert len(await replica.hear(*events[5:7])) == 1
    replica.clock.skip(3600)  # what was not used is not saved up
    assert len(await replica.hear(*events[7:])) == COMPARED_PER_S


async def test_who_listens_is_not_kept_by_those_that_are_being_compared() -> None:
    replica = Replica()
    replica.lookup.nearest = [near()]
    replica.learned.decision = REFUSED
    embeds: list[asyncio.Future[Any]] = []

    async def slow(texts: Sequence[str]) -> Any:
        embeds.append(asyncio.get_running_loop().create_future())
        return await embeds[-1]

    replica.audits._embed = slow
    asked = await misses(replica, 5)
    tasks = []
    for miss in asked:
        tasks.append(
            asyncio.create_task(replica.news.heard(make.completed(miss.request, key=miss.key, output_text="x")))
        )
        await settled()
        replica.clock.skip(10)
    assert [task.done() for task in tasks] == [False, False, True, True, True]
    assert len(embeds) == COMPARED_AT_ONCE
    for embed in embeds:
        embed.set_result(np.eye(2, dtype=np.float32))
    assert [len(await task) for task in tasks] == [1, 1, 0, 0, 0]


async def test_a_request_that_failed_is_not_waited_for(replica: Replica) -> None:
    (miss,) = await replica.ask(make.request(PROMPT))
    assert isinstance(miss, RequestMissed)
    await replica.fail(miss)
    assert replica.audits._pending == {}


async def test_a_finding_teaches_once_however_often_it_is_heard_or_recalled(replica: Replica) -> None:
    found, other = finding(), finding()
    await replica.hear(found, found)
    assert await replica.audits.recall(FakePool(row(other), row(found)).as_pool, since=START)
    await replica.hear(other)
    assert len(replica.learned.learned) == 2


async def test_the_findings_that_are_known_are_bounded(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audits, "MOST_KNOWN", 3)
    await replica.hear(*(finding() for _ in range(5)))
    assert len(replica.audits._known) == 3


@pytest.mark.parametrize("change", [{"sampled": 7.0}, {"evidence": "{"}, {"evidence": '{"similarity": "x"}'}], ids=repr)
async def test_a_finding_that_cannot_be_read_hides_no_other(replica: Replica, change: dict[str, Any]) -> None:
    pool = FakePool(row(finding()), row(finding()) | change, row(finding()))
    assert await replica.audits.recall(pool.as_pool, since=START)
    assert len(replica.learned.learned) == 2


async def test_what_is_waited_for_is_bounded(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audits, "MOST_PENDING", 2)
    replica.embedder.angles = {str(number): float(number) for number in range(3)}
    misses = [(await replica.ask(make.request(str(number))))[0] for number in range(3)]
    for number, miss in enumerate(misses):
        assert isinstance(miss, RequestMissed)
        assert len(await replica.news.heard(make.completed(miss.request, key=miss.key))) == (number > 0)


def test_a_finding_is_learned_with_its_weight(replica: Replica) -> None:
    replica.audits.learn(finding(same=False, sampled=0.125))
    (label,) = replica.learned.learned
    assert (label.same, label.served, label.sampled) == (False, True, 0.125)
    assert label.evidence == finding().evidence


async def test_findings_of_all_replicas_are_learned_from(replica: Replica) -> None:
    await replica.hear(finding(), finding(kind="free", served=False))
    assert len(replica.learned.learned) == 2
    assert replica.audits.summary()["seen"] == 2


def test_feedback_does_not_teach_the_rates(replica: Replica) -> None:
    replica.audits.learn(finding(kind="feedback", same=False))
    assert replica.learned.learned == []


async def test_findings_are_counted_where_they_are_made(replica: Replica) -> None:
    counter = metrics.AUDITS.labels("free", "same")._value
    before = counter.get()
    (found,) = await bought(replica)
    assert counter.get() == before + 1
    await replica.hear(found)
    assert counter.get() == before + 1


def test_entries_of_the_same_answer_speak_for_each_other(replica: Replica) -> None:
    same, other = finding(), finding(same=False)
    replica.audits.learn(same)
    replica.audits.learn(other)
    groups = replica.judge.groups
    assert groups.of(same.request_id) == groups.of(same.entry_id)
    assert groups.of(other.request_id) != groups.of(other.entry_id)


def test_what_is_known_is_told_in_the_metrics(replica: Replica) -> None:
    replica.audits.learn(finding())
    replica.audits.tell()
    assert metrics.FALSE_HITS.labels("high")._value.get() == 1.0
    assert metrics.LEARNED_THRESHOLD._value.get() == 0.9
    assert metrics.EXACT_ONLY._value.get() == 0


def test_the_summary_says_how_often_the_cache_is_wrong(replica: Replica) -> None:
    assert replica.audits.summary() == {
        "seen": 0,
        "served_wrong": 0,
        "false_hit_rate": 0.0,
        "low": 0.0,
        "high": 1.0,
        "exact_only": 0,
        "threshold": 0.9,
    }


async def test_a_replica_that_starts_learns_the_latest_findings_again_oldest_first(replica: Replica) -> None:
    newest, older, complaint = finding(sampled=0.5), finding(sampled=0.25), finding(kind="feedback", same=False)
    pool = FakePool(row(newest), row(complaint), row(older))
    assert await replica.audits.recall(pool.as_pool, since=START)
    assert [label.sampled for label in replica.learned.learned] == [0.25, 0.5]
    assert replica.learned.learned[0].evidence == older.evidence
    assert replica.judge.groups.of(older.request_id) == older.entry_id
    assert pool.asked == [(START, RECALLED_EACH, RECALLED)]


async def test_recalling_teaches_what_hearing_did(replica: Replica) -> None:
    findings = [finding(same=number % 2 == 0, sampled=(number + 1) / 10) for number in range(5)]
    await replica.hear(*findings)
    other = Replica()
    pool = FakePool(*(row(each) for each in reversed(findings)))
    await other.audits.recall(pool.as_pool, since=START)
    assert other.learned.learned == replica.learned.learned


@pytest.mark.parametrize("error", [OSError("away"), TimeoutError(), asyncpg.UndefinedTableError("no such table")])
async def test_findings_that_cannot_be_read_are_read_another_time(replica: Replica, error: Exception) -> None:
    pool = FakePool()
    pool.error = error
    assert not await replica.audits.recall(pool.as_pool, since=START)
    assert replica.learned.learned == []


async def test_a_finding_of_an_earlier_version_has_the_evidence_there_was(replica: Replica) -> None:
    old = row(finding()) | {"evidence": json.dumps({"similarity": 0.9, "margin": 0.1})}
    assert await replica.audits.recall(FakePool(old).as_pool, since=START)
    assert replica.learned.learned[0].evidence.similarity == 0.9

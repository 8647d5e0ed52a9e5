"""What findings teach, apart for each owner of answers."""

from random import Random

import pytest

from services.cache.learning import lessons as module
from services.cache.learning.lessons import Lessons
from services.cache.learning.threshold import Audited, Settings
from shared.events import Evidence
from tests.support import make

NEAR = Evidence(similarity=0.7, objected=True)


def lessons(**pools: list[str]) -> Lessons:
    return Lessons(Settings(), make.policy(cache__pools=pools).cache.owner_of, Random(1))


def teach(known: Lessons, tenant: str, *, same: bool, number: int = 400) -> None:
    for _ in range(number):
        known.learn(tenant, Audited(NEAR, same=same, served=False))


def test_what_one_tenant_teaches_opens_the_cache_for_nobody_else() -> None:
    known = lessons()
    teach(known, "acme", same=True)
    assert known.of("acme").decide(NEAR).serve
    assert known.of("globex").decide(NEAR).reason == "below threshold"


def test_who_shares_a_pool_shares_its_lessons() -> None:
    known = lessons(both=["acme", "globex"])
    teach(known, "acme", same=True)
    assert known.of("globex") is known.of("acme")
    assert known.of("globex").decide(NEAR).serve


def test_a_tenant_whose_answers_are_wrong_suspends_only_its_own() -> None:
    known = lessons()
    for tenant in ("acme", "globex"):
        for _ in range(300):
            known.of(tenant).decide(Evidence(similarity=0.95))
    for _ in range(60):
        known.learn("acme", Audited(Evidence(similarity=0.95), same=False, served=True, sampled=1.0))
    assert known.of("acme").exact_only
    assert not known.of("globex").exact_only
    state = known.state()
    assert (state.exact_only, state.seen, state.served_wrong, state.false_hit_rate) == (1, 60, 60, 1.0)


def test_the_lessons_of_owners_nobody_asked_about_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OWNERS", 2)
    known = lessons()
    first, second = known.of("a"), known.of("b")
    known.of("a")
    known.of("c")
    assert known.of("a") is first
    assert known.of("b") is not second


def test_before_anything_is_known_the_threshold_is_the_policy_s() -> None:
    state = lessons().state()
    assert (state.threshold, state.seen, state.low, state.high) == (Settings().threshold, 0, 0.0, 1.0)


def test_who_is_suspended_stays_so_however_many_others_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OWNERS", 2)
    known = lessons()
    for _ in range(300):
        known.of("acme").decide(Evidence(similarity=0.95))
    for _ in range(60):
        known.learn("acme", Audited(Evidence(similarity=0.95), same=False, served=True, sampled=1.0))
    for tenant in "bcdef":
        known.of(tenant)
    assert known.of("acme").exact_only


def test_looking_at_an_owner_s_lessons_keeps_and_changes_nothing() -> None:
    known = lessons()
    known.peek("acme").decide(Evidence(similarity=0.95))
    before = known.of("acme").state()
    known.peek("acme").decide(Evidence(similarity=0.95))
    assert known.of("acme").state() == before

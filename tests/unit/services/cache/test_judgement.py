"""Which of the nearest entries may be served, what speaks against the others, and what is noted of it."""

from collections.abc import Sequence
from random import Random
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache.judgement import Considered, Judge
from services.cache.learning.lessons import Lessons
from services.cache.learning.neighbours import weigh
from services.cache.learning.threshold import Settings
from services.cache.lookup import Entry
from services.cache.verification.guards import FORBIDDING
from tests.support import make
from tests.support.replica import Decision, FakeGuards, FakeLearned, near

PROMPT = "What is the capital of France?"


class Court:
    """A judge, and those it asks."""

    def __init__(self, **audit: Any) -> None:
        self.guards, self.learned = FakeGuards(), FakeLearned()
        self.judge = Judge(make.policy(cache__audit=audit), cast("Any", self.learned), self.guards)

    def consider(self, *nearest: Entry) -> Sequence[Considered]:
        return self.judge.consider(PROMPT, nearest, tenant="acme")

    def reasons(self, *nearest: Entry) -> list[str]:
        return [each.reason for each in self.consider(*nearest)]


@pytest.fixture
def court() -> Court:
    return Court()


def test_where_there_is_nothing_near_there_is_nothing_to_decide(court: Court) -> None:
    assert court.reasons() == []
    assert (court.learned.decided, court.learned.idle) == ([], 1)


def test_the_nearest_that_nothing_speaks_against_is_served_and_no_further_one_is_looked_at(court: Court) -> None:
    assert court.reasons(near("a", 0.98), near("b", 0.97)) == ["verified"]
    assert court.guards.judged == [(PROMPT, "a")]
    assert (len(court.learned.decided), court.learned.idle) == (1, 0)


def test_a_guard_has_the_last_word_and_the_next_candidate_is_looked_at(court: Court) -> None:
    court.guards.says("a", reason="negation")
    assert court.reasons(near("a", 0.98), near("b", 0.97)) == ["negation", "verified"]
    assert [evidence.similarity for evidence in court.learned.decided] == [0.97]


def test_what_a_guard_advises_against_the_learned_threshold_decides(court: Court) -> None:
    court.guards.says("a", reason="content")
    (served,) = court.consider(near("a", 0.98))
    assert (served.against, served.evidence.objected, served.reason) == (None, True, "learned, despite content")
    court.learned.decision = Decision(serve=False, risk=0.3, reason="too risky")
    (refused,) = court.consider(near("a", 0.98))
    assert (refused.against, refused.risk, refused.comparable) == ("content", 0.3, True)


@pytest.mark.parametrize("reason", sorted(FORBIDDING))
def test_what_is_forbidden_is_not_up_to_what_was_learned(court: Court, reason: str) -> None:
    court.guards.says("a", reason=reason)
    (refused,) = court.consider(near("a", 0.999))
    assert (refused.against, refused.risk, refused.comparable) == (reason, None, False)
    assert court.learned.decided == []


def test_one_decision_is_made_for_a_request_whatever_it_is(court: Court) -> None:
    court.learned.decision = Decision(serve=False, risk=0.3, reason="too risky")
    assert court.reasons(near("a", 0.98), near("b", 0.97)) == ["too risky"]
    assert (len(court.learned.decided), court.learned.idle) == (1, 0)


@given(
    st.lists(st.tuples(st.floats(0.8, 1), st.sampled_from(["numbers", "content", ""]), st.booleans()), max_size=5),
    st.booleans(),
    st.booleans(),
)
def test_each_request_is_counted_once(candidates: list[tuple[float, str, bool]], serve: bool, quarantine: bool) -> None:

    court = Court(quarantine=quarantine)
    court.learned.decision = Decision(serve=serve, risk=0.1, reason="too risky")
    nearest = []
    for number, (similarity, reason, good) in enumerate(candidates):
        nearest.append(near(str(number), similarity, good=int(good)))
        if reason:
            court.guards.says(str(number), reason=reason)
    considered = court.consider(*nearest)
    assert len(court.learned.decided) + court.learned.idle == 1
    assert [each.entry for each in considered] == nearest[: len(considered)]
    assert all(each.against is not None for each in considered[:-1])
    decided = [each for each in considered if each.risk is not None]
    assert len(decided) == len(court.learned.decided)
    for each in considered:
        assert (each.against is None) == (each.risk is not None and serve)


def test_a_candidate_below_the_floor_of_its_category_is_not_verified(court: Court) -> None:
    court.learned.floors = {"dynamic": 0.97}
    assert court.reasons(near("a", 0.96, category="dynamic"), near("b", 0.95)) == [
        "not similar enough",
        "verified",
    ]
    assert court.guards.judged == [(PROMPT, "b")]


def test_in_quarantine_only_what_was_confirmed_is_served() -> None:
    court = Court(quarantine=True)
    assert court.reasons(near("a", 0.98), near("b", 0.97, good=1)) == ["quarantined", "verified"]
    (quarantined, _) = court.consider(near("a", 0.98), near("b", 0.97, good=1))
    assert quarantined.comparable  # which may confirm it


def test_the_evidence_is_what_is_known_of_the_entry_and_its_neighbours(court: Court) -> None:
    court.judge.entries = 1234
    one, other, third = near("a", 0.98), near("b", 0.96), near("c", 0.95)
    court.judge.groups.join(third.entry_id, one.entry_id, same=True)
    court.judge.groups.join("a fourth", third.entry_id, same=False)
    (served,) = court.consider(one, other, third)
    said = served.evidence
    assert (said.good, said.bad, said.entries, said.category) == (1, 1, 1234, "static")
    assert (said.agreeing, said.opposing) == weigh(["x", "y", "x"], [0.98, 0.96, 0.95], 0)


def test_a_hit_that_is_drawn_for_an_audit_says_with_which_probability(court: Court) -> None:
    court.learned.decision = Decision(audit=True, audit_probability=0.2)
    (drawn,) = court.consider(near())
    court.learned.decision = Decision(audit=False, audit_probability=0.2)
    (not_drawn,) = court.consider(near())
    assert (drawn.sampled, not_drawn.sampled) == (0.2, 0.0)


def test_looking_without_counting_leaves_the_learned_threshold_as_it_is() -> None:
    lessons = Lessons(Settings(warm_labels=0), lambda tenant: ("tenant", tenant), Random(1))
    judge, nearest = Judge(make.policy(), lessons, FakeGuards()), [near(similarity=0.99)]
    before = lessons.of("acme").state()
    looked = [judge.consider(PROMPT, nearest, tenant="acme", counts=False) for _ in range(20)]
    assert all(each.risk is not None for (each,) in looked)
    assert lessons.of("acme").state() == before
    judge.consider(PROMPT, nearest, tenant="acme")
    assert lessons.of("acme").state() != before


def test_two_in_flight_share_an_answer_where_nothing_speaks_against_it(court: Court) -> None:
    court.guards.says("4 apples", reason="numbers")
    court.guards.says("pears", reason="content")
    assert court.judge.shared(PROMPT, "b", tenant="acme") is None
    assert court.judge.shared(PROMPT, "4 apples", tenant="acme") == "numbers"
    assert court.judge.shared(PROMPT, "pears", tenant="acme") == "content"


def test_nothing_near_is_shared_in_flight_while_the_bound_is_not_held_or_proof_is_wanted(court: Court) -> None:
    court.learned.exact_only = True
    assert court.judge.shared(PROMPT, "b", tenant="acme") == "exact only: bound not held"
    assert Court(quarantine=True).judge.shared(PROMPT, "b", tenant="acme") == "quarantined"


def test_the_very_prompt_needs_no_verification(court: Court) -> None:
    found = court.judge.exact(near(match="exact", similarity=1.0))
    assert (found.against, found.reason, found.sampled) == (None, "same prompt", 0.0)
    assert court.guards.judged == []


def test_a_guard_that_fails_refuses(court: Court) -> None:
    def fail(asked: str, stored: str) -> str | None:
        raise RuntimeError("a bug")

    judge = Judge(make.policy(), cast("Any", court.learned), fail)
    (refused,) = judge.consider(PROMPT, [near("a", 0.99)], tenant="acme")
    assert (refused.against, refused.comparable) == ("unreadable", False)
    assert judge.shared(PROMPT, "a", tenant="acme") == "unreadable"


def test_before_enough_was_learned_a_doubt_gives_way_to_the_next_and_is_compared(court: Court) -> None:
    court.learned.warm = False
    court.guards.says("a", reason="content")
    doubted, served = court.consider(near("a", 0.98), near("b", 0.97))
    assert (doubted.against, doubted.comparable, doubted.risk) == ("content", True, None)
    assert served.reason == "verified"
    assert [evidence.similarity for evidence in court.learned.decided] == [0.97]

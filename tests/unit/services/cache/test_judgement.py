"""Which of the nearest entries may be served, what speaks against the others, and what is noted of it."""

import asyncio
from random import Random
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache.judgement import Judge
from services.cache.learning.neighbours import weigh
from services.cache.learning.threshold import LearnedThreshold, Settings
from services.cache.lookup import Entry
from tests.support import make
from tests.support.replica import Decision, FakeLearned, FakeVerifier, InlineJudge, near

PROMPT = "What is the capital of France?"


class Court:
    """A judge, and those it asks."""

    def __init__(self, **audit: Any) -> None:
        self.verifier, self.learned = FakeVerifier(), FakeLearned()
        self.judge = InlineJudge(
            make.policy(cache__audit=audit), cast("Any", self.verifier), cast("LearnedThreshold", self.learned)
        )

    async def reasons(self, *nearest: Entry) -> list[str]:
        return [each.reason for each in await self.judge.consider(PROMPT, nearest)]


@pytest.fixture
def court() -> Court:
    return Court()


async def test_where_there_is_nothing_near_there_is_nothing_to_decide(court: Court) -> None:
    assert await court.reasons() == []
    assert (court.learned.decided, court.learned.idle) == ([], 1)


async def test_the_nearest_that_nothing_speaks_against_is_served_and_no_further_one_is_looked_at(court: Court) -> None:
    assert await court.reasons(near("a", 0.98), near("b", 0.97)) == ["verified"]
    assert court.verifier.judged == [(PROMPT, "a")]
    assert (len(court.learned.decided), court.learned.idle) == (1, 0)


async def test_a_guard_has_the_last_word_and_the_next_candidate_is_looked_at(court: Court) -> None:
    court.verifier.says("a", reason="negation")
    assert await court.reasons(near("a", 0.98), near("b", 0.97)) == ["negation", "verified"]
    assert [evidence.similarity for evidence in court.learned.decided] == [0.97]


async def test_the_classifier_advises_and_the_learned_threshold_decides(court: Court) -> None:
    court.verifier.says("a", reason="classifier", probability=0.4)
    (served,) = await court.judge.consider(PROMPT, [near("a", 0.98)])
    assert (served.against, served.evidence.objected, served.evidence.probability) == (None, True, 0.4)
    court.learned.decision = Decision(serve=False, risk=0.3, reason="too risky")
    (refused,) = await court.judge.consider(PROMPT, [near("a", 0.98)])
    assert (refused.against, refused.risk) == ("classifier", 0.3)


async def test_one_decision_is_made_for_a_request_whatever_it_is(court: Court) -> None:
    court.learned.decision = Decision(serve=False, risk=0.3, reason="too risky")
    assert await court.reasons(near("a", 0.98), near("b", 0.97)) == ["too risky"]
    assert (len(court.learned.decided), court.learned.idle) == (1, 0)


@given(
    st.lists(st.tuples(st.floats(0.8, 1), st.sampled_from(["number", "classifier", ""]), st.booleans()), max_size=5),
    st.booleans(),
    st.booleans(),
)
def test_each_request_is_counted_once(candidates: list[tuple[float, str, bool]], serve: bool, quarantine: bool) -> None:

    async def judged() -> None:
        court = Court(quarantine=quarantine)
        court.learned.decision = Decision(serve=serve, risk=0.1, reason="too risky")
        nearest = []
        for number, (similarity, reason, good) in enumerate(candidates):
            nearest.append(near(str(number), similarity, good=int(good)))
            if reason:
                court.verifier.says(str(number), reason=reason, probability=0.5 * (reason == "classifier"))
        considered = await court.judge.consider(PROMPT, nearest)
        assert len(court.learned.decided) + court.learned.idle == 1
        assert [each.entry for each in considered] == nearest[: len(considered)]
        assert all(each.against is not None for each in considered[:-1])
        decided = [each for each in considered if each.risk is not None]
        assert len(decided) == len(court.learned.decided)
        for each in considered:
            assert (each.against is None) == (each.risk is not None and serve)

    asyncio.run(judged())


async def test_a_candidate_below_the_floor_of_its_category_is_not_verified(court: Court) -> None:
    court.learned.floors = {"dynamic": 0.97}
    assert await court.reasons(near("a", 0.96, category="dynamic"), near("b", 0.95)) == [
        "not similar enough",
        "verified",
    ]
    assert court.verifier.judged == [(PROMPT, "b")]


async def test_in_quarantine_only_what_was_confirmed_is_served() -> None:
    court = Court(quarantine=True)
    assert await court.reasons(near("a", 0.98), near("b", 0.97, good=1)) == ["quarantined", "verified"]
    (quarantined, _) = await court.judge.consider(PROMPT, [near("a", 0.98), near("b", 0.97, good=1)])
    assert quarantined.evidence.probability == 0.99  # its answer will be compared, which may confirm it


async def test_the_evidence_is_what_is_known_of_the_entry_and_its_neighbours(court: Court) -> None:
    court.judge.entries = 1234
    one, other, third = near("a", 0.98, good=2, bad=1), near("b", 0.96), near("c", 0.95)
    court.judge.groups.join(third.entry_id, one.entry_id, same=True)
    (served,) = await court.judge.consider(PROMPT, [one, other, third])
    said = served.evidence
    assert (said.good, said.bad, said.entries, said.category) == (2, 1, 1234, "static")
    assert (said.agreeing, said.opposing) == weigh(["x", "y", "x"], [0.98, 0.96, 0.95], 0)


async def test_a_hit_that_is_drawn_for_an_audit_says_with_which_probability(court: Court) -> None:
    court.learned.decision = Decision(audit=True, audit_probability=0.2)
    (drawn,) = await court.judge.consider(PROMPT, [near()])
    court.learned.decision = Decision(audit=False, audit_probability=0.2)
    (not_drawn,) = await court.judge.consider(PROMPT, [near()])
    assert (drawn.sampled, not_drawn.sampled) == (0.2, 0.0)


async def test_looking_without_counting_leaves_the_learned_threshold_as_it_is() -> None:
    learned = LearnedThreshold(Settings(warm_labels=0), Random(1))
    judge: Judge = InlineJudge(make.policy(), cast("Any", FakeVerifier()), learned)
    before = learned.state()
    looked = [await judge.consider(PROMPT, [near(similarity=0.99)], counts=False) for _ in range(20)]
    assert all(each.risk is not None for (each,) in looked)
    assert learned.state() == before
    await judge.consider(PROMPT, [near(similarity=0.99)])
    assert learned.state() != before


async def test_two_in_flight_are_the_same_where_the_verifier_says_so(court: Court) -> None:
    court.verifier.says("4 apples", reason="number")
    court.verifier.says("pears", reason="classifier", probability=0.4)
    assert await court.judge.same(PROMPT, "b", 0.99) is None
    assert await court.judge.same(PROMPT, "4 apples", 0.99) == "number"
    assert await court.judge.same(PROMPT, "pears", 0.99) == "classifier"


async def test_the_very_prompt_needs_no_verification(court: Court) -> None:
    found = court.judge.exact(near(match="exact", similarity=1.0))
    assert (found.against, found.reason, found.sampled) == (None, "same prompt", 0.0)
    assert court.verifier.judged == []


async def test_verification_runs_beside_the_event_loop() -> None:
    verifier = FakeVerifier()
    judge = Judge(make.policy(), cast("Any", verifier), cast("Any", FakeLearned()))
    assert await judge.same("a", "b", 0.99) is None
    assert verifier.judged == [("a", "b")]

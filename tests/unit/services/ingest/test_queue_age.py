"""The age of a queue, against workers that are simulated: it is what those who start have waited, whatever happens."""

from collections import deque
from statistics import median
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.queue_age import GONE_S, QUEUE, RECENT_S, QueueAge, QueueAges
from shared.events import QueueReport, QueueReported
from tests.support import make
from tests.support.clock import ManualClock

ONE, OTHER = UUID(int=1), UUID(int=2)


class Tier:
    """So many turns a second, for whoever has waited longest; a second passes when a test says so.

    Attributes:
        held: how many of those that wait are in the hands of inference, unseen in the broker.
        stragglers: that were put aside, and wait in the broker whatever else happens.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self.age = QueueAge(0.0)
        self.queue: deque[float] = deque()
        self.held = 0
        self.stragglers = 0
        self.silent = False

    def second(self, *, come: int, go: int) -> float:
        """One second in which so many come, and as many turns as there are; the age after it."""
        self.now_s += 1.0
        self.queue.extend(self.now_s - 0.5 for _ in range(come))
        waited = [self.now_s - self.queue.popleft() for _ in range(min(go, len(self.queue)))]
        held = min(self.held, len(self.queue))
        if not self.silent:
            report = QueueReport(started=len(waited), waited_s=median(waited) if waited else None, waiting=held)
            self.age.reported(ONE, report, self.now_s)
        self.age.looked(self.stragglers + len(self.queue) - held, self.now_s)
        return self.age.age_s(self.now_s)

    @property
    def head_s(self) -> float:
        """How long the one has waited whose turn is next."""
        return self.now_s - self.queue[0]


def test_a_tier_that_keeps_up_has_no_age() -> None:
    tier = Tier()
    assert all(tier.second(come=5, go=5) == 0 for _ in range(60))


def test_in_a_surge_it_is_what_those_have_waited_whose_turn_comes() -> None:
    tier = Tier()
    for _ in range(120):
        age_s = tier.second(come=10, go=5)
    assert age_s == pytest.approx(tier.head_s, rel=0.15)
    assert age_s > 50
    before = age_s
    for _ in range(30):  # it is over
        age_s = tier.second(come=0, go=20)
    assert age_s < before
    while tier.queue:
        age_s = tier.second(come=0, go=20)
    assert age_s == 0


@pytest.mark.parametrize("unseen", [0, 1000])
def test_while_nothing_moves_it_grows_by_the_clock_from_where_it_was(unseen: int) -> None:
    tier = Tier()
    tier.held = unseen
    for _ in range(60):
        tier.second(come=10, go=5)
    for _ in range(int(RECENT_S)):
        tier.second(come=10, go=0)
    ages = []
    for _ in range(100):
        ages.append(tier.second(come=10, go=0))
        assert ages[-1] == pytest.approx(tier.head_s, rel=0.15)
    assert ages == sorted(ages)
    assert ages[-1] > 120


def test_an_outage_out_of_the_blue_is_noticed_without_inference_saying_a_word() -> None:
    tier = Tier()
    for _ in range(60):
        tier.second(come=5, go=5)
    tier.silent = True
    for _ in range(60):
        age_s = tier.second(come=5, go=0)
    assert age_s == pytest.approx(tier.head_s, abs=2)


def test_after_an_outage_it_falls_as_those_who_waited_are_gone() -> None:
    tier = Tier()
    for _ in range(100):
        tier.second(come=2, go=0)
    assert tier.second(come=2, go=20) == pytest.approx(tier.head_s, abs=10)
    while tier.queue:
        age_s = tier.second(come=2, go=20)
    assert age_s == 0


def test_stragglers_do_not_count_while_others_pass_and_one_alone_never_does() -> None:
    tier = Tier()
    tier.stragglers = 20
    assert all(tier.second(come=5, go=5) <= 0.5 for _ in range(300))
    alone = Tier()
    alone.stragglers = QUEUE - 1
    assert all(alone.second(come=0, go=0) == 0 for _ in range(300))


def test_a_straggler_whose_turn_comes_at_last_is_no_sign_of_a_queue() -> None:
    tier = Tier()
    tier.second(come=0, go=0)
    tier.queue.append(tier.now_s - 500)
    assert tier.second(come=0, go=1) == 0  # nobody waits behind it
    tier.queue.append(tier.now_s - 500)
    assert tier.second(come=5, go=5) < 1  # the others did not wait


def test_what_was_waited_before_a_queue_was_empty_is_not_added_to_what_comes_after() -> None:
    tier = Tier()
    for _ in range(60):
        tier.second(come=10, go=5)
    while tier.queue:
        tier.second(come=0, go=200)
    for _ in range(int(RECENT_S) + 5):
        age_s = tier.second(come=1, go=0)
    assert age_s <= RECENT_S + 5


def test_bulk_alone_has_no_age_and_shows_that_things_move() -> None:
    age = QueueAge(0.0)
    for now_s in range(1, 60):
        age.reported(ONE, QueueReport(started=5, waited_s=None, waiting=50), now_s)
        age.looked(1000, now_s)
        assert age.age_s(now_s) == 0


def test_reports_of_several_replicas_count_by_their_turns() -> None:
    age = QueueAge(0.0)
    age.looked(10, 1.0)
    age.reported(ONE, QueueReport(started=9, waited_s=20.0), 1.0)
    age.reported(OTHER, QueueReport(started=1, waited_s=100.0), 1.0)
    assert age.age_s(1.0) == 20
    age.reported(OTHER, QueueReport(started=20, waited_s=100.0), 2.0)
    assert age.age_s(2.0) == 100


def test_a_replica_that_is_gone_holds_nothing() -> None:
    age = QueueAge(0.0)
    age.reported(ONE, QueueReport(waiting=QUEUE), 0.0)
    age.looked(0, GONE_S - 0.1)
    assert age.age_s(GONE_S - 0.1) > 0
    age.looked(0, GONE_S)
    assert age.age_s(GONE_S) == 0


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=200))
def test_it_is_never_far_above_the_longest_wait(seconds: list[tuple[int, int]]) -> None:
    tier = Tier()
    longest_s = 0.0
    for come, go in seconds:
        if tier.queue:
            longest_s = max(longest_s, tier.head_s + 1)
        # Where nothing moves just after many had their turn at once, those who are left may be younger than these.
        assert tier.second(come=come, go=go) <= 2 * longest_s + 1


def test_each_tier_has_its_own_and_those_without_are_left_out() -> None:
    clock = ManualClock()
    ages = QueueAges({"light": None, "premium": None}, clock)
    report = {"premium": QueueReport(started=3, waited_s=12.34, waiting=5)}
    ages.reported(QueueReported(report_id=make.new_id(), replica=ONE, tiers=report))
    ages.looked({"light": 0.0, "premium": 0.0})
    assert ages.ages() == {"premium": 12.3}
    ages.reported(QueueReported(report_id=make.new_id(), replica=ONE, tiers={}))
    assert ages.ages() == {}


def test_one_straggler_makes_no_queue_old_where_hardly_anybody_waits() -> None:
    age = QueueAge(0.0)
    age.looked(QUEUE - 1, 1.0)
    age.reported(ONE, QueueReport(started=1, waited_s=500.0), 1.0)
    assert age.age_s(1.0) == 0


def test_what_was_seen_of_the_broker_is_forgotten_where_it_is_seen_no_more() -> None:
    age = QueueAge(0.0)
    age.looked(1000, 1.0)
    assert age.age_s(1.0 + RECENT_S - 0.1) > 0
    assert age.age_s(1.0 + RECENT_S) == 0


def test_replicas_that_are_gone_are_not_remembered() -> None:
    age = QueueAge(0.0)
    for number in range(100):
        age.reported(UUID(int=number), QueueReport(waiting=1), 10 * GONE_S * number)
    assert len(age._held) == 1

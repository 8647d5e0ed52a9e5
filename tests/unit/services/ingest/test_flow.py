"""The rate of a queue, and the wait that follows from it."""

import pytest

from services.ingest.flow import Flow


def busy(flow: Flow, ready: int, rate: int, seconds: int) -> None:
    """So many are finished every second, and the queue never runs empty."""
    for _ in range(seconds):
        for _ in range(rate):
            flow.went()
        flow.looked(ready, 1.0)


def test_the_wait_is_those_ahead_at_the_rate_at_which_they_go() -> None:
    flow = Flow()
    flow.looked(100, 0)
    busy(flow, ready=100, rate=5, seconds=20)
    assert flow.rate == pytest.approx(5)
    assert flow.wait_s == pytest.approx(20)


def test_between_two_looks_those_who_come_and_go_are_counted() -> None:
    flow = Flow()
    flow.looked(100, 0)
    busy(flow, ready=100, rate=5, seconds=20)
    flow.came()
    flow.came(0.5)
    flow.went()
    assert flow.ahead == pytest.approx(100.5)


def test_an_idle_queue_tells_nothing_of_what_its_consumers_can_do() -> None:
    flow = Flow()
    flow.looked(100, 0)
    busy(flow, ready=100, rate=50, seconds=20)
    flow.looked(0, 1.0)
    busy(flow, ready=0, rate=1, seconds=1000)
    assert flow.rate == pytest.approx(50)


def test_a_queue_that_was_never_busy_has_the_best_rate_that_was_seen() -> None:
    flow = Flow()
    assert (flow.rate, flow.wait_s) == (None, 0)
    flow.looked(0, 0)
    busy(flow, ready=0, rate=7, seconds=1)
    busy(flow, ready=0, rate=1, seconds=9)
    assert flow.rate == 7


def test_where_nothing_is_finished_any_more_the_wait_grows() -> None:
    flow = Flow()
    flow.looked(100, 0)
    busy(flow, ready=100, rate=10, seconds=60)
    waits = []
    for _ in range(5):
        busy(flow, ready=100, rate=0, seconds=30)
        waits.append(flow.wait_s)
    assert waits == sorted(waits)
    assert waits[0] > 20
    assert waits[-1] > 500


def test_more_may_go_than_were_seen_to_come() -> None:
    flow = Flow()
    flow.went()
    assert (flow.ahead, flow.wait_s) == (0, 0)

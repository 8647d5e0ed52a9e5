"""What has failed so far, and whether, when and where to try again."""

import math
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from services.inference.attempts import MOST_LISTED, Attempts
from services.inference.errors import DeadlineExceeded, GaveUp, ProviderFault, ProviderRefused, RateLimited
from services.inference.lanes.lanes import Lanes
from shared.errors import Park
from shared.events import Attempt, RequestRouted
from tests.support import make
from tests.support.clock import START, ManualClock

FAULT = ProviderFault("500")


class Trying:
    """The attempts at one request, at a time of the test's choosing."""

    def __init__(self, *, deadline_s: float | None = None, event: dict[str, Any] | None = None, **tier: Any) -> None:
        self.clock = ManualClock()
        policy = make.policy(**{f"tiers__light__{name}": value for name, value in tier.items()})
        deadline = None if deadline_s is None else START + timedelta(seconds=deadline_s)
        routed = make.routed(make.request(deadline=deadline), **event or {})
        self.attempts = Attempts(routed, Lanes(policy, self.clock, replica=uuid4()).choice, self.clock)

    def failed(self, *errors: ProviderFault | RateLimited) -> None:
        for error in errors:
            self.attempts.failed(self.attempts.next(), error)

    def later(self, after_s: float) -> Exception:
        return self.attempts.later(after_s, "busy")


@pytest.mark.parametrize(
    ("after_s", "deadline_s", "give_up_after_s", "aside_s"),
    [
        (0.5, None, 600, 2),
        (7.0, None, 600, 10),
        (45.0, None, 600, 60),
        (45.0, None, 50, 30),  # 60 would be too late to try again
        (31.0, 59.0, 600, 30),
        (500.0, None, 600, 120),
    ],
)
def test_it_is_put_aside_for_as_long_as_it_asks_and_has_time_for(
    after_s: float, deadline_s: float | None, give_up_after_s: float, aside_s: float
) -> None:
    it = Trying(deadline_s=deadline_s, give_up_after_s=give_up_after_s)
    it.failed(RateLimited("429"))
    parked = it.later(after_s)
    assert isinstance(parked, Park)
    assert parked.after_s == aside_s


def test_what_was_never_tried_waits_however_long_it_takes() -> None:
    parked = Trying(give_up_after_s=1).later(9_000)
    assert isinstance(parked, Park)
    assert parked.after_s == 120


@pytest.mark.parametrize(("after_s", "deadline_s", "kind"), [(50, 40, DeadlineExceeded), (50, None, GaveUp)])
def test_where_nothing_will_do_in_time_it_ends(after_s: float, deadline_s: float | None, kind: type[Exception]) -> None:
    it = Trying(deadline_s=deadline_s, give_up_after_s=45)
    it.failed(RateLimited("429"))
    assert isinstance(it.later(after_s), kind)


def test_what_comes_again_knows_what_was_tried() -> None:
    it = Trying(attempts=9)
    it.failed(FAULT, RateLimited("429"), FAULT)
    parked = it.later(1)
    assert isinstance(parked, Park)
    assert isinstance(parked.instead, RequestRouted)
    assert (parked.instead.calls, parked.instead.faults, len(parked.instead.attempts)) == (3, 2, 3)


def test_attempts_run_out_however_many_there_may_be() -> None:
    """More than are listed, and with refusals between them."""
    listed = tuple(Attempt(lane="local/tiny", code="rate_limited", message="429", at=START) for _ in range(MOST_LISTED))
    it = Trying(event={"attempts": listed, "calls": 60, "faults": 29}, attempts=30, give_up_after_s=600)
    assert it.attempts.again(RateLimited("429")) is not False
    it.failed(FAULT)
    assert it.attempts.again(FAULT) is False
    assert it.attempts.verdict(FAULT) is FAULT


def test_a_prompt_at_fault_is_not_tried_again_and_ends_as_what_it_is() -> None:
    it, error = Trying(), ProviderRefused("400")
    assert it.attempts.again(error) is False
    assert it.attempts.verdict(error) is error


def test_a_bug_is_left_to_others() -> None:
    assert Trying().attempts.again(ZeroDivisionError()) is False


def test_without_a_deadline_there_is_no_hurry() -> None:
    assert Trying().attempts.left_s == math.inf

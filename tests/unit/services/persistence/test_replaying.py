"""Which failed requests are run anew, and as what."""

from datetime import timedelta
from typing import Any

import pytest

from services.persistence.failures import Failure, NoFailure, Place
from services.persistence.replaying import Terms, replayed
from shared.errors import InvalidRequest
from shared.events import Request
from tests.support import make
from tests.support.clock import START

LATE = START - timedelta(seconds=1)
SOON = START + timedelta(seconds=1)


def failure(run: int = 0, ended: int = 0, **changes: Any) -> Failure:
    request = make.request(**changes, replay=run)
    return Failure(request, make.failed(request, replay=ended))


def test_a_request_is_run_as_it_was_sent_under_its_id() -> None:
    one = failure(metadata={"k": "v"}, deadline=SOON)
    assert replayed(one, Terms(), START) == one.request.model_copy(update={"replay": 1})


def test_each_run_has_the_next_number_however_often_it_is_asked_for() -> None:
    one = failure(run=2, ended=2)
    runs = [replayed(one, Terms(), START) for _ in range(2)]
    assert [isinstance(run, Request) and run.replay for run in runs] == [3, 3]


def test_one_that_is_on_its_way_is_not_begun_again() -> None:
    refused = replayed(failure(run=1), Terms(ignore_deadline=True), START)
    assert isinstance(refused, NoFailure)
    assert (refused.code, refused.reason) == ("running", "replay 1 is on its way")


@pytest.mark.parametrize("deadline", [LATE, START])
def test_one_that_is_too_late_is_refused_unless_that_does_not_matter(deadline: object) -> None:
    one = failure(deadline=deadline)
    refused = replayed(one, Terms(), START)
    assert isinstance(refused, NoFailure)
    assert refused.code == "deadline_passed"
    assert str(deadline) in refused.reason
    again = replayed(one, Terms(ignore_deadline=True), START)
    assert isinstance(again, Request)
    assert (again.deadline, again.replay) == (None, 1)


def test_it_may_be_run_elsewhere() -> None:
    again = replayed(failure(model="light"), Terms(to="premium"), START)
    assert isinstance(again, Request)
    assert again.model == "premium"


@pytest.mark.parametrize("to", [None, "auto", "premium", "local/large", "large"])
def test_where_it_may_be_run_the_policy_says(to: str | None) -> None:
    Terms(to).check(make.policy())


def test_where_it_may_not_be_run_is_told_with_what_there_is() -> None:
    with pytest.raises(InvalidRequest, match="unknown model 'huge'; known: auto, light, premium, large, tiny") as told:
        Terms("huge").check(make.policy())
    assert told.value.pointer == "/to"


def test_a_place_can_be_written_and_read() -> None:
    place = failure().place
    assert Place.parse(str(place)) == place


@pytest.mark.parametrize("text", ["", "x", "2026-01-02T03:04:05+00:00", "2026-01-02T03:04:05/" + str(make.new_id())])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="what an earlier answer gave as next"):
        Place.parse(text)

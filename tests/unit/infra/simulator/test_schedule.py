"""What of a scenario holds at a time."""

from infra.simulator.scenario import Limits, Window
from infra.simulator.schedule import UNLIMITED, limits_at, windows_at

FIRST = Limits(requests_per_minute=10)
DOUBLED = Limits(from_s=60, requests_per_minute=20)
SMALL = Limits(key="small", requests_per_minute=1)
LATER = Limits(from_s=90, key="small", requests_per_minute=2)


def test_the_latest_limits_that_have_begun_hold() -> None:
    entries = (DOUBLED, FIRST)
    assert limits_at(entries, "any", 59.9) == FIRST
    assert limits_at(entries, "any", 60) == DOUBLED
    assert limits_at((DOUBLED,), "any", 59.9) == UNLIMITED


def test_limits_of_a_key_come_before_those_of_all() -> None:
    entries = (SMALL, LATER, FIRST, DOUBLED)
    assert limits_at(entries, "small", 0) == SMALL
    assert limits_at(entries, "small", 89) == SMALL
    assert limits_at(entries, "small", 90) == LATER
    assert limits_at(entries, "other", 90) == DOUBLED


def test_of_two_that_begin_together_the_first_holds() -> None:
    assert limits_at((FIRST, Limits(requests_per_minute=99)), "any", 0) == FIRST


def test_a_window_begins_when_it_says_and_has_ended_at_its_end() -> None:
    windows = (
        Window(kind="reset", from_s=10, to_s=20),
        Window(kind="hang", key="one"),
        Window(kind="status", status=500, from_s=15),
    )

    def places(key: str, now_s: float) -> list[int]:
        return [place for place, _ in windows_at(windows, key, now_s)]

    assert [places("two", now_s) for now_s in (9.9, 10, 15, 19.9, 20)] == [[], [0], [0, 2], [0, 2], [2]]
    assert places("one", 0) == [1]

"""The checker of histories: what it lets pass, and what it must not."""

from dataclasses import replace
from uuid import UUID

import pytest

from tests.chaos.history import Sent, Terminal, check

A, B, C = (UUID(int=number) for number in (1, 2, 3))
ROW = Terminal(A, "acme", "m1", "completed", "the capital")
OTHER = Terminal(B, "acme", "m2", "completed", "the river")


def sent(*accepted: UUID | None, unknown: int = 0, keyed: bool = False, mark: str = "m1") -> Sent:
    return Sent(mark, "acme", "the capital" if mark == "m1" else "the river", keyed, list(accepted), unknown)


@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        pytest.param([sent(A)], [ROW], id="accepted and answered"),
        pytest.param([sent(None, keyed=True)], [ROW], id="a confirmed publish, whose id nobody was told"),
        pytest.param([sent(unknown=1)], [], id="unknown, and it never came"),
        pytest.param([sent(unknown=1)], [ROW], id="unknown, and it came"),
        pytest.param([sent(A, unknown=1)], [ROW, replace(ROW, id=B)], id="two attempts without a key are two"),
        pytest.param([sent(A, A, unknown=1, keyed=True)], [ROW], id="repeated attempts with a key are one"),
        pytest.param([sent()], [], id="refused"),
        pytest.param([sent(A)], [replace(ROW, status="failed", answers=None)], id="a failure is an end"),
        pytest.param([sent(A), sent(B, mark="m2")], [ROW, OTHER], id="two requests"),
    ],
)
def test_histories_that_may_be(asked: list[Sent], rows: list[Terminal]) -> None:
    assert check(asked, rows, rows) == []
    assert check(asked, rows, [*rows, *rows]) == [], "an event may come twice"


@pytest.mark.parametrize(
    ("kind", "asked", "rows", "events"),
    [
        pytest.param("lost", [sent(A)], [], [], id="an accepted id without a row"),
        pytest.param("lost", [sent(None, keyed=True)], [], [], id="a confirmed publish without a row"),
        pytest.param("lost", [sent(A, C)], [ROW], [ROW], id="one of two accepted ids"),
        pytest.param("twice", [sent(A)], [ROW, ROW], [ROW], id="two rows of one id"),
        pytest.param(
            "twice", [sent(A, unknown=3, keyed=True)], [ROW, replace(ROW, id=B)], [ROW, replace(ROW, id=B)],
            id="two rows under one key",
        ),
        pytest.param("twice", [sent(A)], [ROW], [ROW, replace(ROW, answers="the river")], id="another answer later"),
        pytest.param(
            "twice", [sent(A)], [ROW], [ROW, replace(ROW, status="failed", answers=None)], id="answered, then failed"
        ),
        pytest.param("wrong", [sent(A)], [replace(ROW, answers="the river")], [ROW], id="the answer of another"),
        pytest.param("wrong", [sent(A)], [replace(ROW, answers=None)], [ROW], id="an answer to nothing"),
        pytest.param("wrong", [sent(A)], [replace(ROW, tenant="other")], [ROW], id="the tenant of another"),
        pytest.param(
            "wrong", [sent(A), sent(B, mark="m2")], [ROW, OTHER], [ROW, replace(OTHER, mark="m1")],
            id="the event of another request",
        ),
        pytest.param("unseen", [sent(A)], [ROW], [], id="a row without an event"),
        pytest.param(
            "unseen", [sent(A)], [replace(ROW, status="failed", answers=None)], [ROW], id="a row that no event told"
        ),
        pytest.param("unrecorded", [sent(unknown=1)], [], [ROW], id="an event without a row"),
        pytest.param("stranger", [sent()], [ROW], [ROW], id="a row of a refused request"),
        pytest.param("stranger", [], [ROW], [ROW], id="a row nobody asked for"),
        pytest.param("stranger", [sent(A)], [ROW, replace(ROW, id=B, mark=None)], [ROW], id="a row without a mark"),
    ],
)  # fmt: skip
def test_histories_that_must_not_be(kind: str, asked: list[Sent], rows: list[Terminal], events: list[Terminal]) -> None:
    assert kind in {violation.kind for violation in check(asked, rows, events)}


def test_a_request_that_is_recorded_and_never_ends() -> None:
    (violation,) = check([sent(unknown=1)], [], [], unfinished=[A])
    assert (violation.kind, str(A) in violation.what) == ("unfinished", True)


def test_what_is_wrong_names_the_request() -> None:
    (violation,) = check([sent(A)], [], [])
    assert violation.what == f"m1: {A} was accepted, and has no row"

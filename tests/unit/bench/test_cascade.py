"""What the bench reckons of a cascade, by hand."""

import pytest

from tests.bench.cascade import Answered, run

RIGHT, WRONG = Answered("4", right=True, usd=1.0), Answered("5", right=False, usd=1.0)
SILENT = Answered(None, right=False, usd=1.0)
STRONG = Answered("4", right=True, usd=10.0)
MANY = 8  # or a resample may have no gap


def test_agreement_answers_and_all_else_goes_to_the_strong_model() -> None:
    pairs = ((RIGHT, RIGHT), (RIGHT, WRONG), (WRONG, WRONG), (SILENT, SILENT))
    rows = [{"a": one, "b": other, "s": STRONG} for one, other in pairs] * MANY
    done = run(rows, ("a", "b"), "s")
    assert done.passed.tolist() == [True, False, True, False] * MANY
    assert done.quality.tolist() == [1, 1, 0, 1] * MANY
    assert done.usd.tolist() == [2, 12, 2, 12] * MANY
    assert done.escalated == 0.5
    assert done.recovered().value == 0.5
    assert done.cost().value == pytest.approx(28 / 40)
    assert done.cost(times=3).value == pytest.approx((6 + 16 + 6 + 16) / 40)


def test_the_third_is_asked_only_where_two_differ() -> None:
    rows = [{"a": RIGHT, "b": b, "c": c, "s": STRONG} for b, c in ((RIGHT, WRONG), (WRONG, RIGHT), (WRONG, SILENT))]
    done = run(rows, ("a", "b", "c"), "s")
    assert done.passed.tolist() == [True, True, False]
    assert done.usd.tolist() == [2, 3, 13]

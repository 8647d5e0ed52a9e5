"""What a bench prints."""

import json
import math

import pytest

from tests.bench.report import Measure, report


def test_the_last_line_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    report("b", [Measure("hits", 1.0, "%", ">= 1 %", 0.5, "cosine"), Measure("time", 2.0, "ms")], "a title")
    out = capsys.readouterr().out
    assert "a title" in out
    last = json.loads(out.strip().splitlines()[-1])
    assert last["bench"] == "b"
    assert last["measures"][0]["anchor_name"] == "cosine"


def test_what_never_came_is_said_so_and_null_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    report("b", [Measure("limit used", math.nan, "s", anchor=math.nan, anchor_name="another")], "a title")
    out = capsys.readouterr().out
    assert out.count("never") == 2
    last = json.loads(out.strip().splitlines()[-1])
    assert last["measures"][0]["value"] is None
    assert last["measures"][0]["anchor"] is None

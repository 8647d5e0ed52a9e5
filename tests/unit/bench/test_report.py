"""What a bench prints."""

import json

import pytest

from tests.bench.report import Measure, report


def test_the_last_line_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    report("b", [Measure("hits", 1.0, "%", ">= 1 %", 0.5, "cosine"), Measure("time", 2.0, "ms")], "a title")
    out = capsys.readouterr().out
    assert "a title" in out
    last = json.loads(out.strip().splitlines()[-1])
    assert last["bench"] == "b"
    assert last["measures"][0]["anchor_name"] == "cosine"

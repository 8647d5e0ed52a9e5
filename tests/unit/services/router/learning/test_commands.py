"""``forebay router train`` and ``eval``."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from services.router import commands as router
from services.router.learning import commands
from services.router.learning.head import Head
from tests.unit.services.router.learning.conftest import made_up, unit_vectors

RUNNER = CliRunner()
app = typer.Typer()
router.register(app)


@app.callback()
def _forebay() -> None:
    """With one group of commands alone, typer would leave its name out."""


@pytest.fixture(autouse=True)
def _made_up_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real model would take a minute for what these tests ask of it."""
    monkeypatch.setattr(commands._Embedder, "embed", lambda _, texts: unit_vectors(len(texts)))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return written(tmp_path / "rows.jsonl", told=0.9)


def written(file: Path, told: float) -> Path:
    lines = ({"prompt": r.prompt, "weak_quality": 1 - r.gain, "strong_quality": 1} for r in made_up(400, told=told))
    file.write_text("\n".join(map(json.dumps, lines)))
    return file


def test_a_head_that_is_better_is_written_with_its_figures(rows: Path, tmp_path: Path) -> None:
    target = tmp_path / "head.json"
    ended = RUNNER.invoke(app, ["router", "train", str(rows), "--out", str(target)])
    assert ended.exit_code == 0, ended.output
    assert Head.load(target).record.rows > 200


def test_one_that_is_not_is_written_by_force_only(tmp_path: Path) -> None:
    target, useless = tmp_path / "head.json", written(tmp_path / "useless.jsonl", told=0.5)
    ended = RUNNER.invoke(app, ["router", "train", str(useless), "--out", str(target)])
    assert ended.exit_code == 1
    assert not target.exists()
    assert RUNNER.invoke(app, ["router", "train", str(useless), "--out", str(target), "--force"]).exit_code == 0
    assert target.exists()


def test_a_head_is_measured_on_rows_it_has_not_seen(rows: Path, tmp_path: Path) -> None:
    target = tmp_path / "head.json"
    RUNNER.invoke(app, ["router", "train", str(rows), "--out", str(target)])
    assert RUNNER.invoke(app, ["router", "eval", str(rows), "--head", str(target)]).exit_code == 0
    assert RUNNER.invoke(app, ["router", "eval", str(rows)]).exit_code == 0


@pytest.mark.parametrize("command", [["train", "--out", "head.json"], ["eval"]])
def test_wrong_rows_end_it_with_a_line_and_no_traceback(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("{}")
    ended = RUNNER.invoke(app, ["router", *command, str(tmp_path / "rows")])
    assert ended.exit_code == 1
    assert isinstance(ended.exception, SystemExit)

"""``forebay router train`` and ``eval``."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from infra.local import stack
from infra.local.record import Stack
from services.router import commands as router
from services.router.learning import commands, feedback
from services.router.learning.head import Head
from services.router.learning.rows import Rating
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


def written(file: Path, told: float, seed: int = 0, only: slice = slice(None)) -> Path:
    rows = made_up(400, told=told, seed=seed)[only]
    lines = ({"prompt": r.prompt, "weak_quality": 1 - r.gain, "strong_quality": 1} for r in rows)
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


def test_rows_it_was_trained_on_are_left_out_of_another_file_too(rows: Path, tmp_path: Path) -> None:
    target, more = tmp_path / "head.json", written(tmp_path / "more.jsonl", told=0.9, seed=7)
    RUNNER.invoke(app, ["router", "train", str(rows), "--out", str(target)])
    trained = Head.load(target).record.rows
    ended = RUNNER.invoke(app, ["router", "eval", str(rows), str(more), "--head", str(target)])
    assert ended.exit_code == 0, ended.output
    said = f"{trained} of 800 rows left out: the head was trained on these prompts"
    assert said in " ".join(ended.stderr.split())
    assert f"{800 - trained} prompts, head/" in ended.stdout
    alone = RUNNER.invoke(app, ["router", "eval", str(more), "--head", str(target)])
    assert "left out" not in alone.stderr
    assert "400 prompts, head/" in alone.stdout


@pytest.mark.parametrize("count", [1, 49])
def test_too_few_rows_to_tell_are_said_to_be_too_few(rows: Path, tmp_path: Path, count: int) -> None:
    target, few = tmp_path / "head.json", written(tmp_path / "few", told=0.9, seed=7, only=slice(count))
    RUNNER.invoke(app, ["router", "train", str(rows), "--out", str(target)])
    for head in ([], ["--head", str(target)]):
        ended = RUNNER.invoke(app, ["router", "eval", str(few), *head])
        assert ended.exit_code == 1
        assert f"{count} rows to measure on: at least 50 are needed" in ended.stderr
        assert ended.stdout == ""


def test_where_the_head_has_seen_all_rows_none_are_left(rows: Path, tmp_path: Path) -> None:
    target = tmp_path / "head.json"
    RUNNER.invoke(app, ["router", "train", str(rows), "--out", str(target)])
    head, seen = Head.load(target), tmp_path / "seen"
    lines = rows.read_text().splitlines()
    seen.write_text("\n".join(line for line in lines if not head.never_saw(json.loads(line)["prompt"])))
    ended = RUNNER.invoke(app, ["router", "eval", str(seen), "--head", str(target)])
    assert (ended.exit_code, "no rows are left" in ended.stderr) == (1, True)


class Feedback:
    """What PostgreSQL would have.

    Attributes:
        asked: the arguments of each query.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[timedelta, str | None, int]] = []
        rng = np.random.default_rng(0)
        self.ratings = [
            Rating(prompt=row.prompt, good=1.0 if strong else 1 - row.gain, tier="premium" if strong else "light")
            for row in made_up(2000)
            for strong in [bool(rng.random() < 0.5)]
        ]

    async def rated(
        self, _: object, since: datetime, until: datetime, *, tenant: str | None, limit: int
    ) -> list[Rating]:
        self.asked.append((until - since, tenant, limit))
        return self.ratings


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Feedback:
    found = Feedback()
    monkeypatch.setattr(feedback, "rated", found.rated)
    up = Stack(postgres_dsn="postgresql://nowhere", home=tmp_path, supervisor=tmp_path)
    monkeypatch.setattr(stack, "read", lambda _: up)
    return found


def test_a_head_is_trained_on_what_clients_said(given: Feedback, tmp_path: Path) -> None:
    target = tmp_path / "head.json"
    given.ratings += [Rating(prompt="p", good=1.0, tier="middle")] * 3
    arguments = ["--from-feedback", "--since", "7d", "--tenant", "acme", "--limit", "5000"]
    ended = RUNNER.invoke(app, ["router", "train", *arguments, "--out", str(target)])
    assert ended.exit_code == 0, ended.output
    assert given.asked == [(timedelta(days=7), "acme", 5000)]
    record = Head.load(target).record
    assert record.rows + record.held_out_rows == 2000
    told = " ".join(ended.stderr.split())
    assert "2003 ratings of answers that were bought in the last 7d" in told
    assert "3 of other tiers than light and premium left out" in told


def test_without_feedback_the_error_says_how_much_is_needed(given: Feedback, tmp_path: Path) -> None:
    for few, said in ((given.ratings[:30], "at least 50 of each tier"), ([], "no rows are left")):
        given.ratings = few
        ended = RUNNER.invoke(app, ["router", "train", "--from-feedback", "--out", str(tmp_path / "head.json")])
        assert ended.exit_code == 1
        assert said in " ".join(ended.stderr.split())


def test_rows_are_from_files_or_from_feedback(given: Feedback, rows: Path) -> None:
    for arguments in ([], [str(rows), "--from-feedback"]):
        ended = RUNNER.invoke(app, ["router", "train", *arguments, "--out", "head.json"])
        assert ended.exit_code == 1
        assert "give files of rows, or --from-feedback: one of the two" in ended.stderr
    assert given.asked == []
    ended = RUNNER.invoke(app, ["router", "train", "--from-feedback", "--since", "soon", "--out", "head.json"])
    assert "--since: 'soon' is no duration" in " ".join(ended.stderr.split())

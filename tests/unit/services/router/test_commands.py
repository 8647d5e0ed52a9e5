"""``forebay router``."""

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from structlog.typing import EventDict
from typer.testing import CliRunner, Result

from services.router import commands
from services.router.vectors import Embedding
from shared.settings import packaged_policy
from tests.unit.services.router.learning.conftest import DIMENSIONS, EMBEDDER, trained

app = typer.Typer()
commands.register(app)


@app.callback()
def _forebay() -> None:
    """With one group of commands alone, typer would leave its name out."""


def forebay(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_a_decision_is_explained_without_a_stack() -> None:
    shown = forebay("router", "explain", "Prove step by step that it holds.")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.splitlines()[0].startswith("premium (")
    assert "reasoning: 'Prove' (+3)" in shown.stdout
    assert json.loads(forebay("router", "explain", "Hello", "--model", "light", "--json").stdout)["tier"] == "light"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("explain", "Hello", "--model", "gpt-2"),
            "the policy knows no model 'gpt-2'; it has the tiers light, premium",
        ),
        (("explain", " "), "an empty prompt"),
        (("explain", "Hello", "--tenant", "a b"), "tenant: String should match pattern"),
        (("explain", "Hello", "--policy", "nowhere.toml"), "nowhere.toml: No such file"),
        (("replay", "--policy", "nowhere.toml"), "nowhere.toml: No such file"),
    ],
)
def test_mistakes_are_said_in_a_line(arguments: tuple[str, ...], said: str) -> None:
    shown = forebay("router", *arguments)
    assert shown.exit_code == 1
    assert said in " ".join(shown.stderr.split())
    assert "Traceback" not in shown.output


@pytest.mark.parametrize("since", ["yesterday", "1.5h"])
def test_a_duration_that_is_none_is_named(since: str) -> None:
    shown = forebay("router", "replay", "--policy", str(packaged_policy()), "--since", since)
    assert shown.exit_code == 1
    assert f"--since: {since!r} is no duration" in " ".join(shown.stderr.split())


def policy(folder: Path, more: str = "", **changes: str) -> Path:
    """The policy that ships, with lines of ``[router]`` before its own and more at the end."""
    text = packaged_policy().read_text(encoding="utf-8")
    lines = "".join(f"{key} = {value}\n" for key, value in changes.items())
    file = folder / "policy.toml"
    file.write_text(text.replace("[router]\n", f"[router]\n{lines}") + more, encoding="utf-8")
    return file


HEAD = '\n[router.head]\nfile = "head.json"\nthreshold = -1.0\n'


@pytest.mark.parametrize("embedded", [True, False])
def test_a_head_that_decides_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedded: bool) -> None:
    vector = Embedding(np.eye(1, DIMENSIONS, dtype=np.float32)[0], EMBEDDER)
    monkeypatch.setattr(commands, "_embedding", lambda *_: vector if embedded else None)
    head = trained().head
    head.save(tmp_path / "head.json")
    shown = forebay("router", "explain", "stone 12", "--policy", str(policy(tmp_path, HEAD)))
    assert shown.exit_code == 0, shown.output
    first, *reasons = shown.stdout.splitlines()
    assert first.startswith("premium (")
    assert first.endswith(f"scored by {head.version}")
    assert reasons[0].strip().startswith(f"{head.version}: average gain")
    assert any(reason.strip().startswith("embedding ") for reason in reasons) is embedded


def test_a_head_that_is_missing_is_said_in_a_line(tmp_path: Path) -> None:
    shown = forebay("router", "explain", "stone 12", "--policy", str(policy(tmp_path, HEAD)))
    assert shown.exit_code == 1
    assert "`forebay router train` makes one" in " ".join(shown.stderr.split())


def test_the_policy_that_is_tried_out_is_explained_too(tmp_path: Path) -> None:
    shipped = packaged_policy().read_text(encoding="utf-8")
    (tmp_path / "other.toml").write_text(shipped.replace("premium = 2.0", "premium = -9.0"), encoding="utf-8")
    arguments = ("explain", "What is the capital of Norway?", "--policy", str(policy(tmp_path, shadow='"other.toml"')))
    shown = forebay("router", *arguments)
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert lines[0].startswith("light (")
    assert any("other.toml: premium (" in line for line in lines)
    assert lines[-1].endswith("premium from -9")
    said = json.loads(forebay("router", *arguments, "--json").stdout)
    assert (said["tier"], said["shadow"]["tier"]) == ("light", "premium")


def test_one_that_does_not_know_the_model_would_refuse(tmp_path: Path) -> None:
    shipped = packaged_policy().read_text(encoding="utf-8")
    (tmp_path / "other.toml").write_text(shipped.replace("premium", "large"), encoding="utf-8")
    file = str(policy(tmp_path, shadow='"other.toml"'))
    shown = forebay("router", "explain", "Hello", "--policy", file, "--model", "premium")
    assert shown.exit_code == 0, shown.output
    assert "other.toml: would refuse it" in " ".join(shown.stdout.split())


def test_the_prompt_is_embedded_as_the_cache_would_where_a_head_asks_for_it(
    tmp_path: Path, logged: list[EventDict]
) -> None:
    trained().head.save(tmp_path / "head.json")
    shown = forebay("router", "explain", "stone 12", "--policy", str(policy(tmp_path, HEAD)), "--json")
    assert shown.exit_code == 0, shown.output
    # This head was trained on vectors of another revision, so that the rules decide: the real embedder was asked.
    assert json.loads(shown.stdout)["scorer"] == "rules"
    assert [line["log_level"] for line in logged] == ["warning"]

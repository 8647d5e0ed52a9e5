"""``forebay router``."""

import json

import pytest
import typer
from typer.testing import CliRunner, Result

from services.router import commands
from shared.settings import packaged_policy

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

"""``forebay policy check``."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from shared.cli import app
from shared.settings import packaged_policy

SHIPPED = packaged_policy().read_text(encoding="utf-8")


def check(file: Path) -> Result:
    return CliRunner().invoke(app, ["policy", "check", str(file)])


def test_what_ships_is_valid_and_what_it_decides_is_shown() -> None:
    shown = check(packaged_policy())
    assert shown.exit_code == 0, shown.output
    said = {" ".join(line.split()) for line in shown.stdout.splitlines()}
    assert {
        "routing light < premium; without a signal light",
        "to premium from +2",
        "freshness static 7d, the default",
    } <= said
    assert any(line.startswith("cache similarity from 0.") and line.endswith("of hits") for line in said)


def test_shares_budget_limits_and_files_are_shown(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(SHIPPED, encoding="utf-8")
    (tmp_path / "head.json").write_text("{}", encoding="utf-8")
    file = tmp_path / "policy.toml"
    more = """
[router.shares]
premium = 0.25
[router.head]
file = "head.json"
[router.tenants.acme]
usd_per_day = 5.0
"""
    text = SHIPPED.replace("[router]", '[router]\nusd_per_day = 20.0\nshadow = "other.toml"') + more
    file.write_text(text, encoding="utf-8")
    shown = check(file)
    assert shown.exit_code == 0, shown.output
    said = " ".join(shown.stdout.split())
    for each in (
        "to premium 25.0% of requests, until then from +2",
        "budget 20 USD a day",
        "limits of acme",
        "head.json, threshold its own",
        "other.toml, valid",
    ):
        assert each in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SHIPPED.replace("premium = 2.0", "premum = 2.0"), "router: thresholds.premum: not one of the tiers above"),
        (SHIPPED + "\n[router.shares]\npremium = 25\n", "router.shares.premium: 25 is not from 0 to 1"),
        (SHIPPED + '\n[router.head]\nfile = "none.json"\n', "router.head.file: "),
        (SHIPPED.replace("[router]", '[router]\nshadow = "none.toml"'), "router.shadow: "),
        ("[router", "policy.toml: "),
    ],
    ids=["threshold", "share", "head", "shadow", "no TOML"],
)
def test_a_mistake_ends_it_with_two_and_names_its_key(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(text, encoding="utf-8")
    shown = check(file)
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert said in " ".join(shown.stderr.split())


def test_a_missing_file_is_named_and_no_variable(tmp_path: Path) -> None:
    shown = check(tmp_path / "none.toml")
    assert shown.exit_code == 2
    assert "none.toml: No such file" in " ".join(shown.stderr.split())
    assert "FOREBAY_POLICY_FILE" not in shown.stderr

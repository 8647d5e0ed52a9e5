"""Settings from the environment."""

import pytest

from shared import settings
from shared.errors import InvalidSettings
from shared.settings import PREFIX, Settings


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)


def test_every_setting_says_what_it_is() -> None:
    undocumented = [name for name, field in Settings.model_fields.items() if not (field.description or "").strip()]
    assert undocumented == []


def test_the_table_has_a_line_for_every_setting_and_no_path_of_this_machine() -> None:
    table = {name: (default, meaning) for name, default, meaning in Settings.table()}
    assert set(table) == set(Settings.model_fields)
    assert table["http_port"][0] == "8080"
    assert table["policy_file"][0] == "infra/policy.toml"
    assert all(meaning for _, meaning in table.values())


def test_without_any_variable_the_defaults_are_valid() -> None:
    assert settings.load().policy_file.exists()


def test_a_variable_is_read_and_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_HTTP_PORT", "0")
    monkeypatch.setenv("FOREBAY_TICK_MS", "250")
    loaded = settings.load()
    assert (loaded.http_port, loaded.tick_ms) == (0, 250)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTP_PORT", "70000"),
        ("HTTP_PORT", "eighty"),
        ("PREFETCH", "0"),
        ("SHUTDOWN_S", "-1"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "loud"),
        ("TICK_MS", "1.5"),
        ("POOL_SIZE", ""),
    ],
)
def test_a_wrong_variable_is_named_with_what_was_found(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PREFIX + variable, value)
    with pytest.raises(InvalidSettings, match=rf"^{PREFIX}{variable}: .+ \(got '{value}'\)$"):
        settings.load()


def test_all_wrong_variables_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_HTTP_PORT", "x")
    monkeypatch.setenv("FOREBAY_PREFETCH", "-3")
    with pytest.raises(InvalidSettings, match=r"FOREBAY_HTTP_PORT: .*; FOREBAY_PREFETCH: "):
        settings.load()


def test_the_secret_does_not_show_when_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_ID_SECRET", "very-secret-indeed")
    loaded = settings.load()
    assert loaded.id_secret.get_secret_value() == "very-secret-indeed"
    assert "very-secret-indeed" not in repr(loaded)


@pytest.mark.parametrize("variable", ["SHUTDOWN_S", "PUBLISH_TIMEOUT_S", "MAX_WAIT_S"])
def test_seconds_are_finite(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + variable, "inf")
    with pytest.raises(InvalidSettings, match=PREFIX + variable):
        settings.load()


def test_an_empty_secret_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_ID_SECRET", "")
    with pytest.raises(InvalidSettings, match="FOREBAY_ID_SECRET"):
        settings.load()

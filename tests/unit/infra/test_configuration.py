"""What supervisord reads must be what was meant, however odd the path."""

from configparser import RawConfigParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from supervisor.options import ServerOptions

from infra.local import configuration
from infra.local.program import HOME_MARK, PROGRAM_MARK, Program

PLAIN = Program(name="cache", command=("server", "--port", "1"), port=1, ready=bool)


def parsed_by_supervisor(text: str, folder: Path) -> dict[str, list[str]]:
    """The commands of all programs, as supervisord itself reads and splits them."""
    import shlex

    file = folder / "supervisord.conf"
    file.write_text(text)
    options = ServerOptions()
    with file.open() as handle:
        settings = options.read_config(handle)
    processes = [process for group in settings.process_group_configs for process in group.process_configs]
    return {process.name: shlex.split(process.command) for process in processes}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, with the folders that supervisord wants to see, as the current one."""
    for name in ("log", "run"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "home",
    [
        "/plain",
        "/with space",
        "/100%",
        "/%(here)s",
        "/a ;b",
        "/a #b",
        "/it's",
        '/"quoted"',
        "/dollar $HOME",
        "/ünïcode",
    ],
)
def test_supervisord_reads_back_the_command(home: str, folder: Path) -> None:
    commands = parsed_by_supervisor(configuration.render([PLAIN], home, "run/supervisor.sock"), folder)
    assert commands["cache"] == PLAIN.full_command(home)
    assert commands["watch"][-1] == home


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], include_characters=" "), min_size=1))
)
def test_words_survive_the_parser(words: list[str]) -> None:
    import shlex

    parser = RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    parser.read_string(f"[program:x]\ncommand=env {configuration.words(words)}\n")
    assert shlex.split(parser.get("program:x", "command") % {}) == ["env", *words]


def test_a_program_has_what_its_operation_needs(folder: Path) -> None:
    program = Program(
        name="postgres", command=("p",), port=1, ready=bool, stop_signal="INT", stop_wait_s=33, settle_s=4
    )
    text = configuration.render([program], str(folder), "run/supervisor.sock")
    section = text.split("[program:postgres]")[1]
    for line in ("autostart=false", "autorestart=true", "startsecs=4", "stopsignal=INT", "stopwaitsecs=33"):
        assert f"\n{line}\n" in section
    assert "stdout_logfile=log/postgres.log\n" in section


@pytest.mark.parametrize(("limit", "asked"), [(-1, 16_384), (1_000_000, 16_384), (4_096, 4_096)])
def test_open_files_stay_within_what_may_be_had(limit: int, asked: int) -> None:
    assert f"\nminfds={asked}\n" in configuration.render([], "/home", "run/supervisor.sock", limit)


def test_every_process_carries_its_marks() -> None:
    command = PLAIN.full_command("/home")
    assert f"{HOME_MARK}=/home" in command
    assert f"{PROGRAM_MARK}=cache" in command
    assert "-i" not in command


def test_a_clean_environment_is_all_there_is() -> None:
    program = Program(name="x", command=("run",), port=1, ready=bool, env={"A": "b c"}, clean_env=True)
    assert program.full_command("/h")[:3] == ["/usr/bin/env", "-i", "A=b c"]

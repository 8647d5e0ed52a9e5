"""What strangers wrote, on a terminal."""

import io
import json
import sys
import unicodedata
from collections.abc import Callable

import pytest
from rich.table import Table
from typer.testing import Result

from infra.local import stack
from infra.local.record import Running, Stack
from shared.cli.console import Console, printable
from tests.unit.shared.cli.conftest import Services

Cli = Callable[..., Result]
ID = "0194283f-7a31-7c52-9d18-3f1c2b4a5d6e"
# Clears the screen, renames the window, begins a command by one byte, writes from right to left, is half a pair.
EVIL = "\x1b[2J\x1b]0;mine\x07 \x9b31m \x7f \u202e \ud800 é\t[b]"
SHOWN = "\\u001b[2J"
FAILURE = {
    "id": ID,
    "tenant": "acme",
    "class": EVIL,
    "tier": EVIL,
    "attempts": 1,
    "failed_at": "2026-01-02T03:04:05+00:00",
    "deadline_passed": False,
    "prompt": EVIL,
}


@pytest.fixture(autouse=True)
def stack_(running: Stack, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    place = {name: Running(pid=1, port=port, log="") for name in ("persistence", "cache", "trends")}
    monkeypatch.setattr(stack, "read", lambda _: running.model_copy(update={"services": place}))


def test_every_control_character_but_tab_and_newline_is_written_out() -> None:
    controls = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) in ("Cc", "Cs")]
    assert {character for character in controls if printable(character) == character} == {"\t", "\n"}
    assert all(
        json.loads(f'"{printable(character)}"') == character for character in controls if character not in "\t\n"
    )
    assert printable("Grüße, 東京\t– עולם 🙂\n") == "Grüße, 東京\t– עולם 🙂\n"


def test_lines_may_end_as_windows_has_it() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print("one\r\ntwo\rthree", markup=False)
    assert console.file.getvalue() == "one\ntwo\\u000dthree\n"  # type: ignore[attr-defined]  # it is the one above


def test_colours_are_the_consoles_own() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system="standard")
    table = Table("a")
    table.add_row("x\x1b[31my")
    console.print("[red]red[/red]\x1b[2J", table, highlight=False)
    written = console.file.getvalue()  # type: ignore[attr-defined]  # it is the one above
    assert "\x1b[31mred\x1b[0m\\u001b[2J" in written
    assert "x\\u001b[31my" in written


@pytest.mark.parametrize(
    ("call", "answer", "command"),
    [
        ("GET /v1/dead?limit=50", {"data": [FAILURE], "classes": [], "next": None}, ("dead", "list")),
        (
            "GET /v1/dead/queues/x?limit=20",
            {
                "data": [
                    {
                        "code": EVIL,
                        "reason": EVIL,
                        "request_id": None,
                        "headers": {EVIL: EVIL},
                        "body": EVIL,
                        "bytes": 1,
                    }
                ]
            },
            ("dead", "letters", "x"),
        ),
        (
            "POST /v1/lookup",
            {"verdict": {"tier": "miss", "reason": EVIL}, "candidates": [{"prompt": EVIL}], "answer": EVIL},
            ("cache", "lookup", "a", "--explain"),
        ),
        (
            "GET /v1/topics",
            {
                "enabled": True,
                "trending": [],
                "topics": [{"topic_id": ID, "terms": [EVIL], "tenant": EVIL, "origin": "told", "reason": EVIL}],
                "rising": [],
                "rule": {"ratio": 4.0, "floor": 36.0},
                "max_age_s": 1,
            },
            ("topics",),
        ),
        (
            f"GET /v1/requests/{ID}",
            {"id": ID, "status": "completed", "output_text": EVIL, "warnings": [EVIL]},
            ("result", ID),
        ),
        (
            f"GET /v1/requests/{ID}",
            {"id": ID, "status": "failed", "error": {"code": "x", "message": EVIL + "[/none]"}},
            ("result", ID),
        ),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)
def test_no_command_hands_them_to_the_terminal(
    cli: Cli, services: Services, call: str, answer: object, command: tuple[str, ...]
) -> None:
    services.answer(call, answer)
    printed = cli(*command).output
    assert SHOWN in printed
    assert printable(printed) == printed


def test_json_is_the_same_for_programs(cli: Cli, services: Services) -> None:
    services.answer(f"GET /v1/dead/{ID}", FAILURE)
    printed = cli("dead", "show", ID).output
    assert printable(printed) == printed
    assert json.loads(printed) == FAILURE

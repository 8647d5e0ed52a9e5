"""``forebay dead`` and ``forebay cancel``."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest
from typer.testing import Result

from infra.local import stack
from infra.local.record import Running, Stack
from services.persistence.asking import Replay, Selection, selection
from shared.cli import dead
from shared.errors import InvalidRequest
from tests.support.clock import HurriedClock
from tests.unit.shared.cli.conftest import Answer, Asked, Services

Cli = Callable[..., Result]
ID = "0194283f-7a31-7c52-9d18-3f1c2b4a5d6e"
A, B, C = (f"00000000-0000-8000-8000-00000000000{digit}" for digit in "abc")
FAILURE = {
    "id": ID,
    "tenant": "acme",
    "class": "rate_limited",
    "tier": "light",
    "attempts": 3,
    "failed_at": "2026-01-02T03:04:05+00:00",
    "deadline_passed": True,
    "prompt": "What is\n[the] capital?",
}
CLASSES = [
    {"class": "rate_limited", "failures": 7, "first_at": FAILURE["failed_at"], "last_at": "2026-01-02T04:04:05+00:00"}
]


class Persistence(Services):
    """Refuses the bodies that persistence refuses."""

    KINDS: ClassVar = {"POST /v1/dead/replay": Replay, "POST /v1/dead/drop": Selection}

    def take(self, asked: Asked) -> Answer:
        kind = self.KINDS.get(f"{asked.method} {asked.path}")
        try:
            if kind is not None:
                selection(kind, json.dumps(asked.body).encode())
        except InvalidRequest as error:
            return 400, {"title": "Bad Request", "detail": error.message}
        return super().take(asked)


@pytest.fixture
def services() -> Services:
    return Persistence()


@pytest.fixture(autouse=True)
def stack_(running: Stack, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = running.model_copy(update={"services": {"persistence": Running(pid=1, port=port, log="")}})
    monkeypatch.setattr(stack, "read", lambda _: found)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each pause; none takes any time."""
    clock = HurriedClock()
    monkeypatch.setattr(dead, "SYSTEM_CLOCK", clock)
    return clock.slept


def done(*ids: str, part: str = "replayed", next_: str | None = None, **more: Any) -> dict[str, Any]:
    rows = [{"id": each, "tenant": "acme", "class": "rate_limited"} for each in ids]
    return {part: rows, "refused": [], "next": next_} | more


def bodies(services: Services) -> list[Any]:
    return [asked.body for asked in services.asked]


def query(services: Services) -> dict[str, list[str]]:
    return parse_qs(urlsplit(services.asked[-1].path).query)


def test_the_list_shows_classes_and_failures(cli: Cli, services: Services) -> None:
    services.answer("GET /v1/dead?limit=50", {"data": [FAILURE], "classes": CLASSES, "next": "x"})
    shown = cli("dead", "list")
    assert shown.exit_code == 0, shown.output
    assert "rate_limited         7  2026-01-02 03:04:05Z  2026-01-02 04:04:05Z" in shown.output
    assert f"{ID}  2026-01-02 03:04:05Z  acme    rate_limited (deadline passed)  light" in shown.output
    assert "What is [the] capital?" in shown.output
    assert "more with --limit" in shown.output
    assert json.loads(cli("dead", "list", "--json").output)["data"] == [FAILURE]


def test_an_empty_list_says_so(cli: Cli, services: Services) -> None:
    services.answer("GET /v1/dead?limit=50", {"data": [], "classes": [], "next": None})
    assert cli("dead", "list").output == "no failures\n"


def test_the_list_is_of_what_was_asked_for(cli: Cli, services: Services) -> None:
    cli(*("dead", "list", "--class", "a", "--class", "b", "--tenant", "acme", "--limit", "3", "--since", "2h"))
    asked = query(services)
    since = datetime.fromisoformat(asked.pop("since")[0])
    assert asked == {"class": ["a", "b"], "tenant": ["acme"], "limit": ["3"]}
    assert timedelta(hours=2) <= datetime.now(UTC) - since < timedelta(hours=2, minutes=5)
    cli("dead", "list", "--until", "2026-01-02T03:04:05Z")
    assert query(services)["until"] == ["2026-01-02T03:04:05+00:00"]


@pytest.mark.parametrize("time", ["yesterday", "99999999999d", "-1h"])
def test_a_time_that_is_none_is_told(cli: Cli, services: Services, time: str) -> None:
    shown = cli("dead", "list", f"--since={time}")
    assert shown.exit_code == 1
    assert f"--since: {time!r} is neither a time" in shown.output
    assert services.asked == []


def test_a_failure_is_shown_whole(cli: Cli, services: Services) -> None:
    services.answer(f"GET /v1/dead/{ID}", FAILURE | {"request": {"input": "hello"}})
    assert json.loads(cli("dead", "show", ID).output)["request"] == {"input": "hello"}
    shown = cli("dead", "show", "other")
    assert (shown.exit_code, "404" in shown.output) == (1, True)


def test_named_requests_are_replayed(cli: Cli, services: Services, pauses: list[float]) -> None:
    services.answer("POST /v1/dead/replay", done(A), done(B), done(C))
    shown = cli("dead", "replay", A, B, C, "--rate", "1.5", "--to", "premium", "--ignore-deadline")
    assert shown.exit_code == 0, shown.output
    assert "3 replayed, 0 refused" in shown.output
    assert bodies(services) == [
        {"ids": [each], "to": "premium", "ignore_deadline": True, "dry_run": False, "more": each != C}
        for each in (A, B, C)
    ]
    assert pauses == pytest.approx([1 / 1.5] * 2)


def test_what_meets_conditions_is_replayed_part_by_part_at_its_rate(
    cli: Cli, services: Services, pauses: list[float]
) -> None:
    services.answer("POST /v1/dead/replay", done("a", "b", next_="p1"), done("c", next_="p2"), done())
    shown = cli("dead", "replay", "--class", "rate_limited", "--until", "2026-01-02T03:04:05Z", "--rate", "2")
    assert shown.exit_code == 0, shown.output
    assert "3 replayed, 0 refused" in shown.output
    assert [(body["limit"], body["after"]) for body in bodies(services)] == [(2, None), (2, "p1"), (2, "p2")]
    assert {body["until"] for body in bodies(services)} == {"2026-01-02T03:04:05+00:00"}
    assert pauses == [1.0, 0.5]


def test_what_fails_again_meanwhile_is_not_meant(cli: Cli, services: Services, pauses: list[float]) -> None:
    services.answer("POST /v1/dead/replay", done("a", next_="p"), done())
    shown = cli("dead", "replay", "--all")
    assert shown.exit_code == 0, shown.output
    untils = {body["until"] for body in bodies(services)}
    assert len(untils) == 1
    assert datetime.fromisoformat(untils.pop()) <= datetime.now(UTC)


def test_no_more_are_replayed_than_was_said(cli: Cli, services: Services, pauses: list[float]) -> None:
    services.answer("POST /v1/dead/replay", done("a", "b", next_="p"), done("c", next_="q"))
    assert "3 replayed" in cli("dead", "replay", "--all", "--limit", "3", "--rate", "2").output
    assert [(body["limit"], body["more"]) for body in bodies(services)] == [(2, True), (1, False)]
    services.asked.clear()
    cli("dead", "replay", A, B, C, "--limit", "2")
    assert bodies(services)[0]["ids"] == [A, B]


def test_a_dry_run_shows_what_would_be_and_does_not_wait(cli: Cli, services: Services, pauses: list[float]) -> None:
    services.answer("POST /v1/dead/replay", done("a", next_="p"), done("b"))
    shown = cli("dead", "replay", "--all", "--dry-run", "--rate", "0.1")
    assert ("a  rate_limited  acme" in shown.output, "2 would be replayed" in shown.output) == (True, True)
    assert [body["dry_run"] for body in bodies(services)] == [True, True]
    assert pauses == []


def test_what_is_refused_is_told_with_its_reason(cli: Cli, services: Services, pauses: list[float]) -> None:
    refused = [{"id": "b", "code": "running", "reason": "replay [1] is on its way"}]
    services.answer("POST /v1/dead/replay", done("a", refused=refused))
    shown = cli("dead", "replay", A, B)
    assert shown.exit_code == 1
    assert "b replay [1] is on its way" in shown.output
    assert "1 replayed, 1 refused" in shown.output


def test_failures_are_dropped(cli: Cli, services: Services) -> None:
    services.answer("POST /v1/dead/drop", done("a", part="dropped", next_="p"), done("b", part="dropped"))
    shown = cli("dead", "drop", "--tenant", "acme")
    assert shown.exit_code == 0, shown.output
    assert "2 dropped, 0 refused" in shown.output
    assert [(body["tenant"], body["limit"], body["after"]) for body in bodies(services)] == [
        ("acme", 100, None),
        ("acme", 100, "p"),
    ]


def test_all_failures_are_dropped(cli: Cli, services: Services) -> None:
    services.answer("POST /v1/dead/drop", done("a", part="dropped"))
    shown = cli("dead", "drop", "--all")
    assert "1 dropped, 0 refused" in shown.output
    (body,) = bodies(services)
    assert body["everything"] is True


@pytest.mark.parametrize("command", ["replay", "drop"])
@pytest.mark.parametrize("arguments", [(), ("a", "--all"), ("a", "--class", "x"), ("--all", "--tenant", "acme")])
def test_it_has_to_be_said_which(cli: Cli, services: Services, command: str, arguments: tuple[str, ...]) -> None:
    shown = cli("dead", command, *arguments)
    assert shown.exit_code == 1
    assert "ids" in shown.output
    assert services.asked == []


def test_queues_and_letters_are_shown(cli: Cli, services: Services) -> None:
    services.answer("GET /v1/dead/queues", {"data": [{"queue": "router.missed.dead", "letters": 2}]})
    assert "router.missed.dead        2" in cli("dead", "queues").output
    assert json.loads(cli("dead", "queues", "--json").output)["data"]
    letter = {"code": None, "reason": None, "request_id": None, "headers": {"a": 7}, "body": "[b]", "bytes": 3}
    services.answer("GET /v1/dead/queues/router.missed?limit=20", {"data": [letter]})
    shown = cli("dead", "letters", "router.missed").output
    assert all(part in shown for part in ("no code", "request none, 3 bytes", "  a: 7", "[b]"))
    services.answer("GET /v1/dead/queues/router.missed?limit=1", {"data": []})
    assert cli("dead", "letters", "router.missed", "--limit", "1").output == "no letters\n"


def test_a_queue_is_purged_once_that_is_confirmed(cli: Cli, services: Services) -> None:
    services.answer("DELETE /v1/dead/queues/router.missed", {"purged": 2})
    assert cli("dead", "purge", "router.missed", answer="n\n").exit_code == 1
    assert services.asked == []
    assert "2 deleted" in cli("dead", "purge", "router.missed", answer="y\n").output
    assert "2 deleted" in cli("dead", "purge", "router.missed", "--yes").output


def test_a_stack_without_persistence_is_told(cli: Cli, running: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "read", lambda _: running)
    shown = cli("dead", "list")
    assert shown.exit_code == 1
    assert "this stack runs no persistence; it runs cache" in shown.output


def test_a_request_is_cancelled(cli: Cli, services: Services) -> None:
    services.answer(f"POST /v1/requests/{ID}/cancel", {"id": ID, "status": "queued"}, status=202)
    shown = cli("cancel", ID, "--tenant", "acme")
    assert (shown.exit_code, ID in shown.output) == (0, True)
    assert services.asked[-1].headers["Forebay-Tenant"] == "acme"

"""``forebay topics``."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from infra.local import stack
from infra.local.record import Running, Stack
from shared.cli import topics
from tests.unit.shared.cli.conftest import Services

Cli = Callable[..., Result]
ID = "6d3c0f5e-20f1-5a0b-9c44-7e1d0a5b8c11"
COUNTED = {
    "topic_id": ID,
    "terms": ["world cup"],
    "tenant": "acme",
    "since": "2026-01-02T03:04:05+00:00",
    "per_minute": 31.4,
    "usual_per_minute": 0.3,
    "ratio": 42.0,
    "significance": 180.2,
    "reason": "9.70% of the requests, usually 0.23%: 42.0 times as much",
}
HEEDED = {"topic_id": ID, "terms": ["world cup"], "tenant": "acme", "origin": "detected", "entries": 7, "more": False}
TOLD = HEEDED | {"topic_id": "other", "terms": ["[tea]"], "tenant": None, "origin": "repeated", "reason": "a fair"}
RULE = {"fast": 180, "slow": 10_800, "ratio": 4.0, "floor": 36.0, "settle": 1.5, "prior": 0.001}


@pytest.fixture
def both(
    running: Stack, port: int, services: Services, monkeypatch: pytest.MonkeyPatch
) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    """Let trends and the cache answer; the stack runs both."""

    def run(counted: dict[str, Any], heeded: dict[str, Any]) -> None:
        found = running.model_copy(
            update={"services": {name: Running(pid=1, port=port, log=name) for name in ("trends", "cache")}}
        )
        monkeypatch.setattr(stack, "read", lambda _: found)
        answers = {"trends": counted, "cache": heeded}

        async def asked(_: int, order: list[str] = list(answers)) -> dict[str, Any]:  # noqa: B006  # one for all calls
            return answers[order.pop(0)]

        monkeypatch.setattr(topics, "_topics", asked)

    return run


def counted(**changes: Any) -> dict[str, Any]:
    return {"enabled": True, "trending": [COUNTED], "rising": [], "rule": RULE} | changes


def test_it_shows_rates_ratio_since_when_why_and_how_many_entries_wait(cli: Cli, both: Callable[..., None]) -> None:
    both(counted(), {"max_age_s": 900, "topics": [HEEDED, TOLD]})
    shown = cli("topics")
    assert shown.exit_code == 0, shown.output
    for text in ("world cup", "acme", "31.4", "0.3", "42", "180", "7", "usually 0.23%", "[tea]", "all", "told: a fair"):
        assert text in shown.output, text
    assert "served up to an age of 900 s" in shown.output
    assert "from 4 times its usual share and a significance of 36" in shown.output


def test_as_json_it_is_one_list_with_what_both_know(cli: Cli, both: Callable[..., None]) -> None:
    late = COUNTED | {"topic_id": "late"}
    both(counted(trending=[COUNTED, late]), {"max_age_s": 900, "topics": [HEEDED]})
    shown = json.loads(cli("topics", "--json").output)
    assert shown["topics"] == [COUNTED | HEEDED, late]
    assert shown["rule"] == RULE | {"max_age_s": 900}


def test_nothing_and_what_is_near_to_it_and_trends_that_are_off(cli: Cli, both: Callable[..., None]) -> None:
    both(counted(trending=[], rising=[COUNTED | {"since": None}], enabled=False), {"max_age_s": 900, "topics": []})
    shown = cli("topics").output
    for text in ("nothing is trending", "nearest to trending", "world cup", "trends are off"):
        assert text in shown, text


def test_a_stack_without_trends_is_told(cli: Cli) -> None:
    shown = cli("topics")
    assert shown.exit_code == 1
    assert "this stack runs no trends; it runs cache" in shown.output


def test_a_topic_is_told_for_the_tenant(cli: Cli, services: Services) -> None:
    services.answer("POST /v1/topics", {"topic_id": ID, "until": "2026-01-02T05:04:05Z"}, status=202)
    shown = cli("topics", "trending", "world cup", "final", "--for", "2h", "--reason", "news", "--tenant", "acme")
    assert shown.exit_code == 0, shown.output
    (asked,) = services.asked
    assert asked.body == {"terms": ["world cup", "final"], "trending": True, "for": "2h", "reason": "news"}
    assert asked.headers["Forebay-Tenant"] == "acme"
    assert cli("topics", "settled", "world cup").exit_code == 0
    assert services.asked[-1].body == {"terms": ["world cup"], "trending": False}


def test_what_is_refused_is_told_in_one_line(cli: Cli, services: Services) -> None:
    problem = {
        "title": "Bad Request",
        "detail": "has no word that tells some prompts from others",
        "pointer": "/terms/0",
    }
    services.answer("POST /v1/topics", problem, status=400)
    shown = cli("topics", "trending", "the")
    assert shown.exit_code == 1
    assert "has no word that tells some prompts from others (/terms/0)" in shown.output

"""``forebay cache``."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from infra.local.record import Stack
from shared import envelope
from shared.cli import cache
from shared.events import CacheWarm
from tests.support.broker import WatchedBroker
from tests.unit.shared.cli.conftest import Services

Cli = Callable[..., Result]
ID = "0199aaaa-0000-7000-8000-000000000001"
CANDIDATE = {
    "entry_id": ID,
    "prompt": "Is it safe for [3] months?",
    "similarity": 0.9712,
    "reason": "numbers",
    "age_s": 7200,
    "expires_in_s": 90,
    "category": "static",
    "model": "gpt-4o-mini",
    "hits": 1234,
    "good": 1,
    "bad": 0,
}
LOOKUP = {
    "verdict": {"tier": "miss", "reason": "numbers", "similarity": 0.9712, "risk": None},
    "threshold": 0.85,
    "candidates": [CANDIDATE],
    "answer": None,
    "key": {"scope": ID, "exact": ID},
}
MEANT = {
    "dry_run": True,
    "invalidation_id": None,
    "entries": 1234,
    "oldest": "2026-01-01T00:00:00Z",
    "newest": "2026-01-02T00:00:00Z",
    "examples": [{"entry_id": ID, "prompt": "Hello [you]?", "model": "m", "category": "static", "hits": 3}],
}
TAKEN = MEANT | {"dry_run": False, "invalidation_id": ID}
FORGET = "POST /v1/cache/invalidate"


def test_stats_say_what_is_stored_saved_and_wrong(cli: Cli, services: Services) -> None:
    shown = {
        "entries": 1200,
        "bytes": 3 * 2**20,
        "by_category": [{"category": "static", "entries": 1200, "hits": 30, "saved_usd": 0.25}],
        "by_tenant": [{"tenant": "acme", "entries": 1100}],
        "lookups": {"exact": 20, "miss": 5},
        "front": {"entries": 7, "bytes": 2**20},
        "audits": {
            "seen": 50,
            "served_wrong": 1,
            "false_hit_rate": 0.02,
            "low": 0.001,
            "high": 0.06,
            "exact_only": True,
            "threshold": 0.9,
        },
    }
    services.answer("GET /v1/stats", shown)
    result = cli("cache", "stats")
    assert result.exit_code == 0, result.output
    for text in ("1,200 entries", "3.0 MiB", "static", "$0.250000", "acme", "exact 20", "equal prompts only"):
        assert text in result.output
    assert "false hits 2.00% (0.10% to 6.00%)" in result.output
    assert json.loads(cli("cache", "stats", "--json").output) == shown


@pytest.mark.parametrize(
    "shown",
    [
        {},
        {"entries": None, "by_category": None, "front": None, "audits": {}},
        {"by_tenant": [{"tenant": "a"}], "audits": {"seen": 0}},
        {"audits": {"false_hit_rate": 0.1}},
    ],
)
def test_what_a_version_does_not_tell_is_left_out(cli: Cli, services: Services, shown: dict[str, Any]) -> None:
    services.answer("GET /v1/stats", shown)
    assert cli("cache", "stats").exit_code == 0
    services.answer("POST /v1/lookup", shown | {"candidates": [{}, {"prompt": None}]})
    assert cli("cache", "lookup", "Hello?", "--explain").exit_code == 0
    services.answer("POST /v1/requests/x/feedback", shown)
    assert cli("cache", "wrong", "x").exit_code == 0


def test_lookup_asks_for_a_tenant_and_says_why(cli: Cli, services: Services) -> None:
    services.answer("POST /v1/lookup", LOOKUP)
    result = cli("cache", "lookup", "Is it?", "--tenant", "acme", "--instructions", "Be brief.", "--model", "light")
    assert result.exit_code == 0, result.output
    assert "miss" in result.output
    assert "numbers" in result.output
    assert "gpt-4o-mini" not in result.output
    (asked,) = services.asked
    assert asked.body == {"input": "Is it?", "model": "light", "instructions": "Be brief."}
    assert asked.headers["Forebay-Tenant"] == "acme"


def test_lookup_explains_what_spoke_against_each_entry(cli: Cli, services: Services) -> None:
    services.answer("POST /v1/lookup", LOOKUP)
    result = cli("cache", "lookup", "Is it?", "--explain")
    for text in ("Is it safe for [3] months?", "0.971", "2 h", "1.5 m", "1,234", "gpt-4o-mini", "threshold 0.850", ID):
        assert text in result.output
    services.answer("POST /v1/lookup", LOOKUP | {"answer": "No [really].", "verdict": {"tier": "exact"}})
    assert "No [really]." in cli("cache", "lookup", "Is it?").output
    assert json.loads(cli("cache", "lookup", "Is it?", "--json").output)["answer"] == "No [really]."


def test_what_the_cache_refuses_is_said_in_its_words(cli: Cli, services: Services) -> None:
    services.answer("POST /v1/lookup", {"title": "Bad Request", "detail": "input: must [not] be empty"}, status=400)
    result = cli("cache", "lookup", " ")
    assert result.exit_code == 1
    assert "400 Bad Request: input: must [not] be empty" in result.output


def test_a_service_that_is_away_is_one_line(cli: Cli, running: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = running.model_copy(update={"http_url": "http://127.0.0.1:9", "services": {}})
    monkeypatch.setattr("infra.local.stack.read", lambda _: gone)
    result = cli("cache", "wrong", "x")
    assert result.exit_code == 1
    assert "http://127.0.0.1:9/v1/requests/x/feedback does not answer" in result.output
    assert "this stack runs no cache" in cli("cache", "stats").output


def test_invalidate_shows_what_goes_and_asks_first(cli: Cli, services: Services) -> None:
    services.answer(FORGET, MEANT, TAKEN)
    result = cli("cache", "invalidate", "--topic", "tokyo", "--older-than", "2h", "--tenant", "acme", answer="y\n")
    assert result.exit_code == 0, result.output
    assert "1,234 entries, stored from 2026-01-01 00:00 to 2026-01-02 00:00 UTC" in result.output
    assert "Hello [you]?" in result.output
    assert f"on its way: {ID}" in result.output
    dry, real = services.asked
    assert dry.body == {"selector": {"topic": "tokyo", "older_than_s": 7200}, "dry_run": True}
    assert real.body == dry.body | {"dry_run": False}
    assert real.headers["Forebay-Tenant"] == "acme"


@pytest.mark.parametrize("answer", ["n\n", "\n", None])
def test_who_does_not_say_yes_keeps_the_entries(cli: Cli, services: Services, answer: str | None) -> None:
    services.answer(FORGET, MEANT)
    result = cli("cache", "invalidate", "--everything", answer=answer)
    assert result.exit_code == 1
    assert [asked.body["dry_run"] for asked in services.asked] == [True]


def test_a_dry_run_asks_nothing_and_changes_nothing(cli: Cli, services: Services) -> None:
    services.answer(FORGET, MEANT)
    result = cli("cache", "invalidate", "--everything", "--dry-run", "--yes")
    assert result.exit_code == 0
    assert "1,234 entries" in result.output
    assert [asked.body["dry_run"] for asked in services.asked] == [True]


def test_with_yes_nothing_is_asked(cli: Cli, services: Services) -> None:
    services.answer(FORGET, TAKEN | {"entries": None, "examples": []})
    arguments = ("--entry", ID, "--scope", ID, "--prompt", "p", "--model", "m", "--category", "c", "--reason", "old")
    result = cli("cache", "invalidate", *arguments, "--yes")
    assert result.exit_code == 0, result.output
    assert "can't be told now" in result.output
    (asked,) = services.asked
    assert asked.body == {
        "selector": {"entry_id": ID, "scope": ID, "prompt": "p", "model": "m", "category": "c"},
        "reason": "old",
        "dry_run": False,
    }


def test_a_selector_that_says_nothing_is_refused_by_the_door(cli: Cli, services: Services) -> None:
    refusal = {"title": "Bad Request", "detail": "an empty selector", "pointer": "/selector"}
    services.answer(FORGET, refusal, status=400)
    result = cli("cache", "invalidate")
    assert result.exit_code == 1
    assert "an empty selector (/selector)" in result.output


@pytest.mark.parametrize("text", ["soon", "2 weeks", "-5", "1.5h", ""])
def test_a_time_that_is_none_is_told_before_anything_is_asked(cli: Cli, services: Services, text: str) -> None:
    result = cli("cache", "invalidate", f"--older-than={text}")
    assert result.exit_code == 1
    assert "--older-than" in result.output
    assert services.asked == []


def test_a_wrong_answer_is_told_with_who_else_was_given_it(cli: Cli, services: Services) -> None:
    served = [{"request_id": ID, "at": "2026-01-02T00:00:00Z", "similarity": 0.97}]
    answer = {"entry_id": ID, "removed": True, "served": served, "others": 2}
    services.answer(f"POST /v1/requests/{ID}/feedback", answer, answer | {"served": None, "others": None})
    result = cli("cache", "wrong", ID, "--hours", "48", "--comment", "of last year", "--tenant", "acme")
    assert result.exit_code == 0, result.output
    assert "1 request of this tenant, 2 of other tenants had its answer" in result.output
    assert services.asked[0].body == {"verdict": "wrong_hit", "comment": "of last year", "hours": 48}
    assert services.asked[0].headers["Forebay-Tenant"] == "acme"
    assert "can't be told now" in cli("cache", "wrong", ID).output


def test_an_id_that_is_none_reaches_no_other_path(cli: Cli, services: Services) -> None:
    assert cli("cache", "wrong", "../../x").exit_code == 1
    assert services.asked[0].path == "/v1/requests/..%2F..%2Fx/feedback"


@pytest.fixture
def brought(monkeypatch: pytest.MonkeyPatch) -> list[CacheWarm]:
    """The answers that were brought along, instead of to a broker."""
    found: list[CacheWarm] = []

    async def bring(_: str, events: list[CacheWarm]) -> None:
        found.extend(events)

    monkeypatch.setattr(cache, "_bring", bring)
    return found


def written(tmp_path: Path, *lines: object) -> str:
    file = tmp_path / "answers.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return str(file)


def test_answers_are_brought_along_and_the_others_bought(
    cli: Cli, services: Services, brought: list[CacheWarm], tmp_path: Path
) -> None:
    services.answer("POST /v1/requests", {"id": ID, "status": "queued"}, status=202)
    file = written(
        tmp_path,
        {"input": "a", "output_text": "A"},
        {"input": "b"},
        {"input": "c", "tenant": "other", "model": "light"},
    )
    result = cli("cache", "warm", file, "--tenant", "acme")
    assert result.exit_code == 0, result.output
    assert "1 answer brought along, 2 requests submitted" in result.output
    assert [event.request.prompt for event in brought] == ["a"]
    asked = {one.headers["Forebay-Tenant"]: one for one in services.asked}
    assert asked["acme"].body == {"input": "b"}
    assert asked["other"].body == {"input": "c", "model": "light"}
    assert {one.headers["Forebay-Priority"] for one in services.asked} == {"bulk"}


def test_one_wrong_line_and_nothing_is_sent(
    cli: Cli, services: Services, brought: list[CacheWarm], tmp_path: Path
) -> None:
    result = cli("cache", "warm", written(tmp_path, {"input": "a", "output_text": "A"}, {"input": "b"}, {"inptu": "c"}))
    assert result.exit_code == 1
    assert "line 3: input: Field required" in result.output
    assert (services.asked, brought) == ([], [])


def test_requests_that_are_refused_are_counted_and_told(
    cli: Cli, services: Services, brought: list[CacheWarm], tmp_path: Path
) -> None:
    services.answer("POST /v1/requests", {"title": "Too Many Requests", "detail": "later"}, status=429)
    result = cli("cache", "warm", written(tmp_path, {"input": "a"}, {"input": "b"}))
    assert result.exit_code == 1
    assert "0 answers brought along, 0 requests submitted" in result.output
    assert "429 Too Many Requests: later" in result.output
    assert "2 of the requests were refused" in result.output


def test_a_file_that_is_not_there_is_one_line(cli: Cli, tmp_path: Path) -> None:
    result = cli("cache", "warm", str(tmp_path / "none.jsonl"))
    assert result.exit_code == 1
    assert "No such file" in result.output


async def test_answers_are_published_as_events_that_the_cache_takes() -> None:
    broker = await WatchedBroker.ready()
    request = {"id": ID, "input": "a", "accepted_at": "2026-01-02T03:04:05Z", "digest": "d"}
    event = CacheWarm.model_validate({"request": request, "output_text": "A", "tier": "light"})
    await cache.publish(broker, [event] * (cache.BATCH + 1))
    assert broker.depth("cache.warm") == cache.BATCH + 1
    assert envelope.decode(broker.peek("cache.warm")[0]) == event

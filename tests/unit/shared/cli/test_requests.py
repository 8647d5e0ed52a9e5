"""``forebay rate`` and ``forebay result``."""

import json
from collections.abc import Callable

import pytest
from typer.testing import Result

from tests.unit.shared.cli.conftest import Services

Cli = Callable[..., Result]
ID = "f4c1a3f2-7f0e-8b5a-9c6d-0a1b2c3d4e5f"
TAKEN = {"object": "rating", "rating_id": ID, "request_id": ID, "quality": 0.8, "rated_at": "2026-01-02T03:04:05Z"}


def test_an_answer_is_rated_for_its_tenant(cli: Cli, services: Services) -> None:
    services.answer(f"POST /v1/requests/{ID}/rating", TAKEN, status=202)
    ended = cli("rate", ID, "0.8", "--comment", "long", "--tenant", "acme")
    assert (ended.exit_code, ended.stdout.strip()) == (0, f"rated 0.8: {ID}")
    (asked,) = services.asked
    assert asked.body == {"quality": 0.8, "comment": "long"}
    assert asked.headers["Forebay-Tenant"] == "acme"
    assert json.loads(cli("rate", ID, "0.8", "--json").stdout) == TAKEN


def test_a_request_without_an_answer_is_said_in_a_line(cli: Cli, services: Services) -> None:
    problem = {"title": "Conflict", "detail": "this request has no answer yet"}
    services.answer(f"POST /v1/requests/{ID}/rating", problem, status=409)
    ended = cli("rate", ID, "1")
    assert ended.exit_code == 1
    assert "409 Conflict: this request has no answer yet" in ended.stderr


@pytest.mark.parametrize("quality", ["1.1", "-0.1", "good", "nan"])
def test_a_quality_that_is_none_is_not_sent(cli: Cli, services: Services, quality: str) -> None:
    assert cli("rate", "--", ID, quality).exit_code == 2
    assert services.asked == []


def test_the_steps_that_hold_while_a_request_waits_are_not_told_as_if_they_had_touched_it(
    cli: Cli, services: Services
) -> None:
    notes = [{"step": step, "tier": "premium", "age_s": 42.4, "detail": ""} for step in ("cheaper_tier", "shed_bulk")]
    services.answer(f"GET /v1/requests/{ID}", {"id": ID, "status": "queued", "brownout": notes})
    ended = cli("result", ID)
    assert "brownout, whether or not this one is touched: cheaper_tier, shed_bulk" in " ".join(ended.stderr.split())


def test_the_steps_of_a_brownout_are_told_beside_an_answer(cli: Cli, services: Services) -> None:
    note = {"step": "cheaper_tier", "tier": "premium", "age_s": 42.4, "detail": "light instead of premium"}
    shown = {"id": ID, "status": "completed", "output_text": "Paris.", "brownout": [note]}
    services.answer(f"GET /v1/requests/{ID}", shown)
    ended = cli("result", ID)
    assert ended.stdout.strip() == "Paris."
    said = "brownout, cheaper_tier: light instead of premium (the queue of premium was 42 s old)"
    assert said in " ".join(ended.stderr.split())

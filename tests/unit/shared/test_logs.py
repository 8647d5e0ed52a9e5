"""Logs: one JSON line each, with what is known of the request."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from shared.telemetry import logs


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    """The logging of the tests as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {
        name: logging.getLogger(name).level for name in ("aio_pika", "aiormq", "httpx", "uvicorn.access", "uvicorn")
    }
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, old in levels.items():
        logging.getLogger(name).setLevel(old)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_is_json_with_the_service_and_what_is_bound(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("cache", form="json")
    structlog.contextvars.bind_contextvars(request_id="r-1")
    structlog.stdlib.get_logger("test").warning("handed back", queue="q")
    (line,) = lines(capsys)
    assert {key: line[key] for key in ("service", "event", "level", "queue", "request_id")} == {
        "service": "cache",
        "event": "handed back",
        "level": "warning",
        "queue": "q",
        "request_id": "r-1",
    }
    assert str(line["timestamp"]).endswith("Z")


def test_what_others_log_has_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("cache", form="json")
    logging.getLogger("somebody.else").warning("careful: %s", "wet floor")
    (line,) = lines(capsys)
    assert (line["event"], line["service"]) == ("careful: wet floor", "cache")


def test_a_traceback_stays_within_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("cache", form="json")
    try:
        raise ZeroDivisionError("a bug")
    except ZeroDivisionError:
        structlog.stdlib.get_logger("test").exception("failed")
    (line,) = lines(capsys)
    assert "ZeroDivisionError: a bug" in str(line["exception"])


def test_less_than_the_level_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("cache", form="json", level="warning")
    structlog.stdlib.get_logger("test").info("chatter")
    assert lines(capsys) == []

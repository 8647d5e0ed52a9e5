"""``stack.json``: what scripts read."""

import json
from pathlib import Path

import pytest

from infra.local import record
from infra.local.errors import StackError
from infra.local.home import Home
from infra.local.record import Running, Stack


@pytest.fixture
def home(tmp_path: Path) -> Home:
    place = Home.at(tmp_path)
    place.make()
    return place


def stack(home: Home) -> Stack:
    return Stack(
        amqp_url="amqp://guest:guest@127.0.0.1:1/",
        http_url="http://127.0.0.1:2",
        postgres_dsn="postgresql://postgres@127.0.0.1:3/forebay",
        services={"ingest": Running(pid=11, port=2, log="/log/ingest.log")},
        infrastructure={"rabbitmq": Running(pid=12, port=1, log="/log/rabbitmq.log")},
        home=home.root,
        supervisor=home.socket,
    )


def test_the_keys_that_others_rely_on(home: Home) -> None:
    record.save(home, lambda _: stack(home))
    written = json.loads(home.stack_json.read_text())
    assert {"amqp_url", "http_url", "postgres_dsn", "api_key", "services"} <= set(written)
    assert written["api_key"] is None
    assert {"pid", "port", "log"} <= set(written["services"]["ingest"])


def test_what_was_written_is_read(home: Home) -> None:
    assert record.load(home) is None
    record.save(home, lambda _: stack(home))
    assert record.load(home) == stack(home)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"services": 1}'])
def test_a_broken_file_is_no_stack(home: Home, text: str) -> None:
    home.stack_json.write_text(text)
    assert record.load(home) is None


@pytest.mark.parametrize("name", ["ingest", "rabbitmq"])
def test_a_restart_changes_the_pid_and_counts(home: Home, name: str) -> None:
    record.save(home, lambda _: stack(home))
    record.set_pid(home, name, 99, restarts=1)
    after = record.load(home)
    assert after is not None
    assert (after.programs[name].pid, after.programs[name].restarts) == (99, 1)
    assert after.with_program(name, stack(home).programs[name]) == stack(home)


def test_a_pid_without_a_stack_is_not_noted(home: Home) -> None:
    record.set_pid(home, "ingest", 99)
    assert not home.stack_json.exists()


def test_an_unknown_program_is_named(home: Home) -> None:
    with pytest.raises(StackError, match="no 'cache'; it has rabbitmq, ingest"):
        record.known(stack(home), "cache")

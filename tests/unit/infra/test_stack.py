"""What a second ``up`` makes of a stack that runs already."""

from pathlib import Path

import pytest

from infra.local import services, stack
from infra.local.errors import StackError
from infra.local.record import Stack
from infra.local.stack import Plan


def plan(*replicas: str, policy: Path | None = None, http_port: int | None = None) -> Plan:
    return Plan(("rabbitmq",), replicas, policy, http_port, services.command)


def recorded(policy: Path | None = None) -> Stack:
    return Stack(home=Path("/home"), supervisor=Path("/home/run/supervisor.sock"), policy=policy)


def test_what_runs_stays_and_what_is_missing_is_added() -> None:
    joined = stack._joined(plan("cache", "cache-2"), ["postgres", "rabbitmq", "cache", "router"], recorded(), {})
    assert joined.infrastructure == ("rabbitmq", "postgres")
    assert joined.replicas == ("cache", "cache-2", "router")


def test_the_policy_that_runs_stays() -> None:
    assert stack._joined(plan("cache"), ["cache"], recorded(Path("/p")), {}).policy == Path("/p")


def test_another_policy_needs_a_new_start() -> None:
    with pytest.raises(StackError, match=r"another policy file \(the packaged one\)"):
        stack._joined(plan("cache", policy=Path("/p")), ["cache"], recorded(), {})


def test_another_port_needs_a_new_start() -> None:
    with pytest.raises(StackError, match="port 8081"):
        stack._joined(plan("ingest", http_port=8080), ["ingest"], recorded(), {"ingest": 8081})
    assert stack._joined(plan("ingest", http_port=8080), ["ingest"], recorded(), {"ingest": 8080}).http_port == 8080
    assert stack._joined(plan("ingest", http_port=8080), ["cache"], recorded(), {"ingest": 8081}).http_port == 8080


def test_no_stack_says_how_to_start_one(tmp_path: Path) -> None:
    for ask in (stack.read, stack.status):
        with pytest.raises(StackError, match="start one with `forebay up`"):
            ask(tmp_path)


def test_nothing_to_take_down(tmp_path: Path) -> None:
    said: list[str] = []
    assert stack.down(tmp_path / "none", said.append) is False
    assert not (tmp_path / "none").exists()
    assert said == []

"""Which replicas a stack has, and what each is told."""

from pathlib import Path

import pytest

from infra.local import services
from infra.local.errors import StackError
from infra.local.services import ALL, Surroundings

PORTS = {"rabbitmq": 1001, "postgres": 1002, "model": 1003, "ingest": 1004, "cache": 1005, "cache-2": 1006}


def test_one_of_each_by_default() -> None:
    assert services.replicas(ALL, {}) == list(ALL)


def test_replicas_are_numbered_from_the_second_on() -> None:
    assert services.replicas(("ingest", "cache"), {"cache": 3}) == ["ingest", "cache", "cache-2", "cache-3"]


@pytest.mark.parametrize(
    ("names", "scale", "complaint"),
    [
        (("cach",), {}, "no service 'cach'"),
        (ALL, {"cach": 2}, "no service 'cach'"),
        (("ingest",), {"cache": 2}, "not among the services"),
        (ALL, {"cache": 0}, "1 is the least"),
    ],
)
def test_an_impossible_scale_is_refused(names: tuple[str, ...], scale: dict[str, int], complaint: str) -> None:
    with pytest.raises(StackError, match=complaint):
        services.replicas(names, scale)


def test_a_replica_runs_its_service_on_its_own_port() -> None:
    first, second = services.programs(["cache", "cache-2"], Surroundings(PORTS))
    assert first.command == second.command
    assert first.command[-1] == "services.cache"
    assert (first.env["FOREBAY_HTTP_PORT"], second.env["FOREBAY_HTTP_PORT"]) == ("1005", "1006")


def test_a_service_is_told_where_the_others_are() -> None:
    env = Surroundings(PORTS, policy=Path("/p.toml")).env()
    assert env["FOREBAY_AMQP_URL"] == "amqp://guest:guest@127.0.0.1:1001/%2F"
    assert env["FOREBAY_POSTGRES_DSN"].startswith("postgresql://postgres@127.0.0.1:1002/forebay")
    assert env["FOREBAY_LOCAL_MODEL_URL"] == "http://127.0.0.1:1003/v1"
    assert env["FOREBAY_POLICY_FILE"] == "/p.toml"


def test_the_cache_is_told_where_embeddings_come_from() -> None:
    (cache,) = services.programs(["cache"], Surroundings(PORTS | {"inference": 1007}))
    assert cache.env["FOREBAY_EMBEDDINGS_URL"] == "http://127.0.0.1:1007"
    assert "FOREBAY_EMBEDDINGS_URL" not in Surroundings(PORTS).env()


def test_what_the_stack_does_not_run_is_left_to_the_caller() -> None:
    env = Surroundings(PORTS, infrastructure=("postgres",)).env()
    assert "FOREBAY_AMQP_URL" not in env
    assert "FOREBAY_LOCAL_MODEL_URL" not in env
    assert "FOREBAY_POLICY_FILE" not in env


def test_a_service_may_use_all_the_time_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_SHUTDOWN_S", "60")
    assert services.programs(["cache"], Surroundings(PORTS))[0].stop_wait_s == 65


def test_no_secret_reaches_the_configuration() -> None:
    assert not [name for name in Surroundings(PORTS).env() if "SECRET" in name or "KEY" in name]

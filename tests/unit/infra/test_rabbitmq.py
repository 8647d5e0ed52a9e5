"""The broker's private surroundings."""

from pathlib import Path

import pytest

from infra.local import rabbitmq
from infra.local.errors import StackError

PORTS = {"rabbitmq": 1, "rabbitmq-management": 2, "rabbitmq-distribution": 3, "epmd": 4}


def test_nothing_points_outside_the_home(tmp_path: Path) -> None:
    env = rabbitmq.environment(tmp_path, PORTS)
    paths = {name: value for name, value in env.items() if value.startswith("/") and name != "PATH"}
    assert all(Path(value).is_relative_to(tmp_path) for value in paths.values())
    assert (env["RABBITMQ_NODE_PORT"], env["RABBITMQ_DIST_PORT"], env["ERL_EPMD_PORT"]) == ("1", "3", "4")
    assert env["RABBITMQ_NODE_IP_ADDRESS"] == env["ERL_EPMD_ADDRESS"] == "127.0.0.1"


def test_the_cookie_is_made_once_and_is_its_owners(tmp_path: Path) -> None:
    folder = tmp_path / "rabbitmq"
    rabbitmq.configure(folder, 2)
    cookie = (folder / ".erlang.cookie").read_text()
    rabbitmq.configure(folder, 5)
    assert (folder / ".erlang.cookie").read_text() == cookie
    assert (folder / ".erlang.cookie").stat().st_mode & 0o777 == 0o400
    assert "management.tcp.port = 5\n" in (folder / "rabbitmq.conf").read_text()


def test_a_missing_broker_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rabbitmq, "SCRIPTS", (tmp_path / "none",))
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(StackError, match="apt-get install rabbitmq-server"):
        rabbitmq.server_script()


def test_debians_wrapper_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rabbitmq, "SCRIPTS", ())
    monkeypatch.setattr(rabbitmq, "DEBIAN_WRAPPER", tmp_path / "rabbitmq-server")
    monkeypatch.setattr("shutil.which", lambda *_, **__: str(tmp_path / "rabbitmq-server"))
    (tmp_path / "rabbitmq-server").touch()
    with pytest.raises(StackError):
        rabbitmq.server_script()

"""The folder of a stack: its ports, its lock, its secret, its socket."""

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from infra.local import ports, supervision
from infra.local.errors import StackError
from infra.local.home import LONGEST_SOCKET, Home, exclusive, write


@pytest.fixture
def home(tmp_path: Path) -> Home:
    place = Home.at(tmp_path / "home")
    place.make()
    return place


def draws(start: int = 100) -> Iterator[int]:
    return count(start)


def test_a_known_port_is_kept_while_it_is_free() -> None:
    assert ports.assign(["a"], {"a": 7}, [], lambda _: True, draws().__next__) == {"a": 7}


def test_a_port_taken_meanwhile_is_replaced() -> None:
    assert ports.assign(["a"], {"a": 7}, [], lambda port: port not in (7, 100), draws().__next__) == {"a": 101}


def test_a_program_that_runs_holds_its_port() -> None:
    assert ports.assign(["a"], {"a": 7}, ["a"], lambda _: False, draws().__next__) == {"a": 7}


def test_no_port_is_given_twice() -> None:
    chosen = ports.assign(["a", "b", "c"], {"b": 100, "c": 100}, [], lambda _: True, draws().__next__)
    assert len(set(chosen.values())) == 3


def test_a_drawn_port_avoids_those_of_programs_not_started_now() -> None:
    assert ports.assign(["a"], {"b": 100}, [], lambda _: True, draws().__next__) == {"a": 101}


def test_ports_are_remembered(home: Home) -> None:
    assert ports.choose(home, ["a", "b"]) == ports.choose(home, ["a", "b"])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": "x"}', "null"])
def test_a_broken_memory_is_no_memory(home: Home, text: str) -> None:
    home.ports_json.write_text(text)
    assert ports.remembered(home) == {}


def test_a_port_that_was_asked_for_must_be_free(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda _: False)
    monkeypatch.setattr(ports, "_holder", lambda _: " (by other, pid 5)")
    with pytest.raises(StackError, match=r"port 8080 is in use \(by other, pid 5\)"):
        ports.choose(home, ["ingest"], asked={"ingest": 8080})


def test_the_port_asked_for_may_be_our_own(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.ports_json.write_text(json.dumps({"ingest": 8080}))
    monkeypatch.setattr(ports, "is_free", lambda _: False)
    assert ports.choose(home, ["ingest"], held=["ingest"], asked={"ingest": 8080}) == {"ingest": 8080}


def test_ports_stay_below_the_range_of_outgoing_connections() -> None:
    assert all(ports.LOWEST <= ports._draw() < ports._first_ephemeral() for _ in range(100))


def test_only_one_command_at_a_time(home: Home) -> None:
    with (
        exclusive(home, "up"),
        pytest.raises(StackError, match=r"forebay up \(pid \d+\) is at work"),
        exclusive(home, "down"),
    ):
        pass
    with exclusive(home, "down"):
        pass


def test_the_secret_is_made_once_and_is_its_owners(home: Home) -> None:
    assert len(home.secret()) > 30
    assert home.secret() == home.secret()
    assert (home.root / "id_secret").stat().st_mode & 0o777 == 0o600


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write(file, "old")
    with pytest.raises(UnicodeEncodeError):
        write(file, "\ud800")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_short_home_holds_its_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.local.home.LONGEST_SOCKET", 1_000)
    place = Home.at(tmp_path)
    place.make()
    place.make_socket_folder()
    assert place.socket == place.run / "supervisor.sock"


def test_a_long_home_has_its_socket_elsewhere_until_it_is_forgotten(tmp_path: Path) -> None:
    place = Home.at(tmp_path / ("x" * 150))
    place.make()
    place.make_socket_folder()
    socket = place.socket
    place.make_socket_folder()
    assert place.socket == socket
    assert len(str(socket)) <= LONGEST_SOCKET
    assert socket.parent.stat().st_mode & 0o777 == 0o700
    place.forget_socket()
    assert not socket.parent.exists()


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match="choose another"):
        Home.at(tmp_path / "file" / "home").make()


def test_the_daemon_passes_the_callers_environment_on(home: Home) -> None:
    env = supervision.environment({"OPENAI_API_KEY": "k %(x)s", "PYTHONPATH": "/mine"}, home)
    assert env["OPENAI_API_KEY"] == "k %(x)s"
    assert env["PYTHONPATH"].endswith(":/mine")
    assert env["FOREBAY_ID_SECRET"] == home.secret()


def test_the_callers_own_secret_is_kept(home: Home) -> None:
    assert supervision.environment({"FOREBAY_ID_SECRET": "mine"}, home)["FOREBAY_ID_SECRET"] == "mine"

"""The life of a service: what stops it from starting is said in one line, and it ends in order."""

import asyncio
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import uvicorn

from shared import service
from shared.errors import TopologyConflict
from shared.events import Event
from shared.memory import MemoryBroker
from shared.service import Service
from shared.settings import PREFIX, Settings
from shared.telemetry import logs
from shared.topology import ACCEPTED, Topology
from tests.support import make
from tests.support.clock import settled


class BrokerInPlace(MemoryBroker):
    """Stands where RabbitMQ's client would."""

    latest: "BrokerInPlace"

    conflict: TopologyConflict | None = None

    def __init__(self, url: str, *, topology: Topology, **_: Any) -> None:
        super().__init__()
        self.address = url
        self.topology = topology
        type(self).latest = self

    async def __aenter__(self) -> Self:
        await self.declare(self.topology)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.connected = False

    async def wait_connected(self) -> None:
        if self.conflict is not None:
            raise self.conflict

    async def watch(self) -> None:
        await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variables of the machine's, no RabbitMQ, and the logging of the tests left alone."""
    for name in Settings.model_fields:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)
    monkeypatch.setenv("FOREBAY_HTTP_PORT", "0")
    monkeypatch.setattr(service, "RabbitBroker", BrokerInPlace)
    monkeypatch.setattr(logs, "configure", lambda *_, **__: None)


async def stop_at_once(_: Service) -> None:
    signal.raise_signal(signal.SIGTERM)


def told(capsys: pytest.CaptureFixture[str], wire: service.Wire = stop_at_once) -> str:
    """What a service that cannot start says."""
    with pytest.raises(SystemExit) as ended:
        service.run("ingest", wire)
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_a_wrong_variable_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOREBAY_PREFETCH", "many")
    assert told(capsys).startswith("forebay ingest: FOREBAY_PREFETCH: ")


def test_a_missing_policy_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("FOREBAY_POLICY_FILE", str(tmp_path / "none.toml"))
    line = told(capsys)
    assert "none.toml" in line
    assert "FOREBAY_POLICY_FILE" in line


@pytest.fixture
def loose_sockets_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close what uvicorn leaves to the garbage collector: the socket it could not bind."""
    made: list[socket.socket] = []

    class Noted(socket.socket):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(socket, "socket", Noted)
    yield
    for one in made:
        one.close()


@pytest.mark.usefixtures("loose_sockets_closed")
def test_a_port_in_use_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    async def nothing(_: Service) -> None:
        return

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("FOREBAY_HTTP_PORT", str(port))
        line = told(capsys, nothing)
    assert f"cannot listen on 127.0.0.1:{port}" in line
    assert "FOREBAY_HTTP_PORT" in line


def test_answers_do_not_wait_for_acknowledgements_of_their_heads() -> None:
    listening = service._listening(uvicorn.Config("nothing", host="127.0.0.1", port=0, log_config=None))
    with listening:
        listening.listen()
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_queue_with_other_arguments_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def nothing(_: Service) -> None:
        return

    monkeypatch.setattr(BrokerInPlace, "conflict", TopologyConflict("inequivalent arg"))
    assert told(capsys, nothing) == "forebay ingest: inequivalent arg"


def test_a_failure_nobody_foresaw_is_not_hidden() -> None:
    async def broken(_: Service) -> None:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        service.run("ingest", broken)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_service_ends_quietly_when_it_is_told_to(number: signal.Signals) -> None:
    async def wire(_: Service) -> None:
        signal.raise_signal(number)

    service.run("router", wire)
    assert not BrokerInPlace.latest.connected


def test_the_broker_is_told_the_topology_of_the_policys_tiers() -> None:
    tiers: list[str] = []

    async def wire(it: Service) -> None:
        tiers.extend(it.policy.tiers)
        signal.raise_signal(signal.SIGTERM)

    service.run("router", wire)
    assert tiers
    assert {f"inference.{tier}" for tier in tiers} < BrokerInPlace.latest.topology.names


def test_a_conflict_that_shows_later_ends_the_service(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def watch(_: object) -> None:
        raise TopologyConflict("inequivalent arg")

    async def nothing(_: Service) -> None:
        return

    monkeypatch.setattr(BrokerInPlace, "watch", watch)
    assert told(capsys, nothing) == "forebay ingest: inequivalent arg"


def test_at_the_end_what_was_taken_is_finished_before_what_it_needs_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events: list[str] = []

    class Resource:
        async def __aenter__(self) -> str:
            events.append("opened")
            return "resource"

        async def __aexit__(self, *_: object) -> None:
            events.append("closed")

    async def wire(it: Service) -> None:
        assert await it.enter(Resource()) == "resource"

        async def handler(event: Any) -> Sequence[Event]:
            signal.raise_signal(signal.SIGTERM)
            await settled()
            events.append("handled")
            return (make.missed(event.request),)

        it.consume(ACCEPTED, handler)
        await it.broker.publish([make.message(make.accepted())])

    service.run("cache", wire)
    assert events == ["opened", "handled", "closed"]
    assert BrokerInPlace.latest.depth("router.missed") == 1
    assert BrokerInPlace.latest.depth("cache.accepted") == 0


def test_work_that_takes_too_long_goes_back_to_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_SHUTDOWN_S", "0.01")

    async def wire(it: Service) -> None:
        async def endless(_: Any) -> Sequence[Event]:
            signal.raise_signal(signal.SIGTERM)
            await asyncio.Event().wait()
            return ()

        it.consume(ACCEPTED, endless)
        await it.broker.publish([make.message(make.accepted())])

    service.run("cache", wire)
    assert BrokerInPlace.latest.depth("cache.accepted") == 1


def test_every_service_answers_probes_beside_its_own_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("FOREBAY_HTTP_PORT", str(port))
    seen: list[int] = []

    async def ask(_: object) -> None:
        transport = httpx.AsyncHTTPTransport(retries=5)
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, transport=transport
        ) as client:
            seen.extend([(await client.get(path)).status_code for path in ("/healthz", "/readyz", "/metrics")])
        signal.raise_signal(signal.SIGTERM)

    async def wire(_: Service) -> None:
        return

    monkeypatch.setattr(BrokerInPlace, "watch", ask)
    service.run("router", wire)
    assert seen == [200, 200, 200]

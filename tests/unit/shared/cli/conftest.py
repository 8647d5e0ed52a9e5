"""A stack that only seems to run: one loopback server answers for its services with what a test puts there."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from infra.local import stack
from infra.local.record import Running, Stack
from shared.cli import app, options
from shared.cli.console import Console

Answer = tuple[int, object]


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    body: Any
    headers: Mapping[str, str]


@dataclass
class Services:
    """The HTTP of the services.

    Attributes:
        answers: by method and path; a list is given out in order, its last answer again and again.
        asked: what came.
    """

    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def answer(self, call: str, *bodies: object, status: int = 200) -> None:
        """Say what a call such as ``GET /v1/stats`` is answered with."""
        self.answers[call] = [(status, body) for body in bodies]

    def take(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        waiting = self.answers.get(f"{asked.method} {asked.path}")
        if not waiting:
            return 404, {"title": "Not Found", "detail": f"nothing at {asked.path}"}
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]


@pytest.fixture
def services() -> Services:
    return Services()


@pytest.fixture
def port(services: Services) -> Iterator[int]:
    """Where the services listen."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_DELETE(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, body: Any) -> None:
            status, answer = services.take(Asked(self.command, self.path, body, dict(self.headers)))
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def running(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """The stack, as ``stack.json`` would have it."""
    found = Stack(
        http_url=f"http://127.0.0.1:{port}",
        amqp_url="amqp://nowhere",
        services={"cache": Running(pid=1, port=port, log="")},
        home=tmp_path,
        supervisor=tmp_path,
    )
    monkeypatch.setattr(stack, "read", lambda _: found)
    return found


@pytest.fixture
def cli(running: Stack, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command line; tables have the room they need."""
    for module in ("cache", "cache_tables", "topics", "dead", "requests"):
        monkeypatch.setattr(f"shared.cli.{module}.out", Console(width=300))
    for module in ("cache", "topics", "dead", "requests"):
        monkeypatch.setattr(f"shared.cli.{module}.err", Console(stderr=True, width=300))
    monkeypatch.setattr(options, "err", Console(stderr=True, width=300))

    def run(*arguments: str, answer: str | None = None) -> Result:
        return CliRunner().invoke(app, list(arguments), input=answer)

    return run

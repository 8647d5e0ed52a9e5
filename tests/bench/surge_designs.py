"""What is compared in a surge: each design as it is started, with a database and a virtual host of its own."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx
import psutil

from infra.local import ports, readiness
from infra.local import stack as local
from infra.local.home import Home
from infra.local.services import ALL
from infra.local.stack import Stack
from shared.database import migrate
from shared.settings import packaged_policy
from tests.bench.limit_provider import Provider
from tests.bench.limit_replicas import toml
from tests.bench.surge_clients import Protocol
from tests.bench.surge_course import MODEL

# Calls under way at the same time, of Forebay's inference and of Celery's worker alike: a limit of 10 calls a second at
# 2.7 s a call keeps 27 of them busy.
WORKERS: Final = 32
RETRIES: Final = 3
READY_WITHIN_S: Final = 120.0
STOPPED_WITHIN_S: Final = 8.0
LITELLM: Final = f"openai/{MODEL}"
PROXY_KEY: Final = "sk-bench-only-on-loopback-0123456789"
PROXY: Final = "from litellm import run_server; run_server()"
GUEST: Final = ("guest", "guest")


@dataclass(frozen=True, slots=True)
class Place:
    """What all designs share.

    Attributes:
        stack: RabbitMQ and PostgreSQL.
        packages: folder with Celery.
        proxy_packages: folder with LiteLLM's proxy.
    """

    stack: Stack
    provider: Provider
    packages: Path
    proxy_packages: Path

    @property
    def home(self) -> Path:
        """A folder that goes with the block."""
        return self.stack.home


@dataclass(frozen=True, slots=True)
class Running:
    """A design that is ready.

    Attributes:
        processes: its own, without broker, database and provider; children count with them.
        rows: a query of id, status and time of each end that it has on record; None where it has no database.
    """

    url: str
    processes: Sequence[psutil.Process]
    rows: str | None


@dataclass(frozen=True, slots=True)
class Design:
    """One of them.

    Attributes:
        name: also of its virtual host.
        start: runs it while a block lasts; is given its database and its virtual host.
        queued: whether it says ``202``, and answers later.
        migrated: whether its database is to have Forebay's tables first.
    """

    name: str
    title: str
    protocol: Protocol
    start: Callable[[Place, str, str], AbstractContextManager[Running]]
    queued: bool = False
    migrated: bool = False

    @property
    def database(self) -> str:
        """The name of its database."""
        return f"surge_{self.name}"


ROWS: Final = "SELECT id::text, status, at FROM answers"
RESPONSES: Final = "SELECT id::text, status, completed_at AS at FROM responses"


@contextmanager
def infrastructure() -> Iterator[Stack]:
    """RabbitMQ and PostgreSQL, in a folder that goes with the block."""
    with tempfile.TemporaryDirectory(prefix="forebay-surge-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        try:
            yield local.up(home, say=lambda _: None, services=(), infrastructure=("rabbitmq", "postgres"))
        finally:
            local.down(home, lambda _: None)


def virtual_host(stack: Stack, name: str) -> str:
    """Make a virtual host; its address."""
    with httpx.Client(base_url=stack.rabbitmq_management_url, auth=GUEST, trust_env=False) as http:
        http.put(f"/api/vhosts/{name}").raise_for_status()
        all_of_it = {"configure": ".*", "write": ".*", "read": ".*"}
        http.put(f"/api/permissions/{name}/guest", json=all_of_it).raise_for_status()
    return stack.amqp_url.removesuffix("%2F") + name


async def database(dsn: str, name: str, *, migrated: bool) -> str:
    """Make a database, with Forebay's tables if it is ``migrated``; its address."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    own = dsn.replace("/forebay?", f"/{name}?")
    if migrated:
        await migrate(own)
    return own


@contextmanager
def monolith(place: Place, dsn: str, _: str) -> Iterator[Running]:
    """FastAPI, one worker: call, INSERT, answer."""
    (port,) = _ports(place, "monolith")
    command = [sys.executable, "-P", "-m", "tests.bench.surge_monolith", str(port)]
    with _process(place, "monolith", command, _told(place, dsn)) as process:
        _until_ready(place, "monolith", port, "/readyz", process)
        yield Running(f"http://127.0.0.1:{port}", [process], ROWS)


@contextmanager
def proxy(place: Place, _dsn: str, _amqp: str) -> Iterator[Running]:
    """LiteLLM's proxy, one worker, with its cache in memory: equal prompts are one call."""
    (port,) = _ports(place, "proxy")
    configuration = place.home / "proxy.yaml"  # JSON is YAML
    deployment = {"model": LITELLM, "api_base": place.provider.url, "api_key": "bench"}
    caching = {"cache": True, "cache_params": {"type": "local"}}
    told = {
        "model_list": [{"model_name": MODEL, "litellm_params": deployment}],
        "litellm_settings": {"num_retries": RETRIES, "telemetry": False, **caching},
        "general_settings": {"master_key": PROXY_KEY},
    }
    configuration.write_text(json.dumps(told), encoding="utf-8")
    options = ["--config", str(configuration), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    env = _told(place, "") | {"PYTHONPATH": str(place.proxy_packages)}
    with _process(place, "proxy", [sys.executable, "-P", "-c", PROXY, *options], env) as process:
        _until_ready(place, "proxy", port, "/health/readiness", process)
        yield Running(f"http://127.0.0.1:{port}", [process], None)


@contextmanager
def celery(place: Place, dsn: str, amqp_url: str) -> Iterator[Running]:
    """FastAPI in front, Celery's worker with a pool of threads behind."""
    (port,) = _ports(place, "celery")
    python = [sys.executable, "-P", "-m"]
    worker = ["celery", "-A", "tests.bench.surge_celery:queue", "worker", "--pool", "threads", "--loglevel", "warning"]
    env = _told(place, dsn) | {"PYTHONPATH": str(place.packages), "BENCH_AMQP": amqp_url}
    with (
        _process(place, "celery", [*python, "tests.bench.surge_celery", str(port)], env) as front,
        _process(place, "celery-worker", [*python, *worker, "--concurrency", str(WORKERS)], env) as behind,
    ):
        _until_ready(place, "celery", port, "/readyz", front)
        yield Running(f"http://127.0.0.1:{port}", [front, behind], ROWS)


@contextmanager
def forebay(
    place: Place, dsn: str, amqp_url: str, *, told: Mapping[str, str], services: Sequence[str] = ALL
) -> Iterator[Running]:
    """The services, one of each, under their supervisor; ``told`` are settings."""
    home = place.home / f"services-{len(list(place.home.glob('services-*')))}"
    policy = place.home / "surge.toml"
    policy.write_text(toml(forebay_policy(place.provider.url)), encoding="utf-8")
    env = {
        "FOREBAY_AMQP_URL": amqp_url,
        "FOREBAY_POSTGRES_DSN": dsn,
        "FOREBAY_INFERENCE_CONCURRENCY": str(WORKERS),
        **told,
    }
    pairs = [f"{name}={value}" for name, value in env.items()]

    def command(service: str) -> list[str]:
        return ["/usr/bin/env", *pairs, sys.executable, "-P", "-m", f"services.{service}"]

    with ExitStack() as started:
        started.callback(local.down, home, lambda _: None)
        stack = local.up(
            home, say=lambda _: None, services=services, infrastructure=(), policy=policy, service_command=command
        )
        processes = [psutil.Process(each.pid) for each in stack.services.values()]
        yield Running(stack.http_url, processes, RESPONSES)


def forebay_policy(provider: str) -> dict[str, Any]:
    """The policy that ships, with one tier: the others have one model too, and nothing is to be won by routing here."""
    policy = tomllib.loads(packaged_policy().read_text(encoding="utf-8"))
    lane = {"name": "simulated", "model": LITELLM, "api_base": provider, "options": {"api_key": "bench"}}
    tier = {"lanes": [lane], "price_as": MODEL, "max_output_tokens": 1000, "timeout_s": 60}
    router = policy["router"] | {"ladder": ["light"], "default": "light", "thresholds": {}}
    return policy | {"tiers": {"light": tier}, "router": router}


DESIGNS: Final = (
    Design("monolith", "FastAPI + litellm + INSERT", "answers", monolith),
    Design("proxy", "LiteLLM's proxy", "chat", proxy),
    Design("celery", "FastAPI + Celery", "tickets", celery, queued=True),
    Design("forebay", "Forebay", "forebay", partial(forebay, told={}), queued=True, migrated=True),
    Design(
        "forebay_restless",
        "Forebay, without rests",
        "forebay",
        partial(forebay, told={"FOREBAY_REST_MS": "1"}),
        queued=True,
        migrated=True,
    ),
)


def _told(place: Place, dsn: str) -> dict[str, str]:
    return {
        "BENCH_DSN": dsn,
        "BENCH_PROVIDER": place.provider.url,
        "BENCH_MODEL": LITELLM,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }


def _ports(place: Place, *names: str) -> list[int]:
    return list(ports.choose(Home.at(place.home), names).values())


@contextmanager
def _process(place: Place, name: str, command: Sequence[str], env: Mapping[str, str]) -> Iterator[psutil.Popen]:
    with (place.home / f"{name}.log").open("w") as log:
        process = psutil.Popen(
            command,
            env=os.environ | env,
            cwd=place.home,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: psutil.Popen) -> None:
    """Calls that are under way need not end well."""
    everybody = [process, *process.children(recursive=True)] if process.is_running() else [process]
    for each in everybody:
        if each.is_running():
            each.terminate()
    _, left = psutil.wait_procs(everybody, STOPPED_WITHIN_S)
    for each in left:
        each.kill()
    process.wait()


def _until_ready(place: Place, name: str, port: int, path: str, process: psutil.Popen) -> None:
    until_s = time.monotonic() + READY_WITHIN_S
    while not readiness.http_ok(port, path):
        if process.poll() is not None or time.monotonic() > until_s:
            said = (place.home / f"{name}.log").read_text()[-2000:]
            raise RuntimeError(f"{name} is not ready ({shlex.join(process.args)}):\n{said}")
        time.sleep(0.2)

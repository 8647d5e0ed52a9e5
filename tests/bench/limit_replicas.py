"""Replicas of inference as they run anywhere, for a bench: processes, a private RabbitMQ and PostgreSQL, requests."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self
from uuid import uuid4

import psutil

from infra.local import ports, readiness
from infra.local import stack as local
from infra.local.home import Home
from infra.local.stack import Stack
from shared import database, settings
from shared.background import background
from shared.clock import SYSTEM_CLOCK
from shared.events import RequestRouted
from shared.publishing import publish
from shared.rabbitmq import RabbitBroker
from shared.topology import TERMINAL_EVENTS, topology
from tests.support import make

REPLICAS: Final = 3
WORKERS: Final = 50
MODEL: Final = "openai/simulated"
READY_WITHIN_S: Final = 180.0
AT_ONCE: Final = 200


@contextmanager
def stack() -> Iterator[Stack]:
    """RabbitMQ and PostgreSQL, in a folder that goes with the block."""
    with tempfile.TemporaryDirectory(prefix="forebay-limits-") as folder:
        home = Path(folder)
        infrastructure = ("rabbitmq", "postgres")
        try:
            yield local.up(
                home, say=lambda _: None, services=(), infrastructure=infrastructure, migrate=database.migrate
            )
        finally:
            local.down(home, lambda _: None)


def lane(name: str, url: str) -> dict[str, Any]:
    """A lane at a simulated provider of which nothing is known."""
    return {"name": name, "model": MODEL, "api_base": url, "options": {"api_key": "bench"}}


def policy(tier: str, lanes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A policy of one tier with these lanes."""
    return make.policy_data(
        tiers={tier: {"lanes": list(lanes), "max_output_tokens": 100, "timeout_s": 30}},
        router__ladder=[tier],
        router__default=tier,
        router__thresholds={},
        prices={MODEL: {"input": 1.0, "output": 1.0}},
    )


def shares(workers: int, processes: int) -> list[int]:
    """So many workers over so many processes, as evenly as it goes."""
    return [workers // processes + (place < workers % processes) for place in range(processes)]


class Replicas:
    """Some replicas of inference that serve one tier, and the requests they are given.

    Attributes:
        processes: the replicas.
        outcomes: terminal results, by the first two words of their routing key.
    """

    def __init__(self, tier: str, broker: RabbitBroker, processes: Sequence[psutil.Popen]) -> None:
        self._tier = tier
        self._broker = broker
        self._told: set[str] = set()
        self._heard = asyncio.Event()
        self.processes = processes
        self.outcomes: Counter[str] = Counter()

    @classmethod
    @asynccontextmanager
    async def running(
        cls, at: Stack, tier: str, lanes: Sequence[dict[str, Any]], workers: int = WORKERS
    ) -> AsyncIterator[Self]:
        """Replicas that are ready, for as long as the block runs."""
        known = settings.load()
        broker = RabbitBroker(
            at.amqp_url,
            name="forebay bench",
            publish_timeout_s=known.publish_timeout_s,
            delivery_limit=known.delivery_limit,
            topology=topology([tier]),
        )
        file = at.home / f"{tier}.toml"
        file.write_text(toml(policy(tier, lanes)), encoding="utf-8")
        with _processes(at, file, shares(workers, REPLICAS)) as processes:
            replicas = cls(tier, broker, processes)
            async with broker:
                await broker.wait_connected()
                async with background(replicas._listen, name="results"):
                    yield replicas

    async def ask(self, requests: int) -> None:
        """Put so many requests on the queue, each with a prompt of its own."""
        for start in range(0, requests, AT_ONCE):
            events = [self._request() for _ in range(min(AT_ONCE, requests - start))]
            await publish(self._broker, events, source="bench", now=datetime.now(UTC))

    async def finished(self, requests: int) -> None:
        """Return once so many have their terminal result."""
        while self.outcomes.total() < requests:
            self._heard.clear()
            await self._heard.wait()

    @property
    def failed(self) -> int:
        """Requests whose terminal result is a failure."""
        return self.outcomes["response.failed"]

    async def _listen(self) -> None:
        """Never returns: counts the terminal results, each request once."""
        async with self._broker.subscribe(TERMINAL_EVENTS, prefetch=AT_ONCE) as subscription:
            while True:
                deliveries = await subscription.take(AT_ONCE)
                for delivery in deliveries:
                    request_id = json.loads(delivery.message.body)["request_id"]
                    if request_id not in self._told:
                        self._told.add(request_id)
                        self.outcomes[".".join(delivery.message.routing_key.split(".")[:2])] += 1
                await subscription.ack(deliveries)
                self._heard.set()

    def _request(self) -> RequestRouted:
        request_id = uuid4()
        asked = make.request(f"What is {request_id}?", id=request_id, accepted_at=SYSTEM_CLOCK.now())
        return make.routed(asked, key=None, route=make.route(self._tier, model=MODEL))


@contextmanager
def _processes(at: Stack, file: Path, concurrency: Sequence[int]) -> Iterator[list[psutil.Popen]]:
    names = [f"{file.stem}-{number}" for number in range(len(concurrency))]
    chosen = ports.choose(Home.at(at.home), names)
    env = os.environ | {
        "FOREBAY_AMQP_URL": at.amqp_url,
        "FOREBAY_POSTGRES_DSN": at.postgres_dsn,
        "FOREBAY_POLICY_FILE": str(file),
        "FOREBAY_LOG_LEVEL": "warning",
        "FOREBAY_SHUTDOWN_S": "3",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "OMP_NUM_THREADS": "1",
    }
    processes: list[psutil.Popen] = []
    try:
        for name, workers in zip(names, concurrency, strict=True):
            told = {"FOREBAY_HTTP_PORT": str(chosen[name]), "FOREBAY_INFERENCE_CONCURRENCY": str(workers)}
            with (at.home / f"{name}.log").open("w") as log:
                command = [sys.executable, "-P", "-m", "services.inference"]
                processes.append(psutil.Popen(command, env=env | told, stdout=log, stderr=subprocess.STDOUT))
        _until_ready(chosen, processes, at.home)
        yield processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def _until_ready(chosen: dict[str, int], processes: Sequence[psutil.Popen], home: Path) -> None:
    until_s = time.monotonic() + READY_WITHIN_S
    for (name, port), process in zip(chosen.items(), processes, strict=True):
        while not readiness.http_ok(port, "/readyz"):
            if process.poll() is not None or time.monotonic() > until_s:
                raise RuntimeError(f"a replica is not ready:\n{(home / f'{name}.log').read_text()[-2000:]}")
            time.sleep(0.2)


def toml(value: Any) -> str:
    """A table as TOML; what is in it as inline tables."""
    return "".join(f"{json.dumps(key)} = {_inline(each)}\n" for key, each in value.items())


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_inline(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return json.dumps(value)

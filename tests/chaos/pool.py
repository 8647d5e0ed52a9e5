"""The system under chaos: services, broker and database as in production, with proxies between them."""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from infra.local import postgres, rabbitmq
from infra.local import stack as local
from infra.local.services import ALL
from infra.simulator.engine import Simulator
from infra.simulator.scenario import Answer, Scenario, Uniform
from infra.simulator.server import serving
from shared import database
from tests.chaos import clock
from tests.chaos.cluster import Cluster
from tests.chaos.load import TOKENS
from tests.chaos.proxy import Proxy

POLICY: Final = Path(__file__).with_name("policy.toml")
# An answer takes 50 to 400 ms: about a fortieth of what a large model takes.
CALM: Final = Scenario(latency=Uniform(kind="uniform", low=0.05, high=0.4), answer=Answer(tokens=TOKENS, drip_s=0.2))


@dataclass(frozen=True)
class System:
    """What can be struck, and where it is.

    Attributes:
        infrastructure: home of the broker and the database.
        services: home of the services, which reach both through the proxies.
        clock: file of the wall clock of all services.
        provider: the simulated provider's address.
        direct_url: the broker past the proxy; for a cluster, a proxy of its own, which nobody strikes.
    """

    infrastructure: Path
    services: Path
    clock: Path
    broker: Proxy
    database: Proxy
    provider: str
    amqp_url: str
    direct_url: str
    http_url: str
    dsn: str
    cluster: Cluster | None

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal a program, which its supervisor starts again; one that is just being started again is let be."""
        home = self.infrastructure if name in local.INFRASTRUCTURE else self.services
        pid = local.read(home).programs[name].pid
        if pid is not None:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return

    async def order(self, **changes: Any) -> None:
        """Let the provider go on by another scenario."""
        async with httpx.AsyncClient(base_url=self.provider, trust_env=False) as http:
            (await http.patch("/control/scenario", json=changes)).raise_for_status()

    async def depths(self) -> dict[str, int]:
        """Messages in each queue that is not a consumer's own, ready and unacknowledged."""
        base = self.cluster.management_url if self.cluster else local.read(self.infrastructure).rabbitmq_management_url
        async with httpx.AsyncClient(auth=("guest", "guest"), trust_env=False, timeout=10) as http:
            queues = (await http.get(f"{base}/api/queues/%2F")).raise_for_status().json()
        return {queue["name"]: queue.get("messages", 0) for queue in queues if not queue["exclusive"]}

    async def ready(self) -> None:
        """Return when every service is ready."""
        ports = [running.port for running in local.read(self.services).services.values()]
        async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
            for port in ports:
                while not await _ready(http, port):
                    await asyncio.sleep(0.2)


async def _ready(http: httpx.AsyncClient, port: int) -> bool:
    try:
        return (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


@asynccontextmanager
async def system(*, clustered: bool = False) -> AsyncIterator[System]:
    """A system of its own in a temporary folder, gone with the block."""
    async with AsyncExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="forebay-chaos-", ignore_cleanup_errors=True))
        )
        simulator = await stack.enter_async_context(serving(Simulator(CALM)))
        cluster = None
        if clustered:
            cluster = Cluster(folder / "cluster")
            running = cluster.running()
            await asyncio.to_thread(running.__enter__)
            stack.push_async_callback(asyncio.to_thread, running.__exit__, None, None, None)
        infrastructure, services = folder / "infrastructure", folder / "services"
        parts: Sequence[str] = ("postgres",) if cluster else ("rabbitmq", "postgres")
        stack.push_async_callback(asyncio.to_thread, local.down, infrastructure, _silent)
        below = await asyncio.to_thread(
            local.up, infrastructure, say=_silent, services=(), infrastructure=parts, migrate=database.migrate
        )
        nodes = cluster.ports if cluster else [below.infrastructure["rabbitmq"].port]
        broker, database_proxy = Proxy(nodes), Proxy([below.infrastructure["postgres"].port])
        amqp_url = rabbitmq.url(await stack.enter_async_context(broker.serving()))
        dsn = postgres.url(await stack.enter_async_context(database_proxy.serving()))
        clock_file = folder / "clock"
        clock.jump(clock_file, 0)
        environment = {
            "FOREBAY_AMQP_URL": amqp_url,
            "FOREBAY_POSTGRES_DSN": dsn,
            "FOREBAY_LOCAL_MODEL_URL": f"{simulator}/v1",
            clock.FILE: str(clock_file),
        }
        pairs = [f"{name}={value}" for name, value in environment.items()]

        def command(service: str) -> list[str]:
            return ["/usr/bin/env", *pairs, sys.executable, "-P", "-m", "tests.chaos.clock", service]

        stack.push_async_callback(asyncio.to_thread, local.down, services, _silent)
        above = await asyncio.to_thread(
            local.up, services, say=_silent, services=ALL, infrastructure=(), policy=POLICY, service_command=command
        )
        untouched = Proxy(nodes)
        yield System(
            infrastructure=infrastructure,
            services=services,
            clock=clock_file,
            broker=broker,
            database=database_proxy,
            provider=simulator,
            amqp_url=amqp_url,
            direct_url=rabbitmq.url(await stack.enter_async_context(untouched.serving())),
            http_url=above.http_url,
            dsn=below.postgres_dsn,
            cluster=cluster,
        )


def _silent(_: str) -> None:
    """Say nothing."""

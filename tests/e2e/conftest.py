"""Clients of the session's stack."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import asyncpg
import httpx
import pytest

from infra.local import stack as local
from infra.local.stack import Stack
from shared.client import FINISHED, AmqpClient

PATIENCE_S = 90
SHORT = 8  # tokens: these tests are about the path, not about the answers

Kill = Callable[[str], int]


class Api:
    """The HTTP API, for one tenant of its own."""

    def __init__(self, http: httpx.AsyncClient, tenant: str) -> None:
        self.http = http
        self.tenant = tenant

    async def post(self, body: object, *, headers: Mapping[str, str] | None = None) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.http.post(
            "/v1/requests", content=content, headers={"Forebay-Tenant": self.tenant, **(headers or {})}
        )

    async def get(self, request_id: str) -> httpx.Response:
        return await self.http.get(f"/v1/requests/{request_id}", headers={"Forebay-Tenant": self.tenant})

    async def answer(self, prompt: str, **fields: object) -> dict[str, Any]:
        """Submit and stay until there is a result."""
        response = await self.post({"input": prompt, "max_output_tokens": SHORT} | fields)
        assert response.status_code == 202, response.text
        return await self.finished(response.json()["id"])

    async def finished(self, request_id: str) -> dict[str, Any]:
        """The result of a request, once it has one."""

        async def result() -> dict[str, Any] | None:
            try:
                response = await self.get(request_id)
            except httpx.TransportError:
                return None  # ingest may be the one that was killed
            if response.status_code == 503:
                return None
            assert response.status_code == 200, response.text
            shown: dict[str, Any] = response.json()
            return shown if shown["status"] in FINISHED else None

        return cast("dict[str, Any]", await eventually(result))


async def eventually(found: Callable[[], Awaitable[Any]], *, within_s: float = PATIENCE_S) -> Any:
    """The first truthy result, asked for again and again."""
    async with asyncio.timeout(within_s):
        while not (result := await found()):
            await asyncio.sleep(0.2)  # two cores: asking more often would keep the asked from working
        return result


@pytest.fixture(scope="session", autouse=True)
def restless() -> Iterator[None]:
    """Rows are there at the next tick: tests look at them, and change them, behind the services' back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOREBAY_REST_MS", "1")
        yield


@pytest.fixture
def tenant() -> str:
    """A tenant nobody else has: its scope of the cache is empty."""
    return f"t-{uuid4().hex[:12]}"


@pytest.fixture
async def api(stack: Stack, tenant: str) -> AsyncIterator[Api]:
    async with httpx.AsyncClient(base_url=stack.http_url, timeout=PATIENCE_S, trust_env=False) as http:
        yield Api(http, tenant)


@pytest.fixture
async def amqp(stack: Stack, tenant: str) -> AsyncIterator[AmqpClient]:
    async with AmqpClient.connect(stack.amqp_url, tenant=tenant) as client:
        yield client


class Rows:
    """What PostgreSQL has of one tenant."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]", tenant: str) -> None:
        self.connection = connection
        self.tenant = tenant

    async def all(self, statement: str) -> list[asyncpg.Record]:
        return await self.connection.fetch(statement, self.tenant)

    async def count(self, table: str) -> int:
        count: int = await self.connection.fetchval(f"SELECT count(*) FROM {table} WHERE tenant = $1", self.tenant)
        return count

    async def settled(self, requests: int) -> None:
        """Return once there are so many requests and as many responses; fails when there are ever more."""

        async def complete() -> bool:
            counts = await self.count("requests"), await self.count("responses")
            assert max(counts) <= requests, counts
            return counts == (requests, requests)

        await eventually(complete)

    async def entries(self, count: int) -> list[asyncpg.Record]:
        """What the cache keeps, once there are so many: a cache answers from its memory before they are written."""

        async def found() -> list[asyncpg.Record]:
            entries = await self.all("SELECT *, expires_at - stored_at AS ttl FROM cache_entries WHERE tenant = $1")
            return entries if len(entries) == count else []

        entries: list[asyncpg.Record] = await eventually(found)
        return entries

    async def settled_responses(self, responses: int) -> None:
        """Return once there are so many terminal results."""

        async def complete() -> bool:
            return await self.count("responses") == responses

        await eventually(complete)


@pytest.fixture
async def rows(stack: Stack, tenant: str) -> AsyncIterator[Rows]:
    rows = Rows(await asyncpg.connect(stack.postgres_dsn), tenant)
    yield rows
    await rows.connection.close()


@pytest.fixture
def cli(stack: Stack, home: Path, tenant: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line, on the session's stack."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("forebay")), *arguments, "--home", str(home)]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    return run


@pytest.fixture
def kill(home: Path) -> Kill:
    """SIGKILL a program of the stack, by name; the supervisor starts it again."""

    def run(name: str) -> int:
        pid = local.read(home).programs[name].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        return pid

    return run


async def restarted(home: Path, name: str, old_pid: int) -> None:
    """Return once the supervisor has started a killed program again."""

    async def again() -> bool:
        pid = local.read(home).programs[name].pid
        return pid is not None and pid != old_pid

    await eventually(again)


async def metric(stack: Stack, service: str, name: str) -> float:
    """The sum of a metric's samples in one service."""
    port = stack.services[service].port
    async with httpx.AsyncClient(trust_env=False) as http:
        text = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
    lines = (line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{")))
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


async def depths(stack: Stack) -> dict[str, int]:
    """Messages in each queue, ready and unacknowledged, straight from the broker."""
    async with httpx.AsyncClient(auth=("guest", "guest"), trust_env=False) as http:
        queues = (await http.get(f"{stack.rabbitmq_management_url}/api/queues/%2F")).json()
    return {queue["name"]: queue.get("messages", 0) for queue in queues if not queue["exclusive"]}

"""Probes and metrics."""

import httpx
import pytest
from starlette.applications import Starlette

from shared import probes
from shared.memory import MemoryBroker


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


async def get(broker: MemoryBroker, path: str) -> httpx.Response:
    app = Starlette(routes=probes.routes(broker))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        return await client.get(path)


async def test_ready_follows_the_broker_and_healthy_does_not(broker: MemoryBroker) -> None:
    assert (await get(broker, "/readyz")).status_code == 200
    broker.connected = False
    response = await get(broker, "/readyz")
    assert (response.status_code, response.json()) == (503, {"broker": "not connected"})
    assert (await get(broker, "/healthz")).status_code == 200


async def test_metrics_are_prometheus_text(broker: MemoryBroker) -> None:
    response = await get(broker, "/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert "# TYPE forebay_messages_consumed_total counter" in response.text
    assert "# TYPE forebay_write_transactions_total counter" in response.text

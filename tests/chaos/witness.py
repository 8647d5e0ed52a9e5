"""What was seen of the ends of requests: every terminal event, and the rows."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import asyncpg

from infra.simulator.openai import ChatBody, Turn, completed
from shared import envelope
from shared.errors import BrokerUnavailable
from shared.events import ResponseCompleted, ResponseFailed
from shared.rabbitmq import RabbitBroker
from shared.topology import EXCHANGES, RESPONSES, Binding, Queue, Topology
from tests.chaos.history import Terminal
from tests.chaos.load import MARK, TOKENS, Planned

OBSERVER: Final = Queue("chaos.observer", (Binding(RESPONSES, "#"),))
ROWS: Final = """
SELECT id, tenant, status, replay, body->'metadata'->>'mark' AS mark, body->>'output_text' AS text
FROM responses WHERE tenant = ANY($1)
"""
UNFINISHED: Final = """
SELECT id FROM requests WHERE tenant = ANY($1) AND NOT EXISTS (SELECT FROM responses WHERE responses.id = requests.id)
"""
SOURCES: Final = "SELECT coalesce(source, code), count(*) FROM responses WHERE tenant = ANY($1) GROUP BY 1 ORDER BY 1"


class Witness:
    """Sees every terminal event on a queue of its own, which outlives connections and restarts."""

    def __init__(self, broker: RabbitBroker, dsn: str) -> None:
        self._broker = broker
        self._dsn = dsn
        self._events: list[ResponseCompleted | ResponseFailed] = []
        self._meanings: dict[str, str] = {}

    @classmethod
    @asynccontextmanager
    async def watching(cls, amqp_url: str, dsn: str) -> AsyncIterator["Witness"]:
        """A witness that watches while the block runs."""
        topology = Topology(EXCHANGES, (OBSERVER, OBSERVER.dead))
        async with RabbitBroker(amqp_url, name="chaos witness", topology=topology) as broker:
            await broker.wait_connected()
            witness = cls(broker, dsn)
            watching = asyncio.create_task(witness._watch())
            try:
                yield witness
            finally:
                watching.cancel()
                await asyncio.wait((watching,))

    async def _watch(self) -> None:
        while True:
            try:
                async with self._broker.subscribe(OBSERVER, prefetch=500) as subscription:
                    while deliveries := await subscription.take(500):
                        events = [envelope.decode(delivery.message) for delivery in deliveries]
                        self._events.extend(e for e in events if isinstance(e, ResponseCompleted | ResponseFailed))
                        await subscription.ack(deliveries)
            except BrokerUnavailable:
                await self._broker.wait_connected()
                await asyncio.sleep(0.1)  # the connection may not have noticed yet

    def told_of(self, planned: list[Planned]) -> None:
        """Know the answers to these prompts when they are seen."""
        self._meanings |= {simulated(one.prompt): one.meaning for one in planned}

    def events(self, tenants: set[str]) -> list[Terminal]:
        """The terminal events of some tenants' requests, as often as they came."""
        return [self._seen(event) for event in self._events if event.tenant in tenants]

    async def rows(self, tenants: set[str]) -> tuple[list[Terminal], list[UUID], Mapping[str, int]]:
        """The terminal rows of some tenants, the ids of requests without one, and how many there are by source."""
        connection = await asyncpg.connect(self._dsn)
        try:
            rows = await connection.fetch(ROWS, list(tenants))
            unfinished = await connection.fetch(UNFINISHED, list(tenants))
            sources = await connection.fetch(SOURCES, list(tenants))
        finally:
            await connection.close()
        return [self._row(row) for row in rows], [row["id"] for row in unfinished], dict(map(tuple, sources))

    def _row(self, row: "asyncpg.Record") -> Terminal:
        answers = None if row["text"] is None else self._meaning(row["text"])
        return Terminal(row["id"], row["tenant"], row["mark"], row["status"], answers, row["replay"])

    def _seen(self, event: ResponseCompleted | ResponseFailed) -> Terminal:
        done = isinstance(event, ResponseCompleted)
        answers = self._meaning(event.output_text) if isinstance(event, ResponseCompleted) else None
        mark = event.metadata.get(MARK)
        return Terminal(event.request_id, event.tenant, mark, "completed" if done else "failed", answers, event.replay)

    def _meaning(self, text: str) -> str:
        return self._meanings.get(text, f"nothing that was asked: {text!r}")


def simulated(prompt: str) -> str:
    """What the simulated provider answers to a prompt."""
    turns: list[Any] = [Turn(role="user", content=prompt)]
    return completed(ChatBody(model="simulated", messages=turns), TOKENS).text

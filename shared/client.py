"""A client of Forebay: over HTTP, and over AMQP the way any program would do it, with plain aio-pika.

Nothing here is used by the services.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Self
from urllib.parse import quote
from uuid import uuid4

import aio_pika
import httpx
from aio_pika import abc

from shared.events import DEFAULT_TENANT, Priority
from shared.topology import REQUESTS

FINISHED: Final = {"completed", "failed", "cancelled"}
LONGEST_WAIT_S: Final = 30


class Refused(Exception):
    """The service said no; the message is its own."""


class Unreachable(Refused):
    """Nobody answers at that address."""


class _Http:
    """A service's HTTP, asked in the name of a tenant."""

    def __init__(self, url: str, *, tenant: str = DEFAULT_TENANT) -> None:
        self._url = url
        self._http = httpx.AsyncClient(
            base_url=url, headers={"Forebay-Tenant": tenant}, timeout=LONGEST_WAIT_S + 10, trust_env=False
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._http.__aexit__(*error)

    async def _get(self, path: str) -> dict[str, Any]:
        return await self._asked("GET", path)

    async def _post(
        self, path: str, body: Mapping[str, object], headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        return await self._asked("POST", path, json=dict(body), headers=headers)

    async def _asked(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        try:
            response = await self._http.request(method, path, **request)
        except httpx.TransportError as error:
            raise Unreachable(f"{self._url}{path} does not answer: {str(error) or type(error).__name__}") from None
        try:
            body: dict[str, Any] = response.json()
        except ValueError:
            raise Refused(f"{response.status_code}: {response.text[:200]}") from None
        if response.is_success:
            return body
        pointer = f" ({body['pointer']})" if body.get("pointer") else ""
        later = f"; again in {after} s" if (after := response.headers.get("Retry-After")) else ""
        raise Refused(f"{response.status_code} {body.get('title', '')}: {body.get('detail', body)}{pointer}{later}")


class HttpClient(_Http):
    """Submits requests and asks for results; every call raises Refused."""

    async def submit(
        self,
        body: Mapping[str, object],
        *,
        wait_s: int = 0,
        key: str | None = None,
        priority: Priority = Priority.INTERACTIVE,
    ) -> dict[str, Any]:
        """Submit; returns the request as the service shows it."""
        headers = {"Forebay-Priority": priority.value}
        if wait_s:
            headers["Prefer"] = f"wait={wait_s}"
        if key is not None:
            headers["Idempotency-Key"] = key
        return await self._post("/v1/requests", body, headers)

    async def result(self, request_id: str) -> dict[str, Any]:
        """The request as it is now."""
        return await self._get(f"/v1/requests/{quote(request_id, safe='')}")

    async def cancel(self, request_id: str) -> dict[str, Any]:
        """Say that a request is needed no more; returns it as it is now."""
        return await self._post(f"/v1/requests/{quote(request_id, safe='')}/cancel", {})

    async def finished(
        self, body: Mapping[str, object], *, poll_s: float = 0.5, priority: Priority = Priority.INTERACTIVE
    ) -> dict[str, Any]:
        """Submit and stay until there is a result, however long it takes."""
        shown = await self.submit(body, wait_s=LONGEST_WAIT_S, priority=priority)
        while shown["status"] not in FINISHED:
            await asyncio.sleep(poll_s)
            shown = await self.result(shown["id"])
        return shown

    async def forget(
        self, selector: Mapping[str, object], *, reason: str | None = None, dry_run: bool = False
    ) -> dict[str, Any]:
        """Forget cache entries, or only say which would go."""
        said = {} if reason is None else {"reason": reason}
        return await self._post("/v1/cache/invalidate", {"selector": selector, "dry_run": dry_run, **said})

    async def wrong(self, request_id: str, *, comment: str = "", hours: int = 24) -> dict[str, Any]:
        """Say that the cache's answer to a request was wrong."""
        said = {"verdict": "wrong_hit", "comment": comment, "hours": hours}
        return await self._post(f"/v1/requests/{quote(request_id, safe='')}/feedback", said)

    async def rate(self, request_id: str, quality: float, *, comment: str = "") -> dict[str, Any]:
        """Say how good the answer to a request is, 0 to 1."""
        said = {"quality": quality, "comment": comment}
        return await self._post(f"/v1/requests/{quote(request_id, safe='')}/rating", said)

    async def tell(
        self, terms: Sequence[str], *, trending: bool, lasting: str | None = None, reason: str | None = None
    ) -> dict[str, Any]:
        """Say that a topic trends, or has settled."""
        said = {"for": lasting, "reason": reason}
        body = {"terms": list(terms), "trending": trending}
        return await self._post("/v1/topics", body | {name: value for name, value in said.items() if value is not None})


class TopicsClient(_Http):
    """Asks a replica of trends, or of the cache, at its own address, about topics; every call raises Refused."""

    async def topics(self) -> dict[str, Any]:
        """Of trends: what trends, and why. Of the cache: what it heeds, and how many entries that keeps back."""
        return await self._get("/v1/topics")


class CacheClient(_Http):
    """Asks a replica of the cache, at its own address, what is in it; every call raises Refused."""

    async def stats(self) -> dict[str, Any]:
        """What is stored, what it has saved, and how often it is wrong."""
        return await self._get("/v1/stats")

    async def lookup(self, body: Mapping[str, object]) -> dict[str, Any]:
        """What the cache would answer to a submission, and why; nothing is bought or counted."""
        return await self._post("/v1/lookup", body)


class DeadClient(_Http):
    """Asks a replica of persistence, at its own address, about failed requests and dead letters; raises Refused."""

    async def listed(self, **said: object) -> dict[str, Any]:
        """Failures that are to be looked after, and how many there are of each class."""
        return await self._asked("GET", "/v1/dead", params=said)

    async def show(self, request_id: str) -> dict[str, Any]:
        """One failure, with the whole request."""
        return await self._get(f"/v1/dead/{quote(request_id, safe='')}")

    async def replay(self, said: Mapping[str, object]) -> dict[str, Any]:
        """Run failed requests anew."""
        return await self._post("/v1/dead/replay", said)

    async def drop(self, said: Mapping[str, object]) -> dict[str, Any]:
        """Take failures off the list."""
        return await self._post("/v1/dead/drop", said)

    async def queues(self) -> dict[str, Any]:
        """The queues of dead letters, and how many letters each has."""
        return await self._get("/v1/dead/queues")

    async def letters(self, queue: str, *, limit: int) -> dict[str, Any]:
        """Some letters of a queue, which stay there."""
        return await self._asked("GET", f"/v1/dead/queues/{quote(queue, safe='')}", params={"limit": limit})

    async def purge(self, queue: str) -> dict[str, Any]:
        """Delete all letters of a queue."""
        return await self._asked("DELETE", f"/v1/dead/queues/{quote(queue, safe='')}")


class AmqpClient:
    """Publishes requests to the exchange, and collects terminal events from a reply queue of its own."""

    def __init__(self, connection: abc.AbstractConnection, *, tenant: str) -> None:
        self._connection = connection
        self._tenant = tenant
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}

    @classmethod
    @asynccontextmanager
    async def connect(cls, url: str, *, tenant: str = DEFAULT_TENANT) -> AsyncIterator[Self]:
        """A client on a connection of its own."""
        connection = await aio_pika.connect(url)
        async with connection:
            client = cls(connection, tenant=tenant)
            channel = await connection.channel(on_return_raises=True)
            client._exchange = await channel.get_exchange(REQUESTS.name, ensure=False)
            client._replies = await channel.declare_queue(exclusive=True, auto_delete=True)
            await client._replies.consume(client._on_reply, no_ack=True)
            yield client

    _exchange: abc.AbstractExchange
    _replies: abc.AbstractQueue

    async def _on_reply(self, message: abc.AbstractIncomingMessage) -> None:
        waiter = self._waiting.pop(message.correlation_id or "", None)
        if waiter is not None and not waiter.done():
            waiter.set_result(json.loads(message.body))

    async def publish(
        self, body: Mapping[str, object], *, priority: Priority = Priority.INTERACTIVE
    ) -> "asyncio.Future[dict[str, Any]]":
        """Publish and return once the broker has confirmed; the future is the terminal event's body."""
        correlation_id = uuid4().hex
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[correlation_id] = answer
        message = aio_pika.Message(
            json.dumps(body).encode(),
            content_type="application/json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            correlation_id=correlation_id,
            reply_to=self._replies.name,
            message_id=correlation_id,
        )
        await self._exchange.publish(message, f"request.submitted.{priority}.{self._tenant}")
        return answer

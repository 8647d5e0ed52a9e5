"""Steady load by clients that write down what they were told."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Final, Literal
from uuid import UUID

import httpx

from shared.broker import Message
from shared.errors import BrokerError
from shared.rabbitmq import RabbitBroker
from shared.topology import REQUESTS
from tests.chaos.history import Sent

MARK: Final = "mark"
TOKENS: Final = 3  # what a simulated answer needs to name the prompt it answers
# How long a client goes on trying, and how long it waits between two tries.
PATIENCE_S: Final = 120.0
PAUSE_S: Final = 0.5
ANSWER_WITHIN_S: Final = 15.0
SHARES: Final = {"new": 0.5, "repeat": 0.3, "near": 0.2}
THINGS: Final = ("pump", "turbine", "sluice", "generator", "spillway", "penstock", "transformer", "intake")
WORDINGS: Final = (
    "Tell me about part {number} of the {thing} catalogue.",
    "Please tell me about part {number} of the {thing} catalogue.",
    "Tell me something about part {number} of the {thing} catalogue.",
)


@dataclass(frozen=True, slots=True)
class Planned:
    """A request to be sent.

    Attributes:
        at_s: seconds after the load has begun.
        keyed: whether it has a key, and is sent again under it when nobody tells what became of it.
    """

    at_s: float
    mark: str
    tenant: str
    door: Literal["http", "amqp"]
    keyed: bool
    meaning: str
    prompt: str


def plan(random: Random, *, requests: int, per_s: float, tenants: Sequence[str]) -> list[Planned]:
    """What is sent: half new prompts, the others repeat an earlier one of their tenant exactly or nearly.

    Most repeats are of the last few, so that some meet their like in flight and others in the cache.
    """
    asked: dict[str, list[tuple[str, str]]] = defaultdict(list)
    planned = []
    for number in range(requests):
        tenant = random.choice(tenants)
        (kind,) = random.choices(list(SHARES), list(SHARES.values()))
        thing = THINGS[number % len(THINGS)]
        meaning = f"{thing} {1000 + number}"
        prompt = WORDINGS[0].format(number=1000 + number, thing=thing)
        if kind != "new" and asked[tenant]:
            back = min(len(asked[tenant]), 1 + int(random.expovariate(1 / 20)))
            meaning, prompt = asked[tenant][-back]
            if kind == "near":
                thing, _, place = meaning.partition(" ")
                prompt = random.choice(WORDINGS[1:]).format(number=place, thing=thing)
        else:
            asked[tenant].append((meaning, prompt))
        door: Literal["http", "amqp"] = random.choice(("http", "amqp"))
        keyed = door == "amqp" or random.random() < 0.5
        planned.append(Planned(number / per_s, f"{tenant}-{number}", tenant, door, keyed, meaning, prompt))
    return planned


@dataclass(slots=True)
class Log:
    """What the clients know.

    Attributes:
        sent: every request.
        accepted_at: when each acceptance was told, by the monotonic clock.
    """

    sent: list[Sent] = field(default_factory=list)
    accepted_at: list[float] = field(default_factory=list)

    def accepted(self, one: Sent, request_id: UUID | None) -> None:
        """A client was told that its request was taken."""
        one.accepted.append(request_id)
        self.accepted_at.append(time.monotonic())

    def longest_gap_s(self) -> float:
        """The longest time in which nothing was accepted, between the first time and the last."""
        moments = sorted(self.accepted_at)
        return max((later - before for before, later in pairwise(moments)), default=0.0)


class Clients:
    """Sends what was planned, when it was planned, whatever became of the ones before."""

    def __init__(self, http: httpx.AsyncClient, broker: RabbitBroker, log: Log) -> None:
        self._http = http
        self._broker = broker
        self._log = log

    async def send(self, planned: Sequence[Planned]) -> None:
        """Return once every request was accepted, or its client has given up."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for one in planned:
                await asyncio.sleep(max(0.0, began + one.at_s - time.monotonic()))
                sent = Sent(one.mark, one.tenant, one.meaning, one.keyed)
                self._log.sent.append(sent)
                tasks.create_task(self._insist(one, sent))

    async def _insist(self, one: Planned, sent: Sent) -> None:
        attempt = self._post if one.door == "http" else self._publish
        for _ in _tries():
            unknown = sent.unknown
            await attempt(one, sent)
            # Without a key a further try would be another request, where the first one may have arrived.
            if sent.accepted or (sent.unknown > unknown and not one.keyed):
                return
            await asyncio.sleep(PAUSE_S)

    async def _post(self, one: Planned, sent: Sent) -> None:
        headers = {"Forebay-Tenant": one.tenant} | ({"Idempotency-Key": one.mark} if one.keyed else {})
        try:
            response = await self._http.post("/v1/requests", json=_body(one), headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
            sent.refused += 1  # nothing was sent
        except httpx.TransportError:
            sent.unknown += 1
        else:
            if response.status_code == httpx.codes.ACCEPTED:
                self._log.accepted(sent, UUID(response.json()["id"]))
            elif response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                sent.unknown += 1  # the broker may have it: it was its confirm that did not come
            else:
                response.raise_for_status()
                raise AssertionError(f"{response.status_code}: {response.text}")

    async def _publish(self, one: Planned, sent: Sent) -> None:
        if not self._broker.connected:
            sent.refused += 1
            return
        key = f"request.submitted.interactive.{one.tenant}"
        body = json.dumps(_body(one)).encode()
        try:
            await self._broker.publish([Message(REQUESTS.name, key, body, message_id=one.mark)])
        except BrokerError:
            sent.unknown += 1
        else:
            self._log.accepted(sent, None)


def _body(one: Planned) -> dict[str, object]:
    return {"input": one.prompt, "max_output_tokens": TOKENS, "metadata": {MARK: one.mark}}


def _tries() -> Iterator[None]:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        yield

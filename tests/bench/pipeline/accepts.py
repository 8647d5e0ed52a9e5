"""What it costs to say yes: a 202 after the broker's confirm, beside an answer of LiteLLM's proxy at once."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import psutil

from tests.bench import surge_designs as designs
from tests.bench.cpu import cpu_s
from tests.bench.surge_course import MODEL

CLIENTS: Final = 20
WARMING: Final = 100  # requests before those that are counted

Body = Callable[[int], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Accepts:
    """What one design took to say yes.

    Attributes:
        per_s: requests a second, by the clock.
        own_us, broker_us: CPU microseconds a request, of the processes that were asked and of the broker.
        times_s: of each request, sorted.
    """

    per_s: float
    own_us: float
    broker_us: float
    times_s: Sequence[float]

    @property
    def per_core_s(self) -> float:
        """Requests that one second of one core does, the broker's work included."""
        return 1e6 / (self.own_us + self.broker_us)

    def quantile_ms(self, share: float) -> float:
        """Milliseconds within which this share of the requests had its answer."""
        return 1000 * self.times_s[min(int(share * len(self.times_s)), len(self.times_s) - 1)]


def forebay(place: designs.Place, dsn: str, amqp_url: str, requests: int) -> Accepts:
    """Ingest alone, and a broker that keeps what is accepted."""
    with designs.forebay(place, dsn, amqp_url, told={}, services=("ingest",)) as running:
        return asyncio.run(_measured(place, running, "/v1/requests", {}, lambda n: {"input": _prompt(n)}, requests))


def proxy(place: designs.Place, requests: int) -> Accepts:
    """LiteLLM's proxy, and a provider that answers at once; each prompt is new, so its cache has none."""
    with designs.proxy(place, "", "") as running:
        headers = {"Authorization": f"Bearer {designs.PROXY_KEY}"}
        return asyncio.run(_measured(place, running, "/v1/chat/completions", headers, _chat, requests))


def _prompt(number: int) -> str:
    return f"Which of the harbours of district {number} were dredged last year, and at whose expense?"


def _chat(number: int) -> Mapping[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": _prompt(number)}]}


async def _measured(
    place: designs.Place, running: designs.Running, path: str, headers: Mapping[str, str], body: Body, requests: int
) -> Accepts:
    broker = [psutil.Process(place.stack.infrastructure["rabbitmq"].pid)]
    async with aiohttp.ClientSession(running.url, headers=headers) as http:

        async def ask(numbers: Iterator[int], times: list[float]) -> None:
            for number in numbers:
                began = time.perf_counter()
                async with http.post(path, json=body(number)) as answer:
                    answer.raise_for_status()
                    await answer.read()
                times.append(time.perf_counter() - began)

        async def ask_all(numbers: Iterator[int]) -> list[float]:
            times: list[float] = []
            await asyncio.gather(*(ask(numbers, times) for _ in range(CLIENTS)))
            return sorted(times)

        await ask_all(iter(range(WARMING)))
        own_s, broker_s, began = cpu_s(running.processes), cpu_s(broker), time.perf_counter()
        times = await ask_all(iter(range(WARMING, WARMING + requests)))
        took = time.perf_counter() - began
        own_us = 1e6 * (cpu_s(running.processes) - own_s) / len(times)
        broker_us = 1e6 * (cpu_s(broker) - broker_s) / len(times)
    return Accepts(len(times) / took, own_us, broker_us, times)

"""What each service costs while requests are queued: memory, the latency of the door, and what is finished a second.

All services, RabbitMQ and PostgreSQL run as they do in a stack. The provider is a simulated one that holds every call
until it is let go, so what is published waits for inference, and is measured there.
"""

import asyncio
import json
import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx
import psutil

from infra.local import services
from infra.local import stack as local
from infra.local.stack import Stack
from infra.simulator.engine import Simulator
from infra.simulator.scenario import Answer, Constant, Scenario
from infra.simulator.server import serving
from shared import database, topology
from shared.broker import Message
from shared.clock import SYSTEM_CLOCK
from shared.rabbitmq import RabbitBroker
from shared.topology import REQUESTS
from tests.bench.limit_replicas import toml
from tests.support import make

MB: Final = 1e6
TIERS: Final = ("light", "premium")
TENANTS: Final = 20
AT_ONCE: Final = 500
LOOKED_EVERY_S: Final = 0.5
ARRIVED_WITHIN_S: Final = 500.0
POSTS: Final = 200
GETS: Final = 400
DRAINED: Final = 600
# Requests that are answered first, and once more by the cache: a service that has worked holds more than a new one.
WARM: Final = 2_000
# So many go the whole way. To look for entries near to them is most of the work, and later ones are spared it.
SEARCHED: Final = 15_000
UNCACHED: Final = {"cache-control": "no-cache, no-store"}
TOKENS: Final = 60
# What an answer takes by itself once the provider lets go, and how many are asked for at once: so many that the
# services are what limits.
ANSWER_S: Final = 0.05
CALLS: Final = 50
# Prompts of a few of these are near to no other: what is near waits for another's answer, and is not queued.
WORDS: Final = """
anchor apple autumn basket beacon bishop blanket bottle bridge button cabin candle canyon carpet castle cedar
chapel cherry circus cliff clock cloud coal comet copper coral cotton cradle crane crystal dagger desert
diamond donkey dragon drum eagle ember engine falcon feather fence fiddle flute forest fountain furnace galaxy
garden glacier goblet granite guitar hammer harbour harvest helmet hermit hollow honey horizon island ivory
jacket jungle kettle kitchen ladder lagoon lantern lemon library lizard magnet marble meadow mirror monkey
mountain needle nettle oasis ocean olive orchard orchid otter oyster paddle palace parrot pebble pepper piano
pigeon pillow planet pocket prairie quarry rabbit radish raven ribbon river rocket saddle sailor scarf shadow
silver spider spring squirrel statue summit sunset tavern temple thunder tiger timber tower tunnel turtle
valley velvet village violin volcano walnut whale whistle willow window winter wizard
""".split()  # noqa: SIM905  # as a list it takes a line for each


class Gate:
    """The clock of a provider whose calls take as long as it is shut, and then what they take by themselves."""

    def __init__(self) -> None:
        self._open = asyncio.Event()

    def now(self) -> datetime:
        """Wall clock."""
        return SYSTEM_CLOCK.now()

    def monotonic(self) -> float:
        """Seconds."""
        return SYSTEM_CLOCK.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return so many seconds after the gate was open."""
        await self._open.wait()
        await SYSTEM_CLOCK.sleep(seconds)

    def open(self) -> None:
        """Let calls go."""
        self._open.set()

    def shut(self) -> None:
        """Hold them."""
        self._open.clear()


@dataclass(frozen=True, slots=True)
class Work:
    """What some requests took, from one place to another.

    Attributes:
        per_s: requests that got there in a second.
        cpu_ms: CPU milliseconds of each program for one of them.
    """

    per_s: float
    cpu_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Level:
    """What was measured with so many requests queued.

    Attributes:
        queued: requests that had no result.
        memory: megabytes of each program.
        disk: bytes of the broker's folder.
        arriving: from the door to the tier's queue.
        finishing: from there to the row of the result, once the provider let go.
        post_ms: what ``POST /v1/requests`` took.
        get_ms: what ``GET /v1/requests/{id}`` took.
    """

    queued: int
    memory: Mapping[str, float]
    disk: float
    arriving: Work
    finishing: Work
    post_ms: Sequence[float]
    get_ms: Sequence[float]


def prompts(seed: int = 1) -> Iterator[str]:
    """Questions without end that have nothing to do with each other."""
    drawing = random.Random(seed)
    while True:
        first, *others = drawing.sample(WORDS, 7)
        yield f"Tell a {first} story: {' '.join(others)}."


def policy(most: int) -> str:
    """A policy that lets so many wait, of models that may take hours."""
    data = make.policy_data(admission={"max_queued": most, "max_queued_per_tenant": most})
    for tier in data["tiers"].values():
        tier |= {"model": "local/simulated", "timeout_s": 7200, "give_up_after_s": 7200}
    data["prices"] = {"local/simulated": {"input": 1.0, "output": 2.0}}
    data["cache"] = {}
    data["freshness"] = {"default": "static", "categories": {"static": {"ttl": "7d"}}}
    return toml(data)


class Surge:
    """The system, the clients that fill it, and the gate before its provider."""

    def __init__(
        self, stack: Stack, broker: RabbitBroker, rows: "asyncpg.Connection", http: httpx.AsyncClient, gate: Gate
    ) -> None:
        self._stack = stack
        self._broker = broker
        self._rows = rows
        self._http = http
        self._gate = gate
        self._prompts = prompts()
        self._sent = 0

    @classmethod
    @asynccontextmanager
    async def running(cls, most: int) -> AsyncIterator["Surge"]:
        """A system in which so many may wait, and none does, for as long as the block runs."""
        async with AsyncExitStack() as exits:
            home = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="forebay-growth-")))
            gate = Gate()
            scenario = Scenario(latency=Constant(value=ANSWER_S), answer=Answer(tokens=TOKENS))
            provider = await exits.enter_async_context(serving(Simulator(scenario, gate)))
            file = home / "policy.toml"
            file.write_text(policy(most), encoding="utf-8")

            def command(service: str) -> list[str]:
                told = (f"FOREBAY_LOCAL_MODEL_URL={provider}/v1", f"FOREBAY_INFERENCE_CONCURRENCY={CALLS}")
                return ["/usr/bin/env", *told, *services.command(service)]

            exits.push_async_callback(asyncio.to_thread, local.down, home / "stack", _silent)
            exits.callback(gate.open)  # a service that stops waits for what is under way
            stack = await asyncio.to_thread(
                local.up,
                home / "stack",
                say=_silent,
                infrastructure=("rabbitmq", "postgres"),
                policy=file,
                migrate=database.migrate,
                service_command=command,
            )
            broker = RabbitBroker(stack.amqp_url, name="bench", topology=topology.topology(TIERS))
            await exits.enter_async_context(broker)
            await broker.wait_connected()
            rows = await asyncpg.connect(stack.postgres_dsn)
            exits.push_async_callback(rows.close)
            http = httpx.AsyncClient(base_url=stack.http_url, trust_env=False, timeout=60)
            yield cls(stack, broker, rows, await exits.enter_async_context(http), gate)

    async def warm(self) -> Work:
        """Have some requests answered, and then the same ones again by the cache: what one of these took."""
        asked = list(islice(self._prompts, WARM))
        self._gate.open()
        await self._publish(asked)
        await self._until_finished(WARM)
        await self._arrived()  # in the cache as well
        meter = Meter(self._pids)
        await self._publish(asked)
        await self._until_finished(2 * WARM)
        self._gate.shut()
        return meter.work(WARM)

    async def level(self, queued: int) -> Level:
        """Fill up until so many are queued, and measure."""
        wanted = queued - (self._sent - await self._finished())
        meter = Meter(self._pids)
        await self._publish(islice(self._prompts, wanted))
        await self._arrived()
        arriving = meter.work(wanted)
        memory = {name: _memory(pid) for name, pid in self._pids.items()}
        post_ms, get_ms = await self._asked()
        return Level(
            queued=queued,
            memory=memory,
            disk=_size(self._stack.home / "rabbitmq"),
            arriving=arriving,
            finishing=await self._drained(),
            post_ms=post_ms,
            get_ms=get_ms,
        )

    async def _publish(self, asked: Iterable[str]) -> None:
        left = iter(asked)
        while some := list(islice(left, AT_ONCE)):
            await self._broker.publish([self._message(prompt, self._sent + n) for n, prompt in enumerate(some)])
            self._sent += len(some)

    def _message(self, prompt: str, number: int) -> Message:
        return Message(
            REQUESTS.name,
            f"request.submitted.interactive.{_tenant(number)}",
            json.dumps({"input": prompt}).encode(),
            headers={} if number < SEARCHED else UNCACHED,
            message_id=str(number),
        )

    async def _arrived(self) -> None:
        """Return once all that was sent waits for inference, and nothing is left to do but wait."""
        until = time.monotonic() + ARRIVED_WITHIN_S
        expected = self._sent - await self._finished()
        while time.monotonic() < until:
            depths = await self._depths()
            waiting = sum(depth for name, depth in depths.items() if name.startswith("inference."))
            # More where a confirm came too late and the message was published again: inference will know it by its id.
            if waiting == sum(depths.values()) >= expected:
                return
            await asyncio.sleep(LOOKED_EVERY_S)
        raise TimeoutError(f"{expected} requests should wait for inference, and nothing else: {depths}")

    async def _asked(self) -> tuple[Sequence[float], Sequence[float]]:
        """Milliseconds that posts, and looks at what was posted, take one after the other."""
        headers = {"Forebay-Tenant": _tenant(0)} | UNCACHED
        posts, gets, places = [], [], []
        for prompt in islice(self._prompts, POSTS):
            began = time.perf_counter()
            response = await self._http.post("/v1/requests", json={"input": prompt}, headers=headers)
            posts.append(1e3 * (time.perf_counter() - began))
            places.append(response.raise_for_status().headers["Location"])
        self._sent += POSTS
        await self._arrived()
        for number in range(GETS):
            began = time.perf_counter()
            response = await self._http.get(places[number % POSTS], headers=headers)
            gets.append(1e3 * (time.perf_counter() - began))
            if (status := response.raise_for_status().json()["status"]) != "queued":
                raise RuntimeError(f"the provider holds everything, and yet a request is {status}")
        return posts, gets

    async def _drained(self) -> Work:
        """Let some requests be answered."""
        first, meter = await self._finished(), Meter(self._pids)
        self._gate.open()
        finished = await self._until_finished(first + DRAINED)
        work = meter.work(finished - first)
        self._gate.shut()
        while finished != (finished := await self._finished()):  # those that were on their way
            await asyncio.sleep(2)
        return work

    async def _until_finished(self, wanted: int) -> int:
        while (finished := await self._finished()) < wanted:
            await asyncio.sleep(LOOKED_EVERY_S / 5)
        return finished

    async def _finished(self) -> int:
        """Requests whose result is written."""
        return int(await self._rows.fetchval("SELECT count(*) FROM responses"))

    async def _depths(self) -> dict[str, int]:
        """Messages in each queue that is not a consumer's own, ready and unacknowledged."""
        async with httpx.AsyncClient(auth=("guest", "guest"), trust_env=False, timeout=60) as http:
            found = await http.get(f"{self._stack.rabbitmq_management_url}/api/queues/%2F")
        queues = found.raise_for_status().json()
        return {queue["name"]: queue.get("messages", 0) for queue in queues if not queue["exclusive"]}

    @property
    def _pids(self) -> dict[str, int]:
        return {name: program.pid for name, program in self._stack.programs.items() if program.pid}


class Meter:
    """Time and the CPU time of programs, from when it is made."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids
        self._began = time.perf_counter()
        self._cpu_s = {name: _cpu_s(pid) for name, pid in pids.items()}

    def work(self, requests: int) -> Work:
        """What so many requests took."""
        took = time.perf_counter() - self._began
        used = {name: 1e3 * (_cpu_s(pid) - self._cpu_s[name]) / requests for name, pid in self._pids.items()}
        return Work(requests / took, used)


def _size(folder: Path) -> float:
    """Bytes of the files in a folder."""
    size = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):  # the broker tidies up meanwhile
            size += file.stat().st_size if file.is_file() else 0
    return size


def _memory(pid: int) -> float:
    """Megabytes a process has in memory; with children, what they share counts once."""
    found = _of_family(pid, lambda process: process.memory_full_info())
    return float(found[0].rss if len(found) == 1 else sum(each.pss for each in found)) / MB


def _cpu_s(pid: int) -> float:
    times = _of_family(pid, lambda process: process.cpu_times())
    return float(sum(each.user + each.system for each in times))


def _of_family(pid: int, look: Callable[[psutil.Process], Any]) -> list[Any]:
    """What is seen of a process and its children; some, such as PostgreSQL's workers, end meanwhile."""
    parent = psutil.Process(pid)
    seen = []
    for process in (parent, *parent.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            seen.append(look(process))
    return seen


def _tenant(number: int) -> str:
    return f"tenant-{number % TENANTS}"


def _silent(_: str) -> None:
    """Say nothing."""


async def grown(depths: Sequence[int]) -> tuple[Work, list[Level]]:
    """What a hit takes, and what there is with so many queued, the fewest first."""
    async with Surge.running(2 * max(depths)) as surge:
        hit = await surge.warm()
        return hit, [await surge.level(depth) for depth in depths]

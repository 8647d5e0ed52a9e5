"""What a worker of inference adds to litellm's own call: the same call with it and without, in one process."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from services.inference import provider as ours
from services.inference.assembly import Replica
from services.inference.finished import arrived
from shared import envelope
from shared.clock import SYSTEM_CLOCK
from shared.memory import MemoryBroker
from shared.policy import parse_policy
from tests.bench import limit_callers
from tests.bench.limit_provider import Provider
from tests.bench.limit_replicas import MODEL, lane, policy
from tests.support import make

TIER: Final = "alone"
WARM_UP: Final = 50
BLOCKS: Final = 20
BLOCK: Final = 25


@dataclass(frozen=True, slots=True)
class Overhead:
    """Milliseconds of each call, and those of CPU per call."""

    ours_ms: Sequence[float]
    alone_ms: Sequence[float]
    ours_cpu_ms: float
    alone_cpu_ms: float


async def overhead() -> Overhead:
    """One call at a time, of a provider that answers at once; in turns, so that both meet the same machine."""
    with Provider.running() as provider:
        provider.play({})
        worker, alone = _worker(provider.url), _alone(provider.url)
        for _ in range(WARM_UP):
            await worker()
            await alone()
        ms: dict[str, list[float]] = {"ours": [], "alone": []}
        cpu = {"ours": 0.0, "alone": 0.0}
        for _ in range(BLOCKS):
            for name, call in (("ours", worker), ("alone", alone)):
                before = time.process_time()
                for _ in range(BLOCK):
                    began = time.perf_counter()
                    await call()
                    ms[name].append(1000 * (time.perf_counter() - began))
                cpu[name] += time.process_time() - before
    calls = BLOCKS * BLOCK
    return Overhead(ms["ours"], ms["alone"], 1000 * cpu["ours"] / calls, 1000 * cpu["alone"] / calls)


def _worker(url: str) -> Callable[[], Awaitable[Any]]:
    """A call as a worker makes it: from the message of a request to the messages of its result."""
    rules = parse_policy(policy(TIER, [lane("provider", url)]))
    provider = ours.Provider(rules, local_model_url="http://127.0.0.1:9/v1")
    nobody = cast("Any", None)  # the database is asked for requests that come again alone
    replica = Replica.assemble(rules, provider, nobody, MemoryBroker(), SYSTEM_CLOCK)

    route = make.route(TIER, model=MODEL)
    requests = [make.routed(key=None, route=route) for _ in range(WARM_UP + BLOCKS * BLOCK)]
    messages = iter(envelope.encode_all(requests, source="bench", now=SYSTEM_CLOCK.now()))

    async def call() -> object:
        events = await replica.inference.routed(arrived(next(messages)))
        return envelope.encode_all(events, source="bench", now=SYSTEM_CLOCK.now())

    return call


def _alone(url: str) -> Callable[[], Awaitable[Any]]:
    """The same call, as litellm's documentation has it."""
    prompt = make.request().prompt

    def call() -> Awaitable[Any]:
        return limit_callers.answer_of(url, prompt, max_tokens=100)

    return call

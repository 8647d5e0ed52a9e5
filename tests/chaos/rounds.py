"""A round: load, a fault in the midst of it, the draining after it, and the judgement."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from random import Random
from typing import Final

import httpx

from infra.local.errors import StackError
from shared import database
from shared.rabbitmq import RabbitBroker
from tests.chaos.faults import Fault
from tests.chaos.history import Violation, check
from tests.chaos.load import ANSWER_WITHIN_S, Clients, Log, plan
from tests.chaos.pool import System
from tests.chaos.witness import Witness

TENANTS: Final = 4
POLL_S: Final = 0.5
DRAINED_WITHIN_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Round:
    """What became of the requests of one round.

    Attributes:
        accepted: requests whose client was told so, at least once.
        unknown: requests of which nobody was told anything.
        gap_s: the longest time in which nothing was accepted.
        drain_s: from the end of the load, or of the fault if that is later, until nothing was under way any more.
        sources: terminal rows by where the answer came from, or by the code of the failure.
        dead: letters that came into each queue of dead letters.
    """

    fault: str
    seed: int
    requests: int
    accepted: int
    unknown: int
    gap_s: float
    drain_s: float
    sources: Mapping[str, int]
    dead: Mapping[str, int]
    violations: tuple[Violation, ...]

    @property
    def kinds(self) -> Counter[str]:
        """Violations by kind."""
        return Counter(violation.kind for violation in self.violations)

    @property
    def flawless(self) -> bool:
        """Whether nothing happened that must not."""
        return not self.violations and not self.dead


async def played(system: System, fault: Fault, *, seed: int, requests: int, per_s: float) -> Round:
    """Play one round on a system that has nothing to do, and judge it."""
    random = Random(f"{seed} {fault.name}")
    tenants = [f"t{random.getrandbits(40):010x}" for _ in range(TENANTS)]
    planned = plan(random, requests=requests, per_s=per_s, tenants=tenants)
    log = Log()
    before = await system.depths()
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=system.http_url, timeout=ANSWER_WITHIN_S, trust_env=False, limits=_UNLIMITED)
        )
        broker = await stack.enter_async_context(RabbitBroker(system.amqp_url, name="chaos clients"))
        witness = await stack.enter_async_context(Witness.watching(system.direct_url, system.dsn))
        witness.told_of(planned)
        await broker.wait_connected()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(Clients(http, broker, log).send(planned))
            tasks.create_task(fault.strike(system, random, requests / per_s))
        began = time.monotonic()
        depths = await _drained(system, set(tenants), witness)
        drain_s = time.monotonic() - began
        events = witness.events(set(tenants))
        rows, unfinished, sources = await witness.rows(set(tenants))
    violations = [*check(log.sent, rows, events, unfinished), *_left(depths)]
    return Round(
        fault=fault.name,
        seed=seed,
        requests=len(log.sent),
        accepted=sum(bool(one.accepted) for one in log.sent),
        unknown=sum(not one.accepted and one.unknown > 0 for one in log.sent),
        gap_s=log.longest_gap_s(),
        drain_s=drain_s,
        sources=sources,
        dead={name: depth - before.get(name, 0) for name, depth in depths.items() if _grew(name, depth, before)},
        violations=tuple(violations),
    )


_UNLIMITED: Final = httpx.Limits(max_connections=None, max_keepalive_connections=20)


async def _drained(system: System, tenants: set[str], witness: Witness) -> dict[str, int]:
    """Return the depths of the queues once the work queues are empty and nothing changes any more.

    That what was accepted has a row is left to the judge; so is what still holds messages after a long time.
    """
    await system.ready()
    until = time.monotonic() + DRAINED_WITHIN_S
    calm = 0
    seen: tuple[int, int] = (-1, -1)
    depths: dict[str, int] = {}
    while calm < _CALM_LOOKS and time.monotonic() < until:
        await asyncio.sleep(POLL_S)
        try:
            depths = await system.depths()
            rows, _, _ = await witness.rows(tenants)
        except (httpx.HTTPError, StackError, *database.AWAY):
            calm = 0
            continue
        now = (len(rows), len(witness.events(tenants)))
        calm = calm + 1 if now == seen and not any(_work(depths).values()) else 0
        seen = now
    return depths


# The broker counts once a second: twice as long with nothing in it is empty.
_CALM_LOOKS: Final = 5


def _work(depths: Mapping[str, int]) -> dict[str, int]:
    return {name: depth for name, depth in depths.items() if not name.endswith(".dead") and depth}


def _left(depths: Mapping[str, int]) -> list[Violation]:
    """What is still in the work queues."""
    return [Violation("unfinished", f"{name} still holds {depth} messages") for name, depth in _work(depths).items()]


def _grew(name: str, depth: int, before: Mapping[str, int]) -> bool:
    return name.endswith(".dead") and depth > before.get(name, 0)

"""What is done to the system while the load goes on; each fault is over when its function returns."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from types import MappingProxyType
from typing import Any, Final

from shared import SERVICES
from tests.chaos import clock
from tests.chaos.cluster import NODES
from tests.chaos.pool import System

HOUR_S: Final = 3600.0
# A silent connection is noticed by its heartbeat after 15 to 45 s: shorter than that would be no fault.
SILENCE_S: Final = 25.0

Strike = Callable[[System, Random, float], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """A named way to strike.

    Attributes:
        strike: gets the system, what draws moments and victims, and for how many seconds there is load.
    """

    name: str
    strike: Strike


async def _nothing(system: System, random: Random, for_s: float) -> None:
    """Let it run, to see what the load is without a fault."""


async def _killed(system: System, random: Random, for_s: float, *, victims: tuple[str, ...], times: int) -> None:
    """SIGKILL a program, at random moments."""
    for _ in range(times):
        await asyncio.sleep(random.uniform(0.2, 1) * for_s / (times + 1))
        system.kill(random.choice(victims))


async def _database_stopped(system: System, random: Random, for_s: float) -> None:
    """PostgreSQL's immediate shutdown: every session is dropped, nothing is written down; it recovers from its log."""
    await asyncio.sleep(random.uniform(0.2, 0.5) * for_s)
    system.kill("postgres", signal.SIGQUIT)


async def _cut(system: System, random: Random, for_s: float, *, what: str, times: int) -> None:
    """Reset all connections to the broker or the database, several times."""
    for _ in range(times):
        await asyncio.sleep(random.uniform(0.2, 1) * for_s / (times + 1))
        getattr(system, what).cut()


async def _silenced(system: System, random: Random, for_s: float, *, what: str) -> None:
    """Leave all connections half-open."""
    await asyncio.sleep(random.uniform(0.1, 0.3) * for_s)
    proxy = getattr(system, what)
    proxy.hush()
    await asyncio.sleep(SILENCE_S)
    proxy.heal()


async def _slowed(system: System, random: Random, for_s: float, *, what: str, delay_s: float) -> None:
    """Keep every byte for a while."""
    proxy = getattr(system, what)
    proxy.delay_s = delay_s
    await asyncio.sleep(0.8 * for_s)
    proxy.delay_s = 0.0


async def _provider(system: System, random: Random, for_s: float, *, fault: Mapping[str, Any]) -> None:
    """Let the provider fail."""
    await asyncio.sleep(0.1 * for_s)
    await system.order(faults=[dict(fault)])
    await asyncio.sleep(0.6 * for_s)
    await system.order(faults=[])


async def _clock_jumps(system: System, random: Random, for_s: float) -> None:
    """The wall clock of all services goes an hour ahead, then an hour back, then is right again."""
    for seconds in (HOUR_S, -HOUR_S, 0.0):
        await asyncio.sleep(0.25 * for_s)
        clock.jump(system.clock, seconds)


async def _node_killed(system: System, random: Random, for_s: float) -> None:
    """SIGKILL each node of the cluster in turn, and start it again."""
    assert system.cluster is not None
    for node in random.sample(NODES, len(NODES)):
        await asyncio.sleep(random.uniform(0.05, 0.1) * for_s)
        system.cluster.kill(node)
        await asyncio.sleep(random.uniform(0.05, 0.1) * for_s)
        system.cluster.start(node)
        await asyncio.to_thread(system.cluster.wait_ready, node)


async def _node_paused(system: System, random: Random, for_s: float) -> None:
    """SIGSTOP one node of the cluster, so long that the others take it for lost, and let it go on."""
    assert system.cluster is not None
    node = random.choice(NODES)
    await asyncio.sleep(random.uniform(0.1, 0.2) * for_s)
    system.cluster.pause(node)
    await asyncio.sleep(SILENCE_S)
    system.cluster.resume(node)


async def _together(system: System, random: Random, for_s: float, *, strikes: Sequence[Strike]) -> None:
    """Several faults side by side, each with draws of its own: which comes first must not change what is drawn."""
    async with asyncio.TaskGroup() as tasks:
        for strike in strikes:
            tasks.create_task(strike(system, Random(random.random()), for_s))


_OUTAGE: Final = MappingProxyType({"kind": "reset"})
_DRIP: Final = MappingProxyType({"kind": "drip", "probability": 0.5})
_GARBAGE: Final = MappingProxyType({"kind": "malformed", "probability": 0.5})
_STACK: Final = (*SERVICES, "rabbitmq", "postgres")

ONE_BROKER: Final = (
    Fault("nothing", _nothing),
    *(Fault(f"kill {name}", partial(_killed, victims=(name,), times=3)) for name in SERVICES),
    Fault("kill any service", partial(_killed, victims=SERVICES, times=8)),
    Fault("kill the broker", partial(_killed, victims=("rabbitmq",), times=1)),
    Fault("kill PostgreSQL", partial(_killed, victims=("postgres",), times=1)),
    Fault("stop PostgreSQL at once", _database_stopped),
    Fault("kill anything", partial(_killed, victims=_STACK, times=8)),
    Fault("cut AMQP", partial(_cut, what="broker", times=5)),
    Fault("half-open AMQP", partial(_silenced, what="broker")),
    Fault("slow AMQP", partial(_slowed, what="broker", delay_s=0.2)),
    Fault("cut SQL", partial(_cut, what="database", times=5)),
    Fault("half-open SQL", partial(_silenced, what="database")),
    Fault("provider away", partial(_provider, fault=_OUTAGE)),
    Fault("provider drips", partial(_provider, fault=_DRIP)),
    Fault("provider garbage", partial(_provider, fault=_GARBAGE)),
    Fault("clocks jump", _clock_jumps),
)
CLUSTER: Final = (
    Fault("kill nodes in turn", _node_killed),
    Fault("pause a node", _node_paused),
)
# For a run of seconds.
SHORT: Final = Fault(
    "several at once",
    partial(
        _together,
        strikes=(
            partial(_killed, victims=SERVICES, times=4),
            partial(_killed, victims=("rabbitmq",), times=1),
            partial(_cut, what="broker", times=1),
            _database_stopped,
        ),
    ),
)

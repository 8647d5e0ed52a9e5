"""The services as programs: which replicas there are, what each is told."""

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from infra.local import model, postgres, rabbitmq, readiness
from infra.local.errors import StackError
from infra.local.ports import LOOPBACK
from infra.local.program import INFRASTRUCTURE, Program
from shared import SERVICES

ALL = SERVICES
SHUTDOWN_S = 20.0
KILL_MARGIN_S = 5
"""Seconds a service gets beyond its own limit for shutting down before it is killed."""


@dataclass(frozen=True)
class Surroundings:
    """What the services of one stack share."""

    ports: Mapping[str, int]
    infrastructure: Sequence[str] = INFRASTRUCTURE
    policy: Path | None = None

    def env(self) -> dict[str, str]:
        """Environment every service gets on top of the caller's; addresses only of what the stack runs itself."""
        addresses = {
            "rabbitmq": ("FOREBAY_AMQP_URL", rabbitmq.url),
            "postgres": ("FOREBAY_POSTGRES_DSN", postgres.url),
            "model": ("FOREBAY_LOCAL_MODEL_URL", model.url),
        }
        env = {"FOREBAY_HTTP_HOST": LOOPBACK, "FOREBAY_LOG_FORMAT": "json"}
        # A process per service on shared cores; and litellm would otherwise fetch its price list over the network.
        env |= {"OMP_NUM_THREADS": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        for name in self.infrastructure:
            variable, address = addresses[name]
            env[variable] = address(self.ports[name])
        if "inference" in self.ports:
            env["FOREBAY_EMBEDDINGS_URL"] = url(self.ports["inference"])
        if self.policy:
            env["FOREBAY_POLICY_FILE"] = str(self.policy)
        return env


def replicas(services: Sequence[str], scale: Mapping[str, int]) -> list[str]:
    """Names of the replicas: ``cache``, ``cache-2`` and so on.

    Raises:
        StackError: for a service that does not exist or is not started, or a number below one.
    """
    for name in (*services, *scale):
        if name not in ALL:
            raise StackError(f"there is no service {name!r}; there are {', '.join(ALL)}")
    for name, count in scale.items():
        if name not in services:
            raise StackError(f"{name} is to be scaled, but it is not among the services to start")
        if count < 1:
            raise StackError(f"{name} can't be scaled to {count}; 1 is the least")
    return [_replica(name, number) for name in services for number in range(1, scale.get(name, 1) + 1)]


def command(service: str) -> list[str]:
    """What runs a service."""
    return [sys.executable, "-P", "-m", f"services.{service}"]


def programs(
    names: Iterable[str], surroundings: Surroundings, command_of: Callable[[str], Sequence[str]] = command
) -> list[Program]:
    """A program for each replica.

    Args:
        names: of the replicas.
        surroundings: what they share; has a port for each.
        command_of: from a service's name to what runs it.
    """
    return [_program(name, surroundings, command_of) for name in names]


def ready(port: int) -> bool:
    """Whether a service says it can work."""
    return readiness.http_ok(port, "/readyz")


def url(port: int) -> str:
    """A service's HTTP address."""
    return f"http://{LOOPBACK}:{port}"


def _program(name: str, surroundings: Surroundings, command_of: Callable[[str], Sequence[str]]) -> Program:
    port = surroundings.ports[name]
    return Program(
        name=name,
        command=tuple(command_of(name.partition("-")[0])),
        port=port,
        ready=partial(ready, port),
        env={**surroundings.env(), "FOREBAY_HTTP_PORT": str(port)},
        stop_wait_s=int(_shutdown_s()) + KILL_MARGIN_S,
        # Imports take a second or two, so a service that can't start at all still fails within this.
        settle_s=3,
        priority=100,
    )


def _replica(service: str, number: int) -> str:
    return service if number == 1 else f"{service}-{number}"


def _shutdown_s() -> float:
    try:
        return float(os.environ.get("FOREBAY_SHUTDOWN_S", SHUTDOWN_S))
    except ValueError:
        # The services refuse such a value by themselves, and say so.
        return SHUTDOWN_S

"""A local stack from the outside: ``up``, ``down``, ``status``, and single programs for tests and operators."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from infra.local import leftovers, model, ports, postgres, rabbitmq, record, services, supervision
from infra.local.errors import StackError
from infra.local.home import Home, exclusive
from infra.local.program import INFRASTRUCTURE, Program
from infra.local.record import Running, Stack
from infra.local.services import ALL, Surroundings
from infra.local.supervision import RUNNING, Info, Supervisor
from infra.local.waiting import names_of, until_ready

__all__ = [
    "ALL",
    "INFRASTRUCTURE",
    "ProgramStatus",
    "Stack",
    "StackError",
    "down",
    "read",
    "start_program",
    "status",
    "stop_program",
    "up",
]

Say = Callable[[str], None]
Migrate = Callable[[str], Awaitable[None]]

READY_WITHIN_S = 90.0
# Above any grace a service is given: the supervisor itself kills what overstays that.
STOPPED_WITHIN_S = 300.0
# A broker that is told to stop while it starts takes no notice; of a start that failed there is nothing to save.
UNDONE_WITHIN_S = 5.0


@dataclass(frozen=True)
class ProgramStatus:
    """How one program does; ``state`` is the supervisor's word (``RUNNING``, ``STOPPED``, ``FATAL``, …)."""

    name: str
    state: str
    pid: int | None
    port: int
    uptime_s: float | None
    restarts: int
    log: Path


@dataclass(frozen=True)
class Plan:
    """What a stack is to be made of."""

    infrastructure: tuple[str, ...]
    replicas: tuple[str, ...]
    policy: Path | None
    http_port: int | None
    service_command: Callable[[str], Sequence[str]]

    @property
    def names(self) -> tuple[str, ...]:
        """All programs."""
        return (*self.infrastructure, *self.replicas)


def up(
    home: Path,
    *,
    say: Say,
    scale: Mapping[str, int] | None = None,
    policy: Path | None = None,
    http_port: int | None = None,
    services: Sequence[str] = ALL,
    infrastructure: Sequence[str] = INFRASTRUCTURE,
    migrate: Migrate | None = None,
    service_command: Callable[[str], Sequence[str]] = services.command,
) -> Stack:
    """Start a stack, or what is missing of one that runs; nothing that runs is stopped or changed.

    Args:
        home: folder of the stack; made when it is missing.
        say: gets a short line at each long step.
        scale: replicas by service, where not one.
        policy: policy file the services read.
        http_port: loopback port of ingest; a free one without it.
        services: which to run.
        infrastructure: which of RabbitMQ, PostgreSQL and the model to run.
        migrate: brings the database at this address up to date, between the infrastructure and the services.
        service_command: from a service's name to what runs it.

    Raises:
        StackError: naming what is missing, taken or broken; what this call started is stopped again.
    """
    place = Home.at(home)
    plan = Plan(
        infrastructure=tuple(name for name in INFRASTRUCTURE if name in infrastructure),
        replicas=tuple(_replicas(services, scale or {})),
        policy=_existing(policy) if policy else None,
        http_port=http_port,
        service_command=service_command,
    )
    place.make()
    with exclusive(place, "up"):
        return _Start(place, plan, migrate, say).run()


def down(home: Path, say: Say) -> bool:
    """Stop everything of a stack: services first so that they drain, then what they lean on.

    Returns:
        Whether anything was running.

    Raises:
        StackError: when another command is at work on the home, or a process can't be ended.
    """
    place = Home.at(home)
    if not place.run.is_dir():
        return False
    with exclusive(place, "down"):
        return _take_down(place, say)


def read(home: Path) -> Stack:
    """The running stack.

    Raises:
        StackError: when none is up.
    """
    return _running(Home.at(home))[0]


def status(home: Path) -> list[ProgramStatus]:
    """How each program does, in the order they start.

    Raises:
        StackError: when no stack is up.
    """
    stack, supervisor = _running(Home.at(home))
    infos = supervisor.infos()
    return [_status(name, entry, infos.get(name)) for name, entry in stack.programs.items()]


def stop_program(home: Path, name: str) -> None:
    """Stop one program, until it is started again or the next ``up``.

    Raises:
        StackError: when no stack is up or it has no such program.
    """
    place = Home.at(home)
    stack, supervisor = _running(place)
    record.known(stack, name)
    supervisor.stop([name], STOPPED_WITHIN_S)
    record.set_pid(place, name, None)


def start_program(home: Path, name: str) -> None:
    """Start one program and wait until it is ready.

    Raises:
        StackError: when no stack is up, it has no such program, or that does not get ready.
    """
    place = Home.at(home)
    stack, supervisor = _running(place)
    port = record.known(stack, name).port
    supervisor.start([name])
    probe = Program(name=name, command=(), port=port, ready=_probe(place, name, port))
    until_ready([probe], supervisor, place, READY_WITHIN_S, _silent)
    record.set_pid(place, name, supervisor.infos()[name].pid)


@dataclass
class _Start:
    """One ``up`` under way."""

    home: Home
    plan: Plan
    migrate: Migrate | None
    say: Say

    def run(self) -> Stack:
        supervisor = supervision.running(self.home)
        if supervisor is None:
            self._clear_away()
            return self._guarded(None, {})
        infos = supervisor.infos()
        self.plan = _joined(self.plan, list(infos), record.load(self.home), ports.remembered(self.home))
        return self._guarded(supervisor, infos)

    def _clear_away(self) -> None:
        leftovers.end(self.home, self.say)
        self.home.stack_json.unlink(missing_ok=True)

    def _guarded(self, supervisor: Supervisor | None, infos: Mapping[str, Info]) -> Stack:
        missing = [name for name in self.plan.names if name not in infos or infos[name].state not in RUNNING]
        programs = self._programs(list(infos))
        supervision.configure(self.home, programs)
        try:
            if supervisor:
                supervisor.add(self.plan.names)
            return self._start(supervisor or supervision.launch(self.home), programs, missing)
        except BaseException:
            # Also Ctrl-C: nothing may stay behind that nobody knows of.
            if missing:
                self.say("that failed: stopping what was started")
            self._undo(supervisor, missing)
            raise

    def _undo(self, supervisor: Supervisor | None, started: Sequence[str]) -> None:
        if supervisor:
            supervisor.stop(started, UNDONE_WITHIN_S)
        else:
            _take_down(self.home, _silent, UNDONE_WITHIN_S)

    def _programs(self, held: Sequence[str]) -> list[Program]:
        asked = {"ingest": self.plan.http_port} if self.plan.http_port else {}
        chosen = ports.choose(self.home, _port_names(self.plan.names), _port_names(held), asked)
        surroundings = Surroundings(chosen, self.plan.infrastructure, self.plan.policy)
        make = {
            "rabbitmq": lambda: rabbitmq.program(self.home, chosen),
            "postgres": lambda: postgres.program(self.home, chosen["postgres"]),
            "model": lambda: model.program(chosen["model"]),
        }
        infrastructure = [make[name]() for name in self.plan.infrastructure]
        return infrastructure + services.programs(self.plan.replicas, surroundings, self.plan.service_command)

    def _start(self, supervisor: Supervisor, programs: Sequence[Program], missing: Sequence[str]) -> Stack:
        infrastructure = [program for program in programs if program.name in INFRASTRUCTURE]
        self._stage(supervisor, infrastructure, missing)
        if self.migrate and missing and "postgres" in self.plan.infrastructure:
            self._migrate(self.migrate, ports.remembered(self.home)["postgres"])
        self._stage(supervisor, [program for program in programs if program not in infrastructure], missing)
        infos = supervisor.infos()
        return record.save(self.home, partial(_describe, self.home, self.plan, programs, infos))

    def _stage(self, supervisor: Supervisor, programs: Sequence[Program], missing: Sequence[str]) -> None:
        starting = [program for program in programs if program.name in missing]
        began = time.monotonic()
        if starting:
            self.say(f"starting {names_of(starting)}")
            supervisor.start([program.name for program in starting if not program.prepare])
        for program in starting:
            if program.prepare:
                program.prepare()
                supervisor.start([program.name])
        until_ready(programs, supervisor, self.home, READY_WITHIN_S, self.say)
        if starting:
            self.say(f"{names_of(starting)} ready after {time.monotonic() - began:.1f} s")

    def _migrate(self, migrate: Migrate, port: int) -> None:
        self.say("bringing the database up to date")

        async def run() -> None:
            await migrate(postgres.url(port))

        try:
            # In a thread of its own, so that callers inside an event loop can be served too.
            with ThreadPoolExecutor(1) as thread:
                thread.submit(asyncio.run, run()).result()
        except Exception as error:
            raise StackError(f"the database could not be brought up to date: {error}") from error


def _take_down(home: Home, say: Say, within_s: float = STOPPED_WITHIN_S) -> bool:
    supervisor = supervision.running(home)
    if supervisor:
        _stop_in_order(supervisor, say, within_s)
        supervisor.leave()
        leftovers.sweep(home)
    was_running = bool(supervisor) or leftovers.end(home, say) > 0
    if remaining := leftovers.find(home):
        raise StackError(f"these processes could not be ended: {', '.join(str(p.pid) for p in remaining)}")
    for file in (home.stack_json, home.supervisor_conf):
        file.unlink(missing_ok=True)
    home.forget_socket()
    return was_running


def _stop_in_order(supervisor: Supervisor, say: Say, within_s: float) -> None:
    names = list(supervisor.infos())
    try:
        if replicas := [name for name in names if name not in INFRASTRUCTURE]:
            say("stopping the services")
            supervisor.stop(replicas, within_s)
        say("stopping the infrastructure")
        supervisor.stop([name for name in names if name in INFRASTRUCTURE], within_s)
    except StackError as error:
        # What does not stop is ended with the supervisor.
        say(str(error))


def _running(home: Home) -> tuple[Stack, Supervisor]:
    stack, supervisor = record.load(home), supervision.running(home)
    if stack and supervisor:
        return stack, supervisor
    if stack or supervisor:
        raise StackError(
            f"the stack in {home.root} is still starting, or was cut off: `forebay up` mends that, "
            "`forebay down` clears it away"
        )
    raise StackError(f"no stack is up in {home.root}: start one with `forebay up`")


def _joined(plan: Plan, present: Sequence[str], recorded: Stack | None, known_ports: Mapping[str, int]) -> Plan:
    """The plan together with what runs already.

    Raises:
        StackError: when it asks for something else than what runs.
    """
    running_policy = recorded.policy if recorded else None
    if plan.policy and recorded and plan.policy != running_policy:
        present_one = running_policy or "the packaged one"
        raise StackError(f"the stack runs with another policy file ({present_one}): run `forebay down` first")
    if plan.http_port and "ingest" in present and plan.http_port != known_ports.get("ingest"):
        raise StackError(f"the stack runs with HTTP on port {known_ports.get('ingest')}: run `forebay down` first")
    return replace(
        plan,
        infrastructure=tuple(name for name in INFRASTRUCTURE if name in (*plan.infrastructure, *present)),
        replicas=tuple(dict.fromkeys([*plan.replicas, *(name for name in present if name not in INFRASTRUCTURE)])),
        policy=plan.policy or running_policy,
    )


def _describe(
    home: Home, plan: Plan, programs: Sequence[Program], infos: Mapping[str, Info], old: Stack | None
) -> Stack:
    chosen = ports.remembered(home)
    entries = {
        program.name: Running(
            pid=infos[program.name].pid,
            port=program.port,
            log=str(home.log_of(program.name)),
            restarts=old.programs[program.name].restarts if old and program.name in old.programs else 0,
        )
        for program in programs
    }
    return Stack(
        amqp_url=rabbitmq.url(chosen["rabbitmq"]) if "rabbitmq" in entries else "",
        http_url=services.url(chosen["ingest"]) if "ingest" in entries else "",
        postgres_dsn=postgres.url(chosen["postgres"]) if "postgres" in entries else "",
        services={name: entries[name] for name in plan.replicas},
        infrastructure={name: entries[name] for name in plan.infrastructure},
        rabbitmq_management_url=services.url(chosen["rabbitmq-management"]) if "rabbitmq" in entries else "",
        model_url=model.url(chosen["model"]) if "model" in entries else "",
        home=home.root,
        supervisor=home.socket,
        policy=plan.policy,
    )


def _port_names(programs: Sequence[str]) -> list[str]:
    return [port for name in programs for port in (rabbitmq.PORTS if name == "rabbitmq" else (name,))]


def _probe(home: Home, name: str, port: int) -> Callable[[], bool]:
    probes: dict[str, Callable[[], bool]] = {
        "rabbitmq": lambda: rabbitmq.ready(port, ports.remembered(home)["rabbitmq-management"]),
        "postgres": partial(postgres.ready, port),
        "model": partial(model.ready, port),
    }
    return probes.get(name, partial(services.ready, port))


def _status(name: str, entry: Running, info: Info | None) -> ProgramStatus:
    return ProgramStatus(
        name=name,
        state=info.state if info else "UNKNOWN",
        pid=info.pid if info else None,
        port=entry.port,
        uptime_s=info.now - info.started_at if info and info.pid else None,
        restarts=entry.restarts,
        log=Path(entry.log),
    )


def _existing(policy: Path) -> Path:
    if not policy.is_file():
        raise StackError(f"there is no policy file {policy}")
    return policy.resolve()


def _replicas(names: Sequence[str], scale: Mapping[str, int]) -> list[str]:
    # Under a name of its own: in ``up`` the module is hidden by the argument ``services``.
    return services.replicas(names, scale)


def _silent(_: str) -> None:
    """Say nothing."""

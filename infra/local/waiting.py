"""Waiting until programs are ready, and finding out soon when one never will be."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from infra.local.errors import StackError
from infra.local.home import Home
from infra.local.program import Program
from infra.local.supervision import Info, Supervisor

POLL_S = 0.05
REMIND_S = 10.0
LAST_LINES = 15
TAIL_BYTES = 16_384
# Once may be bad luck: a port taken at the wrong moment, shared memory of a killed predecessor.
DEATHS = 2


def until_ready(
    programs: Sequence[Program], supervisor: Supervisor, home: Home, within_s: float, say: Callable[[str], None]
) -> None:
    """Return when every program is ready.

    Raises:
        StackError: naming the first that died twice, was given up or took too long, with the end of its log.
    """
    began, reminded = time.monotonic(), time.monotonic()
    deaths: dict[str, set[float]] = {program.name: set() for program in programs}
    before = {name: info.stopped_at for name, info in supervisor.infos().items()}
    waiting = list(programs)
    while waiting := [program for program in waiting if not program.ready()]:
        infos = supervisor.infos()
        for program in waiting:
            info = infos[program.name]
            deaths[program.name] |= {info.stopped_at} - {0, before.get(program.name, 0)}
            if info.state == "FATAL" or len(deaths[program.name]) >= DEATHS:
                raise StackError(f"{program.name} does not start{last_lines(home.log_of(program.name))}")
        if time.monotonic() - began > within_s:
            raise StackError(_late(waiting, infos, home, within_s))
        if time.monotonic() - reminded > REMIND_S:
            reminded = time.monotonic()
            say(f"still waiting for {names_of(waiting)} ({reminded - began:.0f} s)")
        time.sleep(POLL_S)


def names_of(programs: Sequence[Program]) -> str:
    """Programs in words: ``rabbitmq, postgres and model``."""
    *others, last = [program.name for program in programs]
    return f"{', '.join(others)} and {last}" if others else last


def last_lines(log: Path) -> str:
    """The end of a log, as the continuation of a sentence."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()[-LAST_LINES:]
    except OSError:
        lines = []
    return f"; the end of {log}:\n" + "\n".join(lines) if lines else f"; {log} is empty"


def _late(waiting: Sequence[Program], infos: dict[str, Info], home: Home, within_s: float) -> str:
    first = waiting[0].name
    state = infos[first].state.lower()
    return f"{names_of(waiting)} not ready after {within_s:.0f} s ({first} is {state}){last_lines(home.log_of(first))}"

"""Processes of a stack whose supervisor is gone, found by the marks in their environment."""

import signal
import time
from collections.abc import Callable, Iterable, Sequence

import psutil

from infra.local.home import Home
from infra.local.program import HOME_MARK, INFRASTRUCTURE, PROGRAM_MARK

SERVICES_WITHIN_S = 25
INFRASTRUCTURE_WITHIN_S = 15
KILLED_WITHIN_S = 5
POLL_S = 0.02


def find(home: Home) -> list[psutil.Process]:
    """Every process of this home's stack; never the asking one or those it came from."""
    own = {process.pid for process in (psutil.Process(), *psutil.Process().parents())}
    return [process for process in psutil.process_iter() if process.pid not in own and _mark(process) == str(home.root)]


def end(home: Home, say: Callable[[str], None]) -> int:
    """End them: services first so that they drain, then what they lean on, each asked before it is killed.

    Returns:
        How many there were.
    """
    found = find(home)
    if not found:
        return 0
    say(f"ending {len(found)} processes left over by a stack whose supervisor is gone")
    _ask([p for p in found if _program(p) not in (*INFRASTRUCTURE, "")], SERVICES_WITHIN_S)
    _ask(find(home), INFRASTRUCTURE_WITHIN_S)
    sweep(home)
    return len(found)


def sweep(home: Home) -> None:
    """Kill whatever is left; epmd, which the broker's node starts in the background, always is."""
    remaining = find(home)
    for process in remaining:
        _signal(process, signal.SIGKILL)
    have_ended(remaining, KILLED_WITHIN_S)


def have_ended(processes: Iterable[psutil.Process], within_s: float) -> bool:
    """Wait for processes that are not our children; whether all have ended in time."""
    until, left = time.monotonic() + within_s, list(processes)
    while left := [process for process in left if _lives(process)]:
        if time.monotonic() > until:
            return False
        time.sleep(POLL_S)
    return True


def _ask(processes: Sequence[psutil.Process], within_s: float) -> None:
    # Only the topmost of each program: a server tells its own children, in the order that suits it.
    pids = {process.pid for process in processes}
    tops = [process for process in processes if _parent(process) not in pids]
    for process in tops:
        _signal(process, signal.SIGINT if _program(process) == "postgres" else signal.SIGTERM)
    have_ended(tops, within_s)


def _lives(process: psutil.Process) -> bool:
    # A process that has ended stays as a zombie until its new parent looks, which in a container may be never.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _mark(process: psutil.Process) -> str | None:
    return _environ(process).get(HOME_MARK)


def _program(process: psutil.Process) -> str:
    return _environ(process).get(PROGRAM_MARK, "")


def _environ(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.Error:
        return None


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.Error:
        return

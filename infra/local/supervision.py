"""The supervisor of a stack: a supervisord of its own, spoken to through a socket in the home."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, cast
from xmlrpc.client import Error, Fault, ServerProxy

import psutil
from supervisor.xmlrpc import Faults, SupervisorTransport

from infra.local import configuration
from infra.local.errors import StackError
from infra.local.home import Home, write
from infra.local.leftovers import have_ended
from infra.local.program import HOME_MARK, Program

POLL_S = 0.05
ANSWERS_WITHIN_S = 15
LEAVES_WITHIN_S = 20
KILLED_WITHIN_S = 5
SETTLED = frozenset({"STOPPED", "FATAL", "UNKNOWN"})
RUNNING = frozenset({"STARTING", "RUNNING", "BACKOFF"})
PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Info:
    """What the supervisor knows of one process; times in seconds since the epoch, 0 for never."""

    name: str
    state: str
    pid: int | None
    started_at: float
    stopped_at: float
    now: float


class Supervisor:
    """A supervisord that answers."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def pid(self) -> int:
        """The daemon's own process id."""
        return int(self._call("getPID"))

    def infos(self) -> dict[str, Info]:
        """All programs by name, started or not."""
        infos = (_info(values) for values in self._call("getAllProcessInfo"))
        return {info.name: info for info in infos if info.name != configuration.WATCH}

    def add(self, names: Iterable[str]) -> None:
        """Take programs over from the configuration file, which was written anew."""
        self._call("reloadConfig")
        for name in names:
            self._call("addProcessGroup", name, unless=Faults.ALREADY_ADDED)

    def start(self, names: Iterable[str]) -> None:
        """Start programs, without waiting."""
        for name in names:
            self._call("startProcess", name, False, unless=Faults.ALREADY_STARTED)

    def stop(self, names: Iterable[str], within_s: float) -> None:
        """Stop programs side by side and wait until they have ended; those that take longer are killed.

        Raises:
            StackError: for those that are still there then.
        """
        until = time.monotonic() + within_s
        while left := self._unsettled(names):
            overdue = time.monotonic() - until
            if overdue > KILLED_WITHIN_S:
                raise StackError(f"{', '.join(info.name for info in left)} can't be stopped")
            for info in left:
                # Asked again each time: a crash may have had it started anew after the first request.
                if info.state in RUNNING:
                    self._call("stopProcess", info.name, False, unless=Faults.NOT_RUNNING)
                elif overdue > 0:
                    self._call("signalProcess", info.name, "KILL", unless=Faults.NOT_RUNNING)
            time.sleep(POLL_S)

    def _unsettled(self, names: Iterable[str]) -> list[Info]:
        infos = self.infos()
        return [infos[name] for name in names if name in infos and infos[name].state not in SETTLED]

    def recent_log(self, length: int) -> str:
        """The end of the supervisor's own log, in bytes."""
        return str(self._call("readLog", -length, 0))

    def leave(self) -> None:
        """End the daemon, and with it whatever still runs under it."""
        daemon = psutil.Process(self.pid())
        # On its way out it takes up to a second per program it knows, also for one that has stopped long ago.
        self._call("stopProcess", configuration.WATCH, True, unless=Faults.NOT_RUNNING)
        for name in (*self.infos(), configuration.WATCH):
            self._call("removeProcessGroup", name, unless=Faults.STILL_RUNNING)
        self._call("shutdown")
        if not have_ended([daemon], LEAVES_WITHIN_S):
            daemon.kill()

    def _call(self, method: str, *arguments: object, unless: int | None = None) -> Any:
        # A connection each: one that was kept would not outlive a restart of the daemon.
        transport = SupervisorTransport(None, None, f"unix://{self._home.socket}")
        try:
            with ServerProxy("http://127.0.0.1", transport) as proxy:
                return getattr(proxy.supervisor, method)(*arguments)
        except Fault as fault:
            if fault.faultCode == unless:
                return None
            raise StackError(f"the supervisor refused {method}{arguments}: {fault.faultString}") from fault
        except (OSError, HTTPException, Error) as error:
            raise StackError(f"the supervisor of {self._home.root} does not answer: {error}") from error


def running(home: Home) -> Supervisor | None:
    """The stack's supervisor, if it answers."""
    supervisor = Supervisor(home)
    try:
        supervisor.pid()
    except StackError:
        return None
    return supervisor


def configure(home: Home, programs: Sequence[Program]) -> None:
    """Write the configuration file."""
    home.make_socket_folder()
    inside = home.socket.is_relative_to(home.root)
    socket = str(home.socket.relative_to(home.root) if inside else home.socket)
    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    write(home.supervisor_conf, configuration.render(programs, str(home.root), socket, hard_limit))


def launch(home: Home) -> Supervisor:
    """Start the daemon with the configuration that was written; it starts nothing by itself.

    Raises:
        StackError: with what it said, when it does not come up.
    """
    home.socket.unlink(missing_ok=True)
    done = subprocess.run(  # noqa: S603 - our own arguments
        [sys.executable, "-P", "-m", "supervisor.supervisord", "-c", str(home.supervisor_conf)],
        cwd=home.root,
        env=environment(os.environ, home),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise StackError(f"the supervisor did not start:\n{(done.stderr or done.stdout).strip()}")
    until = time.monotonic() + ANSWERS_WITHIN_S
    while time.monotonic() < until:
        if supervisor := running(home):
            return supervisor
        time.sleep(POLL_S)
    raise StackError(f"the supervisor does not answer; see {home.log / 'supervisord.log'}")


def environment(caller: Mapping[str, str], home: Home) -> dict[str, str]:
    """What the daemon passes on: the caller's environment (provider keys, say), the secret, where the code is."""
    path = os.pathsep.join(filter(None, [str(PROJECT), caller.get("PYTHONPATH")]))
    secret = caller.get("FOREBAY_ID_SECRET") or home.secret()
    return {**caller, "PYTHONPATH": path, "FOREBAY_ID_SECRET": secret, HOME_MARK: str(home.root)}


def _info(values: object) -> Info:
    fields = cast("dict[str, Any]", values)
    return Info(
        name=fields["name"],
        state=fields["statename"],
        pid=fields["pid"] or None,
        started_at=fields["start"],
        stopped_at=fields["stop"],
        now=fields["now"],
    )

"""The supervisor's event listener: ``python -m infra.local.watch HOME``.

It says in ``stack.log`` what became of a process, and keeps the pids in ``stack.json`` true.
stdin and stdout belong to the listener protocol (https://supervisord.org/events.html).
"""

import logging
import re
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TextIO

from infra.local import record
from infra.local.configuration import WATCH
from infra.local.errors import StackError
from infra.local.home import Home
from infra.local.supervision import Supervisor

READY = "READY\n"
DONE = "RESULT 2\nOK"
LOG_BYTES = 1_000_000
# The daemon's log is the only place where it says how a process ended.
DAEMON_LOG_BYTES = 4_000


@dataclass(frozen=True)
class Event:
    """A change of one process's state, say to ``EXITED``."""

    program: str
    state: str
    details: dict[str, str] = field(default_factory=dict)


@dataclass
class Narrator:
    """Turns state changes into sentences; remembers who fell, so that a start is called a return."""

    home: Home
    fallen: set[str] = field(default_factory=set)

    def sentence(self, event: Event, pid: int | None, cause: str) -> str | None:
        """What to say of an event; None for one that means nothing to a reader.

        Args:
            event: what happened.
            pid: the program's process after it.
            cause: how the process ended, where it did.
        """
        name, returns = event.program, event.program in self.fallen
        match event.state:
            case "STARTING":
                self.fallen.discard(name)
                return f"{name} running again as pid {pid}" if returns else f"{name} started as pid {pid}"
            case "EXITED":
                self.fallen.add(name)
                return f"{name} exited ({cause}), restarting"
            case "BACKOFF":
                self.fallen.add(name)
                return f"{name} exited ({cause}) soon after its start, restarting"
            case "FATAL":
                return f"{name} exits soon after every start, given up; see {self.home.log_of(name)}"
            case "STOPPED":
                self.fallen.discard(name)
                return f"{name} stopped"
            case _:
                return None


def cause(daemon_log: str, program: str) -> str:
    """How a program last ended, read from the supervisor's log: ``signal 9``, ``status 1``."""
    pattern = rf"exited: {re.escape(program)} \((?:exit status (\d+)|terminated by (?:signal )?(\w+))"
    ends = re.findall(pattern, daemon_log)
    if not ends:
        return "cause unknown"
    status, name = ends[-1]
    if status:
        return f"status {status}"
    return f"signal {signal.Signals[name].value if name.startswith('SIG') else name}"


def parse(header: str, payload: str) -> Event:
    """An event from the two parts of a message, each of ``key:value`` words."""
    details = _pairs(payload)
    state = _pairs(header)["eventname"].removeprefix("PROCESS_STATE_")
    return Event(details.pop("processname"), state, details)


def events(source: TextIO, sink: TextIO) -> Iterator[Event]:
    """The events as they come, each confirmed after it was dealt with; ends when the supervisor does."""
    while True:
        sink.write(READY)
        sink.flush()
        header = source.readline()
        if not header:
            return
        yield parse(header, source.read(int(_pairs(header)["len"])))
        sink.write(DONE)
        sink.flush()


def deal_with(event: Event, narrator: Narrator, supervisor: Supervisor, log: logging.Logger) -> None:
    """Say what happened, and note the new pid."""
    fell = event.state in ("EXITED", "BACKOFF")
    why = cause(supervisor.recent_log(DAEMON_LOG_BYTES), event.program) if fell else ""
    info = supervisor.infos().get(event.program)
    pid = info.pid if info else None
    returned = event.state == "STARTING" and event.program in narrator.fallen
    if sentence := narrator.sentence(event, pid, why):
        log.info(sentence)
        record.set_pid(narrator.home, event.program, pid, restarts=int(returned))


def main() -> None:
    """Entry of the process."""
    home = Home.at(Path(sys.argv[1]))
    log, narrator, supervisor = logbook(home), Narrator(home), Supervisor(home)
    for event in events(sys.stdin, sys.stdout):
        if event.program == WATCH:
            continue
        try:
            deal_with(event, narrator, supervisor, log)
        except StackError as error:
            # The supervisor is on its way out, and answers no more questions.
            log.info("%s: %s (%s)", event.program, event.state.lower(), error)


def logbook(home: Home) -> logging.Logger:
    """The stack's log, a line with its time each, bounded."""
    handler = RotatingFileHandler(home.stack_log, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log = logging.getLogger("forebay.stack")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(handler)
    return log


def _pairs(text: str) -> dict[str, str]:
    return dict(word.split(":", 1) for word in text.split())


if __name__ == "__main__":
    main()

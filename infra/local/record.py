"""``stack.json``: the running stack, described for scripts, tests and the command line."""

import fcntl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from infra.local.errors import StackError
from infra.local.home import Home, write


class Running(BaseModel):
    """One program of the stack; no pid while it is stopped."""

    model_config = ConfigDict(frozen=True)

    pid: int | None
    port: int
    log: str
    restarts: int = 0


class Stack(BaseModel):
    """A running stack. Addresses of what it does not run are empty."""

    model_config = ConfigDict(frozen=True)

    amqp_url: str = ""
    http_url: str = ""
    postgres_dsn: str = ""
    api_key: str | None = None
    services: Mapping[str, Running] = {}
    infrastructure: Mapping[str, Running] = {}
    rabbitmq_management_url: str = ""
    model_url: str = ""
    home: Path
    supervisor: Path
    policy: Path | None = None

    @property
    def programs(self) -> dict[str, Running]:
        """Infrastructure and services together, in the order they start."""
        return {**self.infrastructure, **self.services}

    def with_program(self, name: str, running: Running) -> "Stack":
        """The same stack with one program's entry replaced."""
        part = "infrastructure" if name in self.infrastructure else "services"
        entries = self.infrastructure if name in self.infrastructure else self.services
        return self.model_copy(update={part: {**entries, name: running}})


def load(home: Home) -> Stack | None:
    """The description in the home, if there is a readable one; whether it still holds is another question."""
    try:
        return Stack.model_validate_json(home.stack_json.read_bytes())
    except (OSError, ValidationError):
        return None


def save(home: Home, make: Callable[[Stack | None], Stack]) -> Stack:
    """Replace the description by what ``make`` makes of the present one, with no other writer in between."""
    with _alone(home):
        new = make(load(home))
        write(home.stack_json, new.model_dump_json(indent=2) + "\n")
        return new


def set_pid(home: Home, name: str, pid: int | None, restarts: int = 0) -> None:
    """Note a program's new process, and how many restarts that adds; without a description there is nothing to do."""
    with _alone(home):
        stack = load(home)
        if stack is None or name not in stack.programs:
            return
        entry = stack.programs[name]
        entry = entry.model_copy(update={"pid": pid, "restarts": entry.restarts + restarts})
        write(home.stack_json, stack.with_program(name, entry).model_dump_json(indent=2) + "\n")


def known(stack: Stack, name: str) -> Running:
    """A program's entry.

    Raises:
        StackError: when the stack has no such program.
    """
    if name not in stack.programs:
        raise StackError(f"the stack has no {name!r}; it has {', '.join(stack.programs)}")
    return stack.programs[name]


@contextmanager
def _alone(home: Home) -> Iterator[None]:
    with (home.run / "record.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

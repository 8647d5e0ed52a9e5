"""What several commands share: where the stack is, and how to say that something is wrong."""

import asyncio
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn, TypeVar

import structlog
import typer
from rich.markup import escape

from shared.cli.console import Console
from shared.client import Refused
from shared.errors import ForebayError
from shared.events import DEFAULT_TENANT
from shared.policy.section import seconds

if TYPE_CHECKING:
    from infra.local.record import Stack

T = TypeVar("T")
# Piped into a file or a log, tables get the width they need.
out: Final = Console(width=None if sys.stdout.isatty() else 110)
err: Final = Console(stderr=True)

Home = Annotated[Path, typer.Option(help="Folder of the stack: its data, logs and stack.json.", envvar="FOREBAY_HOME")]
HOME: Final = Path(".forebay")
Tenant = Annotated[str, typer.Option(help="Whose request it is.")]
TENANT: Final = DEFAULT_TENANT


def fail(message: str, *, code: int = 1) -> NoReturn:
    """Say what is wrong and exit."""
    err.print(f"[red]forebay:[/red] {escape(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(code)


def duration(said: str, *, option: str) -> timedelta:
    """A time such as 90m, 24h or 7d; exits 1 for what is none."""
    try:
        return timedelta(seconds=int(str(seconds(said))))
    except (ValueError, OverflowError) as error:
        fail(f"{option}: {error}")


@contextmanager
def told() -> Iterator[None]:
    """Errors that are for people, in one line."""
    from infra.local.errors import StackError  # needs what only the local stack has installed

    try:
        yield
    except (StackError, ForebayError, Refused, OSError) as error:
        fail(str(error) or repr(error))


@contextmanager
def logs_apart() -> Iterator[None]:
    """Warnings of what a service does as well go to stderr, and no more: what a command prints is its own."""
    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger("warning"),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        yield
    finally:
        structlog.configure(**before)


def running(home: Path) -> "Stack":
    """The stack that is up; exits 1 with a hint where none is."""
    from infra.local import stack

    with told():
        return stack.read(home)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine; errors in one line, Ctrl-C without a traceback."""
    with told():
        try:
            return asyncio.run(work)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None

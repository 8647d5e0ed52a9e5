"""``forebay up``, ``down``, ``status``, ``serve`` and ``settings``."""

import runpy
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from shared import SERVICES
from shared.cli.options import HOME, Home, err, fail, out, running, told
from shared.policy import load_policy
from shared.settings import PREFIX, Settings


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (up, down, status, serve, settings):
        app.command()(command)


def say(line: str) -> None:
    """Progress, on standard error."""
    err.print(f"[dim]{line}[/dim]", highlight=False)


def up(
    home: Home = HOME,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once all is ready.")] = False,
    scale: Annotated[str, typer.Option(help="Replicas, such as cache=2,inference=3; on a running stack too.")] = "",
    policy: Annotated[Path | None, typer.Option(help="Policy file; default: the one that ships.")] = None,
    http_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port of the HTTP door, kept for later starts; default: a free one."),
    ] = None,
) -> None:
    """Start a stack on this machine: broker, database, local model and all services."""
    from infra.local import stack
    from shared import database

    with told():
        if policy is not None:
            load_policy(policy)  # a mistake in it is told before anything is started
        started = stack.up(
            home, scale=_scale(scale), policy=policy, http_port=http_port, say=say, migrate=database.migrate
        )
    out.print(f"[green]up[/green]  {started.http_url}  (docs: {started.http_url}/docs, stack: {home}/stack.json)")
    if detach:
        out.print('try: forebay submit "What is the capital of France?" --wait')
        return
    out.print("Ctrl-C stops it.")
    _follow(home)


def _follow(home: Path) -> None:
    """Print what the supervisor has to tell until Ctrl-C, then stop the stack."""
    from infra.local import stack

    logbook = home / "log" / "stack.log"
    place = logbook.stat().st_size if logbook.exists() else 0
    try:
        while True:
            if logbook.exists() and logbook.stat().st_size > place:
                with logbook.open(encoding="utf-8") as lines:
                    lines.seek(place)
                    err.print(lines.read().rstrip(), highlight=False)
                    place = lines.tell()
            time.sleep(0.5)
    except KeyboardInterrupt:
        with told():
            stack.down(home, say)


def _scale(text: str) -> dict[str, int]:
    replicas = {}
    for part in filter(None, text.split(",")):
        name, _, count = part.partition("=")
        if name.strip() not in SERVICES or not count.strip().isdigit() or int(count) < 1:
            fail(f"--scale {part!r}: write NAME=COUNT, where NAME is one of {', '.join(SERVICES)} and COUNT at least 1")
        replicas[name.strip()] = int(count)
    return replicas


def down(home: Home = HOME) -> None:
    """Stop everything the stack started; its data stays."""
    from infra.local import stack

    with told():
        was_running = stack.down(home, say)
    out.print("down" if was_running else "nothing was running")


def status(home: Home = HOME) -> None:
    """Show the processes of the stack."""
    from infra.local import stack

    with told():
        programs = stack.status(home)
    table = Table("program", "state", "pid", "port", "up", "restarts", "log", box=None, header_style="bold")
    for program in programs:
        table.add_row(
            program.name,
            f"[{'green' if program.state == 'RUNNING' else 'red'}]{program.state.lower()}[/]",
            str(program.pid or ""),
            str(program.port),
            "" if program.uptime_s is None else f"{program.uptime_s:.0f} s",
            str(program.restarts),
            str(program.log),
        )
    out.print(table)
    out.print(f"\nhttp  {running(home).http_url}\namqp  {running(home).amqp_url}", highlight=False)


def serve(service: Annotated[str, typer.Argument(help=", ".join(SERVICES))]) -> None:
    """Run one service in the foreground, as in a container; it is set up by FOREBAY_… variables."""
    if service not in SERVICES:
        fail(f"{service!r} is no service; choose one of {', '.join(SERVICES)}")
    runpy.run_module(f"services.{service}", run_name="__main__", alter_sys=True)


def settings() -> None:
    """Print every setting with its default and what it means."""
    table = Table("variable", "default", "meaning", box=None, header_style="bold")
    for name, default, meaning in Settings.table():
        table.add_row(f"{PREFIX}{name.upper()}", default, meaning)
    out.print(table)

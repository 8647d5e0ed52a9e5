"""``forebay dead``: requests that failed, and messages that died: read them, run them anew, put them away."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.markup import escape
from rich.table import Table

from shared.cli.options import HOME, Home, err, fail, out, run, running
from shared.client import DeadClient
from shared.clock import SYSTEM_CLOCK
from shared.policy.section import seconds

# Failures one call takes at the most, and seconds between two calls where there is a rate.
AT_ONCE: Final = 100
EVERY_S: Final = 1.0
PROMPT_CHARS: Final = 60

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Their ids; or say which by the options.")]
Classes = Annotated[
    list[str] | None, typer.Option("--class", help="Of this class, such as provider_auth; may be repeated.")
]
Tenant = Annotated[str | None, typer.Option(help="Of this tenant; default: of all.")]
Since = Annotated[str | None, typer.Option(help="Failed since: a time (RFC 3339), or how long ago: 30m, 2h, 7d.")]
Until = Annotated[str | None, typer.Option(help="Failed before; as --since.")]
Everything = Annotated[bool, typer.Option("--all", help="All that are listed.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many, the oldest first.")]
Do = Callable[[DeadClient, dict[str, object]], Awaitable[dict[str, Any]]]

dead = typer.Typer(help="Requests that failed, and messages that died: read, replay, drop.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(dead, name="dead")


@dead.command("list")
def list_(
    home: Home = HOME,
    classes: Classes = None,
    tenant: Tenant = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many, the oldest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show the requests that failed and were neither replayed nor dropped since, and the number of each class."""
    said = _conditions(classes, tenant, since, until) | {"limit": limit}
    shown = run(_ask(home, lambda client: client.listed(**said)))
    if as_json:
        out.print_json(json.dumps(shown))
        return
    if not shown["data"]:
        out.print("no failures")
        return
    out.print(_classes(shown["classes"]))
    out.print()
    out.print(_failures(shown["data"]))
    if shown["next"]:
        err.print(f"[dim]the oldest {len(shown['data'])}; more with --limit, or --since[/dim]", highlight=False)


@dead.command()
def show(request_id: Annotated[str, typer.Argument(help="Its id.")], home: Home = HOME) -> None:
    """Show a failure with the whole request, as JSON."""
    out.print_json(json.dumps(run(_ask(home, lambda client: client.show(request_id)))))


@dead.command()
def replay(
    ids: Ids = None,
    home: Home = HOME,
    classes: Classes = None,
    tenant: Tenant = None,
    since: Since = None,
    until: Until = None,
    everything: Everything = False,
    to: Annotated[str | None, typer.Option(help="Run them on this tier or model; auto: let the router choose.")] = None,
    rate: Annotated[float, typer.Option(min=0.01, help="So many a second.")] = 10.0,
    limit: Limit = None,
    ignore_deadline: Annotated[
        bool, typer.Option("--ignore-deadline", help="Run them without a deadline, also where it has passed.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Run failed requests anew, under their ids; safe to repeat: what is on its way, or was answered, is not listed."""
    said = _selection(ids, everything, _conditions(classes, tenant, since, until))
    said |= {"to": to, "ignore_deadline": ignore_deadline, "dry_run": dry_run}
    done = run(_all(home, said, (ids or [])[:limit], DeadClient.replay, limit=limit, rate=None if dry_run else rate))
    _told(done, "replayed", "would be replayed" if dry_run else "replayed", shown=dry_run)


@dead.command()
def drop(
    ids: Ids = None,
    home: Home = HOME,
    classes: Classes = None,
    tenant: Tenant = None,
    since: Since = None,
    until: Until = None,
    everything: Everything = False,
    limit: Limit = None,
    dry_run: DryRun = False,
) -> None:
    """Take failures off the list; they stay the results of their requests."""
    said = _selection(ids, everything, _conditions(classes, tenant, since, until)) | {"dry_run": dry_run}
    done = run(_all(home, said, (ids or [])[:limit], DeadClient.drop, limit=limit, rate=None))
    _told(done, "dropped", "would be dropped" if dry_run else "dropped", shown=dry_run)


@dead.command()
def queues(home: Home = HOME, as_json: AsJson = False) -> None:
    """Show the queues of dead letters, and how many letters each has."""
    shown = run(_ask(home, DeadClient.queues))
    if as_json:
        out.print_json(json.dumps(shown))
        return
    table = _table("queue", "letters")
    for row in shown["data"]:
        table.add_row(row["queue"], str(row["letters"]))
    out.print(table)


@dead.command()
def letters(
    queue: Annotated[str, typer.Argument(help="Its name, with or without .dead.")],
    home: Home = HOME,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Read dead letters, which stay where they are: reason, headers, and the beginning of the body."""
    shown = run(_ask(home, lambda client: client.letters(queue, limit=limit)))
    if as_json:
        out.print_json(json.dumps(shown))
        return
    if not shown["data"]:
        out.print("no letters")
    for letter in shown["data"]:
        _print_letter(letter)


@dead.command()
def purge(
    queue: Annotated[str, typer.Argument(help="Its name, with or without .dead.")],
    home: Home = HOME,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete all letters of a queue; the results of requests are not touched."""
    if not yes:
        typer.confirm(f"delete all letters of {queue}?", abort=True, err=True)
    shown = run(_ask(home, lambda client: client.purge(queue)))
    out.print(f"{shown['purged']} deleted", highlight=False)


async def _ask(home: Path, ask: Callable[[DeadClient], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    async with DeadClient(_url(home)) as client:
        return await ask(client)


async def _all(
    home: Path, said: dict[str, object], ids: list[str], do: Do, *, limit: int | None, rate: float | None
) -> list[dict[str, Any]]:
    """Do it to all that are meant, some at a time; what each call came to."""
    # What fails again meanwhile is another failure, and not meant.
    said = said if ids else {"until": datetime.now(UTC).isoformat(), **said}
    size, left, after = AT_ONCE if rate is None else _size(rate), len(ids) or limit, None
    done: list[dict[str, Any]] = []
    async with DeadClient(_url(home)) as client:
        while True:
            number = size if left is None else min(size, left)
            some = {"ids": ids[-left:][:number]} if ids and left else {"limit": number, "after": after}
            left = None if left is None else left - number
            done.append(await do(client, {**said, **some, "more": left != 0}))
            after = done[-1]["next"]
            if left == 0 or (after is None and not ids):
                return done
            if rate is not None:
                err.print(f"[dim]{sum(len(each['replayed']) for each in done)} replayed[/dim]", highlight=False)
                await SYSTEM_CLOCK.sleep(len(done[-1]["replayed"]) / rate)


def _url(home: Path) -> str:
    """Where the first replica of persistence answers."""
    services = running(home).services
    if "persistence" not in services:
        fail(f"this stack runs no persistence; it runs {', '.join(services) or 'nothing'}")
    return f"http://127.0.0.1:{services['persistence'].port}"


def _size(rate: float) -> int:
    """Failures of one call, at a rate a second."""
    return max(1, min(AT_ONCE, int(rate * EVERY_S)))


def _conditions(
    classes: list[str] | None, tenant: str | None, since: str | None, until: str | None
) -> dict[str, object]:
    said = {"class": classes, "tenant": tenant, "since": _time(since, "since"), "until": _time(until, "until")}
    return {name: value for name, value in said.items() if value}


def _selection(ids: list[str] | None, everything: bool, conditions: dict[str, object]) -> dict[str, object]:
    if ids and (conditions or everything):
        fail("ids go with no other condition: give one or the other")
    if not ids and bool(conditions) == everything:
        fail("say which: ids, some of --class, --tenant, --since and --until, or --all")
    return conditions | ({"everything": True} if everything else {})


def _time(text: str | None, option: str) -> str | None:
    """A time as it is written, or so long ago."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        try:
            time = datetime.now(UTC) - timedelta(seconds=int(str(seconds(text))))
        except (ValueError, OverflowError):
            fail(f"--{option}: {text!r} is neither a time such as 2026-01-02T03:04:05Z nor a span such as 30m, 2h, 7d")
    return (time if time.tzinfo else time.astimezone()).isoformat()


def _told(done: list[dict[str, Any]], part: str, what: str, *, shown: bool) -> None:
    taken = list(chain.from_iterable(each[part] for each in done))
    refused = list(chain.from_iterable(each["refused"] for each in done))
    if shown:
        for row in taken:
            out.print(f"{row['id']}  {row['class']}  {row['tenant']}", highlight=False)
    for row in refused:
        err.print(f"[yellow]{row['id']}[/yellow] {escape(row['reason'])}", highlight=False, soft_wrap=True)
    out.print(f"{len(taken)} {what}, {len(refused)} refused", highlight=False)
    if refused:
        raise typer.Exit(1)


def _table(*headings: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        number = heading in ("failures", "letters", "attempts")
        # An id is there to be copied: whatever the width, all of it.
        table.add_column(heading, justify="right" if number else "left", min_width=36 if heading == "id" else None)
    return table


def _classes(rows: list[dict[str, Any]]) -> Table:
    table = _table("class", "failures", "first", "last")
    for row in rows:
        table.add_row(escape(row["class"]), str(row["failures"]), _short(row["first_at"]), _short(row["last_at"]))
    return table


def _failures(rows: list[dict[str, Any]]) -> Table:
    table = _table("id", "failed", "tenant", "class", "tier", "attempts", "prompt")
    for row in rows:
        prompt = " ".join(row["prompt"].split())
        late = " (deadline passed)" if row["deadline_passed"] else ""
        table.add_row(
            row["id"],
            _short(row["failed_at"]),
            row["tenant"],
            escape(row["class"]) + late,
            row["tier"] or "",
            str(row["attempts"]),
            escape(prompt if len(prompt) <= PROMPT_CHARS else prompt[: PROMPT_CHARS - 1] + "…"),
        )
    return table


def _print_letter(letter: dict[str, Any]) -> None:
    out.print(f"[bold]{escape(letter['code'] or 'no code')}[/bold]  {escape(letter['reason'] or '')}", soft_wrap=True)
    out.print(f"request {letter['request_id'] or 'none'}, {letter['bytes']} bytes", highlight=False)
    for name, value in letter["headers"].items():
        out.print(f"  {name}: {value}", highlight=False, markup=False, soft_wrap=True)
    out.print(letter["body"] + "\n", highlight=False, markup=False, soft_wrap=True)


def _short(time: str) -> str:
    return datetime.fromisoformat(time).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")

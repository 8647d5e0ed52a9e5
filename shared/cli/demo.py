"""``forebay demo``: real prompts in as events, real answers out, and what they cost."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from shared.cli.options import Home, err, out, run, told
from shared.cli.stack import say
from shared.client import AmqpClient, HttpClient, Refused
from shared.policy import load_policy

DEMO_HOME: Final = Path(".forebay/demo")
DOORS: Final = ("http", "amqp")
MAX_OUTPUT_TOKENS: Final = 96
OTHER_COLUMNS: Final = 66  # characters of a line of the report that are not the prompt's
COLOURS: Final = {"cache": "green", "coalesced": "cyan", "light": "yellow", "premium": "magenta", "failed": "red"}
_PINNED: Final = re.compile(r"^\[([\w./-]+)\]\s+")


@dataclass(frozen=True, slots=True)
class Job:
    """One prompt of the demo and the door it takes."""

    prompt: str
    model: str
    door: str

    @property
    def body(self) -> dict[str, object]:
        """The submission."""
        return {"input": self.prompt, "model": self.model, "max_output_tokens": MAX_OUTPUT_TOKENS}


@dataclass(frozen=True, slots=True)
class Finished:
    """A prompt and what became of it."""

    job: Job
    source: str
    tier: str
    latency_ms: float
    similarity: float | None
    cost_usd: float
    saved_usd: float
    failure: str | None


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(demo)


def demo(
    home: Home = DEMO_HOME,
    prompts: Annotated[Path | None, typer.Option(help="Prompts, one a line; dashes separate rounds.")] = None,
    policy: Annotated[Path | None, typer.Option(help="Policy file; default: the one that ships.")] = None,
) -> None:
    """Start a stack, send it the prompts of a file by both doors, show what came back, stop the stack."""
    with told():
        if policy is not None:
            load_policy(policy)  # a mistake in it is told before anything is started
        text = (prompts or Path(str(files("infra")) + "/demo/prompts.txt")).read_text(encoding="utf-8")
    rounds = list(_rounds(text))
    with _stack(home, policy) as stack:
        began = time.perf_counter()
        finished = run(_play(stack.http_url, stack.amqp_url, rounds))
        seconds = time.perf_counter() - began
        rows = run(_rows(stack.postgres_dsn, len(finished)))
        _report(finished, seconds, rows)
    if any(item.failure for item in finished):
        raise typer.Exit(1)


@contextmanager
def _stack(home: Path, policy: Path | None) -> Iterator[Any]:
    from infra.local import stack
    from shared import database

    with told():
        started = stack.up(home, policy=policy, say=say, migrate=database.migrate)
    try:
        yield started
    finally:
        with told():
            stack.down(home, say)


def _rounds(text: str) -> Iterator[Sequence[Job]]:
    for part in re.split(r"^-{3,}\s*$", text, flags=re.MULTILINE):
        lines = [line.strip() for line in part.splitlines() if line.strip() and not line.startswith("#")]
        jobs = []
        for number, line in enumerate(lines):
            pinned = _PINNED.match(line)
            model = pinned[1] if pinned else "auto"
            jobs.append(Job(_PINNED.sub("", line), model, DOORS[number % 2]))
        if jobs:
            yield jobs


async def _play(http_url: str, amqp_url: str, rounds: Sequence[Sequence[Job]]) -> list[Finished]:
    # A tenant of its own for each run: another run's answers are not in its scope.
    tenant = f"demo-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    finished: list[Finished] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    async with HttpClient(http_url, tenant=tenant) as http, AmqpClient.connect(amqp_url, tenant=tenant) as amqp:
        with Progress(*columns, console=err) as progress:
            bar = progress.add_task("answering", total=sum(map(len, rounds)))
            for jobs in rounds:
                for done in asyncio.as_completed([_one(job, http, amqp) for job in jobs]):
                    finished.append(await done)
                    progress.update(bar, advance=1, description=_counted(finished))
    order = {id(job): place for place, job in enumerate(job for jobs in rounds for job in jobs)}
    return sorted(finished, key=lambda item: order[id(item.job)])


async def _one(job: Job, http: HttpClient, amqp: AmqpClient) -> Finished:
    try:
        return await _asked(job, http, amqp)
    except Refused as error:
        return _finished(job, {}, None, 0.0, {"code": "refused", "message": str(error)})


async def _asked(job: Job, http: HttpClient, amqp: AmqpClient) -> Finished:
    if job.door == "http":
        shown = await http.finished(job.body)
        error = shown.get("error")
        return _finished(
            job, shown, (shown.get("cache") or {}).get("similarity"), shown.get("latency_ms") or 0.0, error
        )
    event = await (await amqp.publish(job.body))
    error = {"code": event["code"], "message": event["message"]} if "code" in event else None
    return _finished(job, event, event.get("similarity"), _latency_ms(event), error)


def _finished(
    job: Job, of: dict[str, Any], similarity: float | None, latency_ms: float, error: dict[str, Any] | None
) -> Finished:
    return Finished(
        job=job,
        source=of.get("source") or "failed",
        tier=of.get("tier") or "",
        latency_ms=latency_ms,
        similarity=similarity,
        cost_usd=of.get("cost_usd") or 0.0,
        saved_usd=of.get("saved_usd") or 0.0,
        failure=f"{error['code']}: {error['message']}" if error else None,
    )


def _latency_ms(event: dict[str, Any]) -> float:
    if "completed_at" not in event:
        return 0.0
    taken = datetime.fromisoformat(event["completed_at"]) - datetime.fromisoformat(event["accepted_at"])
    return taken.total_seconds() * 1000


def _counted(finished: Sequence[Finished]) -> str:
    counts = Counter(item.source for item in finished)
    return "answering  " + "  ".join(f"{source} {count}" for source, count in sorted(counts.items()))


async def _rows(dsn: str, expected: int) -> dict[str, int]:
    """Rows in PostgreSQL once the writer's last tick is through."""
    import asyncpg

    connection = await asyncpg.connect(dsn)
    try:
        statement = """SELECT (SELECT count(*) FROM requests) AS requests,
                              (SELECT count(*) FROM responses) AS responses,
                              (SELECT count(*) FROM cache_entries) AS cache_entries"""
        for _ in range(50):
            rows = dict(await connection.fetchrow(statement) or {})
            if rows["responses"] >= expected and rows["requests"] == rows["responses"]:
                break
            await asyncio.sleep(0.1)
        return rows
    finally:
        await connection.close()


def _report(finished: Sequence[Finished], seconds: float, rows: dict[str, int]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("#", justify="right")
    table.add_column("door")
    table.add_column("prompt")
    table.add_column("source")
    for name in ("latency", "similar", "cost", "saved"):
        table.add_column(name, justify="right", no_wrap=True)
    for number, item in enumerate(finished, start=1):
        table.add_row(
            str(number),
            item.job.door,
            escape(_cut(item.job.prompt, out.width - OTHER_COLUMNS)),
            f"[{COLOURS.get(item.source, 'white')}]{item.source}[/]",
            f"{item.latency_ms:,.0f} ms",
            "" if item.similarity is None else f"{item.similarity:.3f}",
            _dollars(item.cost_usd),
            _dollars(item.saved_usd),
        )
    out.print(table)
    for item in finished:
        if item.failure:
            out.print(f"[red]failed[/red] {item.job.prompt!r}: {item.failure}", highlight=False)
    cost, saved = sum(item.cost_usd for item in finished), sum(item.saved_usd for item in finished)
    share = f" ({saved / (cost + saved):.0%} of what it would have cost)" if saved else ""
    sources = Counter(item.source for item in finished)
    out.print(
        f"\n[bold]{len(finished)} requests[/bold] in {seconds:.1f} s: "
        + ", ".join(f"{count} {source}" for source, count in sources.most_common())
        + f"\n[bold]cost[/bold] {_dollars(cost)}, [bold]saved[/bold] {_dollars(saved)}{share}, at list prices of the "
        "models the tiers stand for"
        f"\n[bold]PostgreSQL[/bold] {rows['requests']} requests, {rows['responses']} responses, "
        f"{rows['cache_entries']} cache entries (all runs of this folder)",
        highlight=False,
    )


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(1, width - 1)] + "…"


def _dollars(amount: float) -> str:
    return f"${amount:.6f}"

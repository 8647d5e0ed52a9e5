"""``forebay topics``: what trends and why, and telling what does or does no more."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from shared.cli.options import HOME, TENANT, Home, Tenant, err, fail, out, run, running
from shared.client import HttpClient, TopicsClient

topics = typer.Typer(help="What trends, and why; answers about it that are older than the policy's max_age wait.")
Terms = Annotated[list[str], typer.Argument(help="Words or phrases: a prompt with all words of one concerns it.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(topics, name="topics")


@topics.callback(invoke_without_command=True)
def show(
    context: typer.Context,
    home: Home = HOME,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what trends: rates, ratio, since when, why, and how many entries are not served for it."""
    if context.invoked_subcommand is not None:
        return
    shown = run(_asked(home))
    if as_json:
        out.print_json(json.dumps(shown))
        return
    _print(shown)


@topics.command()
def trending(
    terms: Terms,
    home: Home = HOME,
    lasting: Annotated[str, typer.Option("--for", help="How long, such as 30m, 2h.")] = "1h",
    reason: Annotated[str | None, typer.Option(help="Why, for the record.")] = None,
    tenant: Tenant = TENANT,
) -> None:
    """Say that a topic trends: older answers of the tenant about it are not served until it has settled."""
    told = run(_told(running(home).http_url, tenant, terms, trending=True, lasting=lasting, reason=reason))
    err.print(f"[dim]until {told['until']}: {told['topic_id']}[/dim]", highlight=False)


@topics.command()
def settled(
    terms: Terms,
    home: Home = HOME,
    reason: Annotated[str | None, typer.Option(help="Why, for the record.")] = None,
    tenant: Tenant = TENANT,
) -> None:
    """Say that a topic trends no more; it is not detected again before the policy's slow constant is over."""
    told = run(_told(running(home).http_url, tenant, terms, trending=False, reason=reason))
    err.print(f"[dim]settled: {told['topic_id']}[/dim]", highlight=False)


async def _told(url: str, tenant: str, terms: list[str], **said: Any) -> dict[str, Any]:
    async with HttpClient(url, tenant=tenant) as client:
        return await client.tell(terms, **said)


async def _asked(home: Path) -> dict[str, Any]:
    """What trends by the counts, and what the cache heeds, in one."""
    services = running(home).services
    missing = [name for name in ("trends", "cache") if name not in services]
    if missing:
        fail(f"this stack runs no {' and no '.join(missing)}; it runs {', '.join(services) or 'nothing'}")
    counted, heeded = await asyncio.gather(*(_topics(services[name].port) for name in ("trends", "cache")))
    by_id = {each["topic_id"]: each for each in counted["trending"]}
    merged = [by_id.pop(each["topic_id"], {}) | each for each in heeded["topics"]]
    return {
        "topics": [*merged, *by_id.values()],  # what the cache has not heard of yet comes last
        "rising": counted["rising"],
        "rule": counted["rule"] | {"max_age_s": heeded["max_age_s"]},
        "enabled": counted["enabled"],
    }


async def _topics(port: int) -> dict[str, Any]:
    async with TopicsClient(f"http://127.0.0.1:{port}") as client:
        return await client.topics()


def _print(shown: dict[str, Any]) -> None:
    rule = shown["rule"]
    if not shown["enabled"]:
        out.print("[yellow]trends are off in the policy:[/yellow] only what is told from outside is heeded")
    if not shown["topics"]:
        out.print("nothing is trending")
    else:
        out.print(_table(shown["topics"], "trending"))
        out.print(f"answers about these are served up to an age of {rule['max_age_s']} s", highlight=False)
    if shown["rising"]:
        out.print(_table(shown["rising"], "nearest to trending"))
    out.print(
        f"a topic trends from {rule['ratio']:g} times its usual share and a significance of {rule['floor']:g}",
        highlight=False,
    )


def _table(rows: list[dict[str, Any]], title: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for heading in ("topic", "tenant", "since", "a minute", "usually", "ratio", "significance", "entries", "why"):
        table.add_column(heading, justify="left" if heading in ("topic", "tenant", "since", "why") else "right")
    for row in rows:
        table.add_row(
            escape(", ".join(row["terms"])),
            row.get("tenant") or "all",
            _ago(row.get("since")),
            _number(row.get("per_minute")),
            _number(row.get("usual_per_minute")),
            _number(row.get("ratio")),
            _number(row.get("significance")),
            "" if row.get("entries") is None else f"{row['entries']}{'+' if row.get('more') else ''}",
            escape(_why(row)),
        )
    return table


def _why(row: dict[str, Any]) -> str:
    told = row.get("origin") in ("told", "repeated")
    return f"told: {row.get('reason', '')}" if told else row.get("reason", "")


def _ago(since: str | None) -> str:
    if since is None:
        return ""
    return f"{max(0, int((datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds()))} s ago"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"

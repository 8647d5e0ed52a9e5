"""``forebay cache``: what is in the cache, what it would answer, and what it is to forget or to know."""

import asyncio
import json
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.markup import escape

from shared import envelope
from shared.broker import Broker
from shared.cli import cache_tables, warming
from shared.cli.options import HOME, TENANT, Home, Tenant, err, fail, out, run, running, told
from shared.client import CacheClient, HttpClient, Refused
from shared.errors import BrokerUnavailable
from shared.events import AUTO, CacheWarm, Priority
from shared.policy import load_policy
from shared.policy.section import seconds
from shared.rabbitmq import RabbitBroker
from shared.settings import packaged_policy

BATCH: Final = 200
# Submissions under way at once: enough to keep the door busy, few enough to leave it open for others.
AT_ONCE: Final = 8
PATIENCE_S: Final = 10

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
cache = typer.Typer(help="What is in the cache, what it would answer, what to forget.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(cache, name="cache")


@cache.command()
def stats(home: Home = HOME, as_json: AsJson = False) -> None:
    """Show how much is stored, what it has saved, and how often it is wrong."""
    url = _cache_url(home)

    async def work() -> dict[str, Any]:
        async with CacheClient(url) as client:
            return await client.stats()

    shown = run(work())
    if as_json:
        out.print_json(json.dumps(shown))
    else:
        cache_tables.stats(shown)


@cache.command()
def lookup(
    prompt: Annotated[str, typer.Argument(help="The prompt.")],
    home: Home = HOME,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show the nearest entries and what spoke against them.")
    ] = False,
    tenant: Tenant = TENANT,
    instructions: Annotated[str | None, typer.Option(help="What the model is told before the prompt.")] = None,
    model: Annotated[str, typer.Option(help="auto, light, premium, or a model of the policy.")] = AUTO,
    as_json: AsJson = False,
) -> None:
    """Show what the cache would answer to a prompt, and why; no model is called."""
    url = _cache_url(home)
    body = {"input": prompt, "model": model} | ({} if instructions is None else {"instructions": instructions})

    async def work() -> dict[str, Any]:
        async with CacheClient(url, tenant=tenant) as client:
            return await client.lookup(body)

    shown = run(work())
    if as_json:
        out.print_json(json.dumps(shown))
    else:
        cache_tables.lookup(shown, explain=explain)


@cache.command()
def invalidate(
    home: Home = HOME,
    entry: Annotated[str | None, typer.Option(help="The entry of this id.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Entries of this very prompt.")] = None,
    topic: Annotated[str | None, typer.Option(help="Entries whose prompt has each of these words.")] = None,
    scope: Annotated[str | None, typer.Option(help="Entries of this scope; lookup --explain shows it.")] = None,
    model: Annotated[str | None, typer.Option(help="Entries answered by this model, or tier.")] = None,
    category: Annotated[str | None, typer.Option(help="Entries of this freshness category.")] = None,
    older_than: Annotated[str | None, typer.Option(help="Entries stored so long ago, such as 30m, 2h, 7d.")] = None,
    everything: Annotated[bool, typer.Option("--everything", help="All entries of the tenant.")] = False,
    tenant: Tenant = TENANT,
    reason: Annotated[str | None, typer.Option(help="Why, for the record.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget the entries that meet all conditions given."""
    said: dict[str, object] = {
        "entry_id": entry,
        "prompt": prompt,
        "topic": topic,
        "scope": scope,
        "model": model,
        "category": category,
        "older_than_s": None if older_than is None else _seconds(older_than),
        "everything": everything or None,
    }
    selector = {name: value for name, value in said.items() if value is not None}
    url = running(home).http_url
    if dry_run or not yes:
        cache_tables.forgotten(run(_forget(url, tenant, selector, reason, dry_run=True)))
        if dry_run:
            return
        typer.confirm("forget these?", abort=True, err=True)
    shown = run(_forget(url, tenant, selector, reason, dry_run=False))
    if yes:
        cache_tables.forgotten(shown)
    err.print(f"[dim]on its way: {shown['invalidation_id']}[/dim]", highlight=False)


async def _forget(
    url: str, tenant: str, selector: dict[str, object], reason: str | None, *, dry_run: bool
) -> dict[str, Any]:
    async with HttpClient(url, tenant=tenant) as client:
        return await client.forget(selector, reason=reason, dry_run=dry_run)


@cache.command()
def wrong(
    request_id: Annotated[str, typer.Argument(help="The request that was given the wrong answer.")],
    home: Home = HOME,
    tenant: Tenant = TENANT,
    hours: Annotated[int, typer.Option(help="How far back to look for others it was given to.")] = 24,
    comment: Annotated[str, typer.Option(help="What is wrong about it.")] = "",
) -> None:
    """Say that the cache's answer to a request was wrong: the entry goes, and the cache learns from it."""
    url = running(home).http_url

    async def work() -> dict[str, Any]:
        async with HttpClient(url, tenant=tenant) as client:
            return await client.wrong(request_id, comment=comment, hours=hours)

    cache_tables.served(run(work()))


@cache.command()
def warm(
    file: Annotated[Path, typer.Argument(help="JSON Lines: input, and output_text where the answer is known.")],
    home: Home = HOME,
    tenant: Annotated[str, typer.Option(help="Of the lines that name none.")] = TENANT,
    category: Annotated[str | None, typer.Option(help="Freshness category of the answers that name none.")] = None,
) -> None:
    """Bring answers along; what has no answer is submitted in bulk, and its answer bought."""
    stack = running(home)
    with told():
        policy = load_policy(stack.policy or packaged_policy())
        load = warming.load(file, policy, tenant=tenant, category=category, now=datetime.now(UTC))
    if load.brought:
        run(_bring(stack.amqp_url, load.brought))
    refused = run(_buy_all(stack.http_url, load)) if load.to_buy else []
    submitted = sum(map(len, load.to_buy.values())) - len(refused)
    brought = cache_tables.number_of(len(load.brought), "answer", "answers")
    bought = cache_tables.number_of(submitted, "request", "requests")
    out.print(f"{brought} brought along, {bought} submitted", highlight=False)
    for message in refused[: warming.MOST_FAULTS]:
        err.print(f"[red]refused:[/red] {escape(message)}", highlight=False, soft_wrap=True)
    if refused:
        fail(f"{len(refused)} of the requests were refused")


async def _bring(url: str, events: Sequence[CacheWarm]) -> None:
    async with RabbitBroker(url, name="forebay cache warm") as broker:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await broker.wait_connected()
        except TimeoutError:
            raise BrokerUnavailable(f"{broker.address} does not answer") from None
        await publish(broker, events)


async def publish(broker: Broker, events: Sequence[CacheWarm]) -> None:
    """Publish answers and return when the broker has confirmed each."""
    for part in warming.batches(events, BATCH):
        now = datetime.now(UTC)
        await broker.publish(envelope.encode_all(part, source="warm", now=now))


async def _buy_all(url: str, load: warming.Load) -> list[str]:
    """Submit what has no answer; returns why some were refused."""
    places = asyncio.Semaphore(AT_ONCE)

    async def buy(client: HttpClient, body: dict[str, Any]) -> str | None:
        async with places:
            try:
                await client.submit(body, priority=Priority.BULK)
            except Refused as error:
                return str(error)
        return None

    refused: list[str] = []
    for tenant, bodies in load.to_buy.items():
        async with HttpClient(url, tenant=tenant) as client:
            work: list[Coroutine[Any, Any, str | None]] = [buy(client, body) for body in bodies]
            refused += filter(None, await asyncio.gather(*work))
    return refused


def _seconds(text: str) -> int:
    try:
        return int(str(seconds(int(text) if text.isdigit() else text)))
    except ValueError as error:
        fail(f"--older-than: {error}")


def _cache_url(home: Path) -> str:
    """Where the first replica of the cache answers."""
    stack = running(home)
    if "cache" not in stack.services:
        fail(f"this stack runs no cache; it runs {', '.join(stack.services) or 'nothing'}")
    return f"http://127.0.0.1:{stack.services['cache'].port}"

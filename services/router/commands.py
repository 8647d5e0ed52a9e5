"""``forebay router``: where a prompt would run, and what another policy would have changed.

The command line finds this by its entry point: ``shared`` imports no service. What the router itself needs is imported
when a command is run: every other command, also where only the command line is installed, goes without.
"""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from pydantic import ValidationError
from rich.markup import escape
from rich.table import Table

from services.router.learning import commands as learning
from shared.cli.options import HOME, TENANT, Home, Tenant, duration, err, fail, logs_apart, out, run, running, told
from shared.clock import SYSTEM_CLOCK
from shared.errors import InvalidRequest, StartupError
from shared.events import AUTO, Request, Route
from shared.faults import faults
from shared.policy import Policy, load_policy
from shared.settings import packaged_policy

if TYPE_CHECKING:
    from services.router.choice import Choice
    from services.router.decision import Refused
    from services.router.replay import Disagreement, Replayed
    from services.router.vectors import Embedding

PROMPT_CHARS: Final = 60

router = typer.Typer(help="Which tier a prompt gets, what another policy would change, what can be learned.")
PolicyFile = Annotated[Path | None, typer.Option("--policy", help="The policy file; default: the packaged one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    learning.add(router)
    app.add_typer(router, name="router", no_args_is_help=True)


@router.command()
def explain(
    prompt: Annotated[str, typer.Argument(help="The prompt.")],
    policy: PolicyFile = None,
    model: Annotated[str, typer.Option(help="auto, a tier, or a model of the policy.")] = AUTO,
    tenant: Tenant = TENANT,
    as_json: AsJson = False,
) -> None:
    """Show which tier a prompt would get under a policy, by its rules or its head and fixed thresholds, and why; and
    what the policy that it tries out would have done.
    """
    from services.router.decision import Refused
    from services.router.scoring import RULES

    rules = _policy(policy)
    request = _request(prompt, model, tenant)
    with told(), logs_apart():
        other = None if rules.router.shadow is None else load_policy(rules.router.shadow, named_by="router.shadow")
        embedding = _embedding(prompt, [rules] if other is None else [rules, other])
        try:
            route = _decided(rules, request, embedding)
        except KeyError:
            fail(f"the policy knows no model {model!r}; it has the tiers {', '.join(rules.tiers)}")
        try:
            would = None if other is None else _decided(other, request, embedding)
        except KeyError:
            would = Refused("an unknown model")
    if isinstance(route, Refused):
        fail(route.reason)
    if as_json:
        shadow = {} if would is None else {"shadow": _shown(would)}
        out.print_json(json.dumps(_shown(route) | shadow))
        return
    by = "" if route.scorer in (None, RULES) else f", scored by {route.scorer}"
    out.print(f"[bold]{route.tier}[/bold] ({escape(route.model)}){escape(by)}", highlight=False)
    _tell_reasons(route)
    if would is not None:
        verdict = (
            "would refuse it" if isinstance(would, Refused) else f"[bold]{would.tier}[/bold] ({escape(would.model)})"
        )
        out.print(f"tried out, {escape(str(rules.router.shadow))}: {verdict}", highlight=False, soft_wrap=True)
        _tell_reasons(would)


@router.command("replay")
def replay_command(
    policy: Annotated[Path, typer.Option("--policy", help="The policy to try.")],
    since: Annotated[str, typer.Option(help="How far back: 90m, 24h, 7d.")] = "24h",
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's requests.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The latest so many at the most.")] = 20_000,
    show: Annotated[int, typer.Option(min=0, help="Disagreements to show.")] = 10,
    dsn: Annotated[str | None, typer.Option(help="PostgreSQL; default: the local stack's.")] = None,
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Send stored requests through another policy: shares, cost, disagreements. Nothing is run and nothing changed."""
    from services.router.replay import replay, stored
    from shared import database

    rules = _policy(policy)
    now = datetime.now(UTC)
    back = duration(since, option="--since")
    with told(), logs_apart():
        choice = _choice(rules)
    address = dsn or running(home).postgres_dsn

    async def work() -> "Replayed":
        async with database.pool(address, size=1) as pool:
            rows = await stored(pool, now - back, now, tenant=tenant, limit=limit)
        return await asyncio.to_thread(replay, rows, rules, choice.score)

    with logs_apart():
        done = run(work())
    if as_json:
        out.print_json(json.dumps(_plain(done, show)))
    else:
        _tell(done, since, show)


def _choice(policy: Policy) -> "Choice":
    """Who scores by a policy; raises InvalidHead."""
    from services.router.choice import Choice
    from services.router.learning.reload import WatchedHead

    head = policy.router.head
    learned = None if head is None else WatchedHead(head, policy.cache.embedder, SYSTEM_CLOCK)
    return Choice(policy.router, learned)


def _decided(policy: Policy, request: Request, embedding: "Embedding | None") -> "Route | Refused":
    """What a policy decides where nothing has happened yet; raises InvalidHead, and KeyError for an unknown model."""
    from services.router.assembly import trial
    from services.router.health import Health
    from services.router.ledger import Ledger
    from shared.brownout import Brownout

    clock = SYSTEM_CLOCK
    ledger, health, brownout = Ledger(clock), Health(clock), Brownout(policy, clock)
    return trial(policy, _choice(policy).score, ledger, health, brownout, clock).decide(request, embedding)


def _embedding(prompt: str, policies: "Sequence[Policy]") -> "Embedding | None":
    """What the cache would send along with the prompt, where a head asks for it and it can be made here."""
    from services.router.vectors import Embedding

    heads = [policy.cache for policy in policies if policy.router.head is not None]
    if not heads or all(len(prompt) > cache.max_prompt_chars for cache in heads):
        return None
    if not all(cache.enabled and cache.embedder.builtin for cache in heads):
        err.print("scored without an embedding: only the built-in embedder can be asked here", highlight=False)
        return None
    try:
        from shared.embedding.builtin import Embedder

        embedder = Embedder()
    except (ImportError, StartupError) as error:
        err.print(f"scored without an embedding: {escape(str(error))}", highlight=False)
        return None
    (vector,) = asyncio.run(embedder.embed_each([prompt]))
    return None if vector is None else Embedding(vector, embedder.version)


def _shown(decided: "Route | Refused") -> dict[str, Any]:
    if isinstance(decided, Route):
        return decided.model_dump(mode="json")
    return {"tier": None, "reasons": [decided.reason]}


def _tell_reasons(decided: "Route | Refused") -> None:
    for reason in decided.reasons if isinstance(decided, Route) else (decided.reason,):
        out.print(f"  {escape(reason)}", highlight=False)


def _tell(done: "Replayed", since: str, show: int) -> None:
    if not done.requests:
        out.print(f"No request was run in the last {escape(since)}: nothing to replay.")
        return
    table = Table("tier", "was", "would be", box=None)
    for tier in sorted({*done.was, *done.would}):
        table.add_row(tier, _share(done.was[tier], done.requests), _share(done.would[tier], done.requests))
    out.print(f"[bold]{done.requests}[/bold] requests of the last {escape(since)}")
    out.print(table)
    out.print(f"cost {done.was_usd:.6f} → {done.would_usd:.6f} USD (estimated), {_change(done)}", highlight=False)
    if done.guessed:
        out.print(f"  of {done.guessed} nobody knows what they cost there: taken as it was", highlight=False)
    for was, would, count in done.moves():
        out.print(f"{count} from {was} to {would}", highlight=False)
    for each in done.disagreements[:show]:
        prompt = escape(" ".join(each.stored.request.prompt.split())[:PROMPT_CHARS])
        out.print(f"  {each.stored.tier} → [bold]{each.tier}[/bold]  {prompt}", highlight=False)
        out.print(f"      [dim]{escape('; '.join(each.reasons))}[/dim]", highlight=False)


def _plain(done: "Replayed", show: int) -> dict[str, Any]:
    return {
        "requests": done.requests,
        "was": dict(done.was),
        "would": dict(done.would),
        "was_usd": done.was_usd,
        "would_usd": done.would_usd,
        "guessed": done.guessed,
        "moves": [{"from": was, "to": would, "requests": count} for was, would, count in done.moves()],
        "disagreements": _disagreements(done.disagreements[:show]),
    }


def _disagreements(some: "Sequence[Disagreement]") -> list[dict[str, Any]]:
    return [
        {
            "id": str(each.stored.request.id),
            "prompt": each.stored.request.prompt,
            "was": each.stored.tier,
            "would": each.tier,
            "reasons": list(each.reasons),
        }
        for each in some
    ]


def _share(count: int, of: int) -> str:
    return f"{count} ({count / of:.1%})"


def _change(done: "Replayed") -> str:
    return f"{done.would_usd / done.was_usd - 1:+.0%}" if done.was_usd else "of nothing"


def _policy(path: Path | None) -> Policy:
    with told():
        return load_policy(path or packaged_policy())


def _request(prompt: str, model: str, tenant: str) -> Request:
    with told():
        if not prompt.strip():
            raise InvalidRequest("an empty prompt: nothing to route")
        now = datetime.now(UTC)
        fields = {"input": prompt, "model": model, "tenant": tenant, "id": "f" * 32, "accepted_at": now, "digest": "0"}
        try:
            return Request.model_validate(fields)
        except ValidationError as error:
            fault = faults(error)[0]
            raise InvalidRequest(f"{fault.path[0]}: {fault.message}") from None

"""``forebay policy check``: whether a service would start with a policy file, and what the file decides."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape
from rich.table import Table

from shared.cli.options import fail, out
from shared.errors import InvalidPolicy
from shared.policy import Policy, load_policy
from shared.policy.routing import RouterPolicy

MISTAKEN: Final = 2
UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "m"))

policy = typer.Typer(help="Policy files.")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(policy, name="policy", no_args_is_help=True)


@policy.callback()
def _group() -> None:
    """With one command alone, typer would leave its name out."""


@policy.command()
def check(file: Annotated[Path, typer.Argument(help="The policy file.")]) -> None:
    """Validate a policy file as a service does when it starts, and show what it decides; exits 2 for a mistake."""
    try:
        checked = load_policy(file)
        _check_files(checked.router)
    except InvalidPolicy as error:
        fail(str(error), code=MISTAKEN)
    table = Table.grid(padding=(0, 2))
    for name, said in _decides(checked):
        table.add_row(name, escape(said))
    out.print(f"[green]valid[/green]  {escape(str(file))}", highlight=False)
    out.print(table, highlight=False)


def _check_files(router: RouterPolicy) -> None:
    """Raise InvalidPolicy where a file that the policy names is missing, or is no policy itself."""
    if router.shadow is not None:
        try:
            load_policy(router.shadow)
        except InvalidPolicy as error:
            raise InvalidPolicy(f"router.shadow: {error}") from None
    if router.head is not None and not router.head.file.is_file():
        raise InvalidPolicy(f"router.head.file: {router.head.file}: no such file; `forebay router train` makes one")


def _decides(checked: Policy) -> Iterator[tuple[str, str]]:
    for name, tier in checked.tiers.items():
        price = checked.prices.get(tier.priced_model)
        costs = "" if price is None else f", {price.input:g} and {price.output:g} USD per million tokens"
        yield f"tier {name}", f"{tier.model}{costs}"
        if len(tier.lanes) > 1:
            for lane in sorted(tier.lanes, key=lambda each: each.order):
                key = f", key in {lane.api_key_env}" if lane.api_key_env else ""
                yield f"  lane {lane.name}", f"{lane.model}, order {lane.order}, weight {lane.weight:g}{key}"
        if tier.fall_back:
            yield "  falls back on", tier.fall_back
    yield from _routing(checked.router)
    cache = checked.cache
    if cache.enabled:
        audits = f"audits {cache.audit.share:.0%} of hits" if cache.audit.enabled else "no audits"
        yield "cache", f"similarity from {cache.threshold:g}, embedder {cache.embedder.model}, {audits}"
    else:
        yield "cache", "off"
    default = checked.freshness.default
    for name, category in checked.freshness.categories.items():
        yield f"freshness {name}", f"{_duration(category.ttl)}{', the default' if name == default else ''}"
    trends = checked.trends
    yield "trends", f"from {trends.ratio:g} times the usual share" if trends.enabled else "off"


def _routing(router: RouterPolicy) -> Iterator[tuple[str, str]]:
    yield "routing", f"{' < '.join(router.ladder)}; without a signal {router.default}"
    for tier in router.upper:
        share = f"{router.shares[tier]:.1%} of requests, until then " if router.shares else ""
        yield f"  to {tier}", f"{share}from {router.thresholds[tier]:+g}"
    if router.usd_per_day is not None:
        yield "  budget", f"{router.usd_per_day:g} USD a day"
    if router.tenants:
        yield "  limits of", ", ".join(router.tenants)
    if router.head is not None:
        own = "its own" if router.head.threshold is None else f"{router.head.threshold:+g}"
        yield "  head", f"{router.head.file}, threshold {own}"
    if router.shadow is not None:
        yield "  shadow", f"{router.shadow}, valid"


def _duration(seconds: int) -> str:
    for size, unit in UNITS:
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s" if seconds else "never kept"

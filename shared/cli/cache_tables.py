"""What the cache says of itself, as tables; what a version of it does not tell is left out."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from rich.markup import escape
from rich.table import Table

from shared.cli.options import out

COLOURS: Final = {"exact": "green", "semantic": "green", "in_flight": "cyan", "bypass": "yellow", "miss": "red"}
PROMPT_CHARS: Final = 60
_MIB: Final = 2**20
_SPANS: Final = (("d", 86_400), ("h", 3600), ("m", 60))

Shown = Mapping[str, Any]
Column = tuple[str, str, Callable[[Any], str]]


def stats(shown: Shown) -> None:
    """How the cache does."""
    front = shown.get("front") or {}
    entries = number_of(shown.get("entries"), "entry", "entries")
    _say(
        f"[bold]{entries}[/bold], {_size(shown.get('bytes'))} in PostgreSQL; "
        f"{_count(front.get('entries'))}, {_size(front.get('bytes'))}, in the memory of this replica"
    )
    _table(
        shown.get("by_category"),
        ("category", "category", _text),
        ("entries", "entries", _count),
        ("hits", "hits", _count),
        ("saved", "saved_usd", _dollars),
    )
    _table(
        shown.get("by_tenant"),
        ("tenant", "tenant", _text),
        ("entries", "entries", _count),
        ("hits", "hits", _count),
        ("saved", "saved_usd", _dollars),
    )
    if lookups := shown.get("lookups"):
        _say(
            "\n[bold]lookups[/bold]  " + "  ".join(f"{escape(name)} {_count(count)}" for name, count in lookups.items())
        )
    if audits := shown.get("audits"):
        _audits(audits)


def _audits(audits: Shown) -> None:
    parts = [f"{_count(audits.get('seen'))} seen, {_count(audits.get('served_wrong'))} wrong ones served"]
    if audits.get("seen") and audits.get("false_hit_rate") is not None:
        rate = f"false hits {audits['false_hit_rate']:.2%}"
        if audits.get("low") is not None and audits.get("high") is not None:
            rate += f" ({audits['low']:.2%} to {audits['high']:.2%})"
        parts.append(rate)
    if audits.get("threshold") is not None:
        parts.append(f"threshold {_number(audits['threshold'])}")
    if audits.get("exact_only"):
        owners = _count(audits["exact_only"])
        parts.append(f"[yellow]too often wrong: {owners} tenants or pools are served equal prompts only[/yellow]")
    _say("[bold]audits[/bold]  " + "; ".join(parts))


def lookup(shown: Shown, *, explain: bool) -> None:
    """What the cache would answer, and why."""
    verdict = shown.get("verdict") or {}
    tier = verdict.get("tier") or "unknown"
    facts = [f"[{COLOURS.get(tier, 'white')}]{escape(tier)}[/]", escape(verdict.get("reason") or "")]
    for name, text in (("similarity", _number), ("risk", _number)):
        if verdict.get(name) is not None:
            facts.append(f"{name} {text(verdict[name])}")
    if verdict.get("age_s") is not None:
        facts.append(f"{_span(verdict['age_s'])} old")
    _say("  ·  ".join(filter(None, facts)))
    if shown.get("answer"):
        out.print(shown["answer"], highlight=False, markup=False, soft_wrap=True)
    if not explain:
        return
    _table(
        shown.get("candidates"),
        ("prompt", "prompt", _cut),
        ("similar", "similarity", _number),
        ("risk", "risk", _number),
        ("reason", "reason", _text),
        ("age", "age_s", _span),
        ("left", "expires_in_s", _span),
        ("category", "category", _text),
        ("hits", "hits", _count),
        ("good", "good", _count),
        ("bad", "bad", _count),
    )
    for number, candidate in enumerate(shown.get("candidates") or (), start=1):
        _say(f"[dim]entry {number}[/dim]  {_text(candidate.get('entry_id'))}  {_text(candidate.get('model'))}")
        if why := candidate.get("freshness"):
            _say(f"[dim]  {_text(candidate.get('category'))} because of[/dim] {_text(why)}")
    known = [] if shown.get("threshold") is None else [f"threshold {_number(shown['threshold'])}"]
    known += [f"{name} {_text(value)}" for name, value in (shown.get("key") or {}).items()]
    _say(f"[dim]{'  ·  '.join(known)}[/dim]")


def forgotten(shown: Shown) -> None:
    """The entries that go, or would."""
    if shown.get("entries") is None:
        _say("[yellow]how many entries that are can't be told now: PostgreSQL is away[/yellow]")
        return
    number, oldest, newest = shown["entries"], shown.get("oldest"), shown.get("newest")
    between = f", stored from {_when(oldest)} to {_when(newest)} UTC" if oldest and newest else ""
    _say(f"[bold]{number_of(number, 'entry', 'entries')}[/bold]{between}")
    _table(
        shown.get("examples"),
        ("prompt", "prompt", _cut),
        ("model", "model", _text),
        ("category", "category", _text),
        ("stored (UTC)", "stored_at", _when),
        ("hits", "hits", _count),
        ("entry", "entry_id", _id),
    )


def served(shown: Shown) -> None:
    """Who else was given an answer that was wrong."""
    _say(f"entry {_text(shown.get('entry_id'))} is on its way out")
    requests = shown.get("served")
    if requests is None:
        _say("[yellow]who else was served it can't be told now; say it again later[/yellow]")
        return
    _table(requests, ("request", "request_id", _id), ("at (UTC)", "at", _when), ("similar", "similarity", _number))
    others = f", {_count(shown['others'])} of other tenants" if shown.get("others") else ""
    _say(f"{number_of(len(requests), 'request', 'requests')} of this tenant{others} had its answer")


def _table(rows: Iterable[Shown] | None, *columns: Column) -> None:
    """A table of the columns that any row has."""
    rows = list(rows or ())
    present = [column for column in columns if any(row.get(column[1]) is not None for row in rows)]
    if not present:
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title, _, text in present:
        right = text in (_count, _number, _dollars, _span)
        table.add_column(title, justify="right" if right else "left", no_wrap=right or text in (_id, _when))
    for row in rows:
        table.add_row(*(text(row.get(key)) for _, key, text in present))
    out.print(table)


def number_of(count: int | None, one: str, many: str) -> str:
    """A count with its noun."""
    return f"{'?' if count is None else _count(count)} {one if count == 1 else many}"


def _say(line: str) -> None:
    out.print(line, highlight=False, soft_wrap=True)


def _text(value: Any) -> str:
    return "" if value is None else escape(str(value))


def _id(value: Any) -> str:
    return _text(value)


def _when(value: Any) -> str:
    """An RFC 3339 time in UTC, to the minute."""
    try:
        return f"{datetime.fromisoformat(str(value)).astimezone(UTC):%Y-%m-%d %H:%M}"
    except ValueError:
        return _text(value)


def _cut(value: Any) -> str:
    text = " ".join(str(value or "").split())
    return escape(text if len(text) <= PROMPT_CHARS else text[: PROMPT_CHARS - 1] + "…")


def _count(value: Any) -> str:
    return "" if value is None else f"{value:,}"


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.3f}"


def _dollars(value: Any) -> str:
    return "" if value is None else f"${value:.6f}"


def _size(value: Any) -> str:
    return "? MiB" if value is None else f"{value / _MIB:,.1f} MiB"


def _span(value: Any) -> str:
    """Seconds in the largest unit that fits; negative for what is over."""
    if value is None:
        return ""
    for unit, seconds in _SPANS:
        if abs(value) >= seconds:
            return f"{round(value / seconds, 1):g} {unit}"
    return f"{value:.0f} s"

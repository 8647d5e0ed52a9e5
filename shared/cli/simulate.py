"""``forebay simulate``: a simulated provider on loopback, to see what a limit, an outage or garbage does."""

import asyncio
import signal
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from shared.cli.options import err, out, run, told

if TYPE_CHECKING:
    from infra.simulator.counts import Counts
    from infra.simulator.scenario import Scenario


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(simulate)


def simulate(
    scenario: Annotated[str, typer.Option(help="A scenario that ships, by name, or a TOML file.")] = "steady",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    seed: Annotated[int | None, typer.Option(help="Draw other latencies and faults than the scenario's seed.")] = None,
    time_scale: Annotated[
        float | None, typer.Option(help="Simulated seconds in a second, in place of the scenario's.")
    ] = None,
) -> None:
    """Run a SIMULATED provider (the OpenAI protocol, answers of no meaning) until Ctrl-C, then tell what it saw."""
    from infra.simulator.scenario import changed, load_scenario

    with told():
        given = {"seed": seed, "time_scale": time_scale}
        played = changed(load_scenario(scenario), {name: value for name, value in given.items() if value is not None})
    counts = run(_serve(played, scenario, port))
    _tell(counts)


async def _serve(scenario: "Scenario", name: str, port: int) -> "Counts":
    """Serve until a signal, and give what was seen."""
    from infra.simulator.engine import Simulator
    from infra.simulator.server import serving

    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    simulator = Simulator(scenario)
    async with serving(simulator, port=port) as address:
        out.print(f"[green]simulating[/green]  {escape(name)}  at  {address}/v1", highlight=False, soft_wrap=True)
        for line in _directions(address):
            err.print(f"[dim]{line}[/dim]", highlight=False, soft_wrap=True)
        await stopping.wait()
    return simulator.counts


def _directions(address: str) -> tuple[str, ...]:
    return (
        "Point a tier of the policy at it, each API key being a lane of its own:",
        f'  model = "openai/simulated", and OPENAI_BASE_URL={address}/v1 OPENAI_API_KEY=one forebay up --policy FILE',
        f'  model = "local/simulated", and FOREBAY_LOCAL_MODEL_URL={address}/v1 forebay serve inference',
        f"Steer it: {address}/control/scenario (PUT, PATCH), /faults, /reset; look: /counts, /state. Ctrl-C stops it.",
    )


def _tell(counts: "Counts") -> None:
    from infra.simulator.counts import bought_twice

    if not counts.keys:
        out.print("nobody called")
        return
    table = Table("key", "calls", "useful", "refused", "faults", "left", "tokens", "peak/s", box=None)
    for key, tally in counts.keys.items():
        table.add_row(
            escape(key),
            str(tally.calls),
            str(tally.useful),
            _by_reason(tally.refused),
            _by_reason(tally.faults),
            str(tally.abandoned),
            f"{tally.input_tokens} + {tally.output_tokens}",
            str(tally.peak_per_s),
        )
    out.print(table)
    if twice := bought_twice(counts.prompts):
        out.print(f"{len(twice)} prompts were answered more than once")


def _by_reason(counted: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted(counted.items())) or "0"

"""How a bench tells its measures: a table for people, one closing line of JSON for machines."""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure.

    Attributes:
        value: not a number where it did not come to it; null in JSON.
        goal: what it should be, as in ``<= 1 %``; empty where there is no goal.
        anchor: the same figure of something well known, measured in the same run.
        anchor_name: what that something is.
    """

    name: str
    value: float
    unit: str
    goal: str = ""
    anchor: float | None = None
    anchor_name: str | None = None


def report(bench: str, measures: Sequence[Measure], title: str) -> None:
    """Print the measures; the last line of the output is JSON."""
    table = Table(title=title, title_justify="left")
    for heading in ("measure", "value", "unit", "goal", "anchor", "anchored to"):
        table.add_column(heading, justify="right" if heading in {"value", "anchor"} else "left")
    for measure in measures:
        anchor = "" if measure.anchor is None else _shown(measure.anchor)
        table.add_row(
            measure.name, _shown(measure.value), measure.unit, measure.goal, anchor, measure.anchor_name or ""
        )
    width = None if sys.stdout.isatty() else 140
    Console(width=width).print(table)
    tell(bench, measures)


def tell(bench: str, measures: Sequence[Measure]) -> None:
    """Print the closing line of JSON alone, for a bench with a table of its own."""
    line = json.dumps({"bench": bench, "measures": [_told(measure) for measure in measures]}, allow_nan=False)
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _shown(figure: float) -> str:
    return "never" if math.isnan(figure) else f"{figure:.4g}"


def _told(measure: Measure) -> dict[str, object]:
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in asdict(measure).items()
    }

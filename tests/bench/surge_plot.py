"""Draws a surge: a row for each design, with what became of its requests, how soon they were taken, and what it wrote.

Matplotlib is none of the project's own dependencies: see infra/requirements/bench.txt.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# From good to bad: what a request met, and its colour.
FATES: Final = {
    "in time": ("answered while its client waited", "#1f6fb2"),
    "late": ("answered later", "#8fbbe0"),
    "shed": ("refused (429, 503)", "#e0a030"),
    "failed": ("failed", "#b3362b"),
}
INK: Final = "#333333"
SURGE: Final = "#eef1f3"
HEADINGS: Final = (
    "requests a second, by when they were sent",
    "time until taken (202, or the answer)",
    "write transactions a second at PostgreSQL",
)
# Of a logarithmic axis: from a millisecond to half a minute.
SHOWN_MS: Final = (1, 30_000)
# Seconds that are shown before the surge, and after the load's end.
BEFORE_S: Final = 30
AFTER_S: Final = 50


def fates(axes: Axes, run: Mapping[str, Any], top: float) -> None:
    """What became of the requests, stacked."""
    below = np.zeros(len(run["fates"]["in time"]))
    at = np.arange(len(below)) - run["course"]["surge_s"] + 0.5
    for fate, (_, colour) in FATES.items():
        counted = np.array(run["fates"][fate], dtype=float)
        axes.bar(at, counted, bottom=below, width=1.0, color=colour, lw=0)
        below += counted
    axes.set_ylim(0, top)


def latencies(axes: Axes, run: Mapping[str, Any]) -> None:
    """How long each request took to be taken."""
    taken = np.array(run["accept_ms"])
    axes.scatter(taken[:, 0] - run["course"]["surge_s"], taken[:, 1], s=2.5, color=FATES["in time"][1], lw=0, alpha=0.6)
    axes.set_yscale("log")
    axes.set_ylim(*SHOWN_MS)
    axes.set_yticks([1, 10, 100, 1000, 10_000], ["1 ms", "10 ms", "0.1 s", "1 s", "10 s"])
    axes.minorticks_off()


def writes(axes: Axes, run: Mapping[str, Any], top: float) -> None:
    """What PostgreSQL was made to write."""
    axes.set_ylim(0, top)
    if run["writes"] is None:
        axes.text(0.5, 0.5, "without a database here", transform=axes.transAxes, ha="center", fontsize=8, color=INK)
        return
    at = np.arange(len(run["writes"])) - run["course"]["surge_s"]
    axes.step(at, run["writes"], where="post", color=FATES["in time"][1], lw=1.2)


def picture(runs: Sequence[Mapping[str, Any]]) -> Figure:
    """All of them; time counts from the beginning of the surge."""
    figure = Figure(figsize=(10.5, 1.55 * len(runs) + 1.1), dpi=110, layout="constrained")
    grid = figure.subplots(len(runs), len(HEADINGS), sharex=True, squeeze=False)
    course = runs[0]["course"]
    most_sent = 1.1 * max(sum(fates) for run in runs for fates in zip(*run["fates"].values(), strict=True))
    most_written = 1.1 * max((max(run["writes"]) for run in runs if run["writes"]), default=1.0)
    for row, run in zip(grid, runs, strict=True):
        fates(row[0], run, most_sent)
        latencies(row[1], run)
        writes(row[2], run, most_written)
        row[0].set_title(run["title"], loc="left", fontsize=10, color=INK, fontweight="bold")
    for axes in grid.flat:
        axes.axvspan(0, course["calm_s"] - course["surge_s"], color=SURGE, lw=0, zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8, colors=INK)
        axes.set_axisbelow(True)
    for axes, heading in zip(grid[0], HEADINGS, strict=True):
        axes.annotate(heading, (0, 1.25), xycoords="axes fraction", fontsize=9, color=INK)
    for axes in grid[-1]:
        axes.set_xlabel("seconds since the surge began", fontsize=8, color=INK)
    grid[0, 0].set_xlim(-BEFORE_S, course["end_s"] - course["surge_s"] + AFTER_S)
    handles = [mpl.patches.Patch(color=colour, label=label) for label, colour in FATES.values()]
    handles.append(mpl.patches.Patch(color=SURGE, label=f"{course['factor']} times the users"))
    figure.legend(handles=handles, loc="outside upper center", ncols=5, frameon=False, fontsize=9)
    return figure


if __name__ == "__main__":
    picture(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))).savefig(sys.argv[2])

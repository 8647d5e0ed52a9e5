"""Draws what ``limits.py`` saw over time: calls per second, sent and useful, beside the limit; a panel per strategy.

Matplotlib is none of the project's own dependencies: see infra/requirements/bench.txt.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

SENT: Final = "#d9822b"
USEFUL: Final = "#1f6fb2"
LIMIT: Final = "#333333"
OUTAGE: Final = "#eceff1"
# Of the limit: what a panel shows; calls beyond it are told as a number.
SHOWN: Final = 2.5
# At the end calls are broken off.
UNFINISHED_S: Final = 2
INK: Final = "#333333"


def per_second(run: Mapping[str, Any], what: str) -> Any:
    """Calls of each whole second; the last ones would look as if they had been in vain."""
    seconds = np.zeros(int(run["course"]["end_s"]) - UNFINISHED_S)
    for each in run["slices"]:
        second = int(each["at_s"] + 1e-6)
        if second < len(seconds):
            seconds[second] += each[what]
    return seconds


def panel(axes: Axes, run: Mapping[str, Any]) -> None:
    """One strategy."""
    course, sent, useful = run["course"], per_second(run, "calls"), per_second(run, "useful")
    at, top = np.arange(len(sent)) + 0.5, SHOWN * course["per_s"]
    axes.axvspan(course["outage_s"], course["back_s"], color=OUTAGE, lw=0)
    axes.fill_between(at, np.minimum(sent, top), step="mid", color=SENT, alpha=0.35, lw=0)
    axes.fill_between(at, useful, step="mid", color=USEFUL, alpha=0.75, lw=0)
    steps = [0, course["doubled_s"], course["end_s"]]
    axes.step(steps, [course["per_s"] / 2, course["per_s"], course["per_s"]], where="post", color=LIMIT, lw=1.2)
    axes.set_title(run["name"], loc="left", fontsize=10, color=INK, fontweight="bold")
    peak = int(sent.max())
    if peak > top:
        axes.text(0.99, 0.93, f"cut off; up to {peak:,} a second", transform=axes.transAxes, **_note("right"))
    axes.set_ylim(0, top)
    axes.set_yticks([0, course["per_s"], 2 * course["per_s"]])


def _note(side: str) -> dict[str, Any]:
    return {"ha": side, "va": "top", "fontsize": 8, "color": INK}


def picture(runs: list[Mapping[str, Any]]) -> Figure:
    """All of them, two in a row."""
    rows = -(-len(runs) // 2)
    figure = Figure(figsize=(9.2, 1.75 * rows + 0.75), dpi=110, layout="constrained")
    grid = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False)
    for axes, run in zip(grid.flat, runs, strict=False):
        panel(axes, run)
    for axes in grid.flat[len(runs) :]:
        axes.set_visible(False)
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8, colors=INK)
    course = max((run["course"] for run in runs), key=lambda each: each["end_s"])
    first = grid[0, 0]
    first.set_xlim(0, course["end_s"] - UNFINISHED_S)
    middle = (course["outage_s"] + course["back_s"]) / 2
    first.text(course["doubled_s"] + 1, 1.32 * course["per_s"], "the limit doubles", **_note("left"))
    first.text(middle, 0.93 * SHOWN * course["per_s"], "outage", **(_note("center") | {"color": "#78909c"}))
    for axes in list(grid.flat[: len(runs)])[-2:]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("seconds", fontsize=8, color=INK)
    for axes in grid[:, 0]:
        axes.set_ylabel("calls a second", fontsize=8, color=INK)
    handles = [
        mpl.patches.Patch(color=USEFUL, alpha=0.75, label="useful answers"),
        mpl.patches.Patch(color=SENT, alpha=0.35, label="sent in vain (refused or broken off)"),
        mpl.lines.Line2D([], [], color=LIMIT, lw=1.2, label="the provider's limit"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    return figure


if __name__ == "__main__":
    picture(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))).savefig(sys.argv[2])

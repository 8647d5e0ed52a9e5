"""25 times the users in a moment: ``make bench-surge``; QUICK=1 for a short run of the monolith and Forebay.

The same requests at the same moments, to each design in turn: what people run (a synchronous web application,
LiteLLM's proxy, Celery) and Forebay, on this machine, with one simulated provider and one PostgreSQL. What clients
were told is what counts.
"""

import argparse
import asyncio
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import asyncpg
import psutil
from rich.console import Console
from rich.table import Table

from tests.bench import surge_clients
from tests.bench.limit_provider import Provider
from tests.bench.report import Measure, tell
from tests.bench.surge_clients import Entry, Task
from tests.bench.surge_course import QUICK, Asked, Course
from tests.bench.surge_designs import DESIGNS, PROXY_KEY, Design, Place, Running, database, infrastructure, virtual_host
from tests.bench.surge_figures import FIGURES, End, Outcome, Prices, per_second
from tests.bench.surge_watch import watching

SEED: Final = 20261125
QUICKLY: Final = ("monolith", "forebay")
# A process answers its first request in seconds: litellm gets ready, connections are made.
WARMING: Final = 8
LEAD_S: Final = 3.0
# The writer's tick, and what stands before the disk.
WRITTEN_AFTER_S: Final = 5.0
KEY: Final = "bench"
OURS: Final = "forebay"


async def run_one(design: Design, place: Place, course: Course, seed: int) -> Outcome:
    """One design, from its start to its end."""
    dsn = await database(place.stack.postgres_dsn, design.database, migrated=design.migrated)
    amqp_url = await asyncio.to_thread(virtual_host, place.stack, design.name)
    asked = course.asked(seed)
    with design.start(place, dsn, amqp_url) as running:
        await _warm(design, running, place.provider)
        place.provider.play(course.scenario())
        begin_s = time.monotonic() + LEAD_S
        groups = {"design": running.processes, **_infrastructure(place)}
        async with watching(place.stack.postgres_dsn, design.database, groups, begin_s) as seen:
            log = await _clients(design, running, course, asked, begin_s, course.end_s + course.drained_within_s)
            await asyncio.sleep(WRITTEN_AFTER_S)
        rows = None if running.rows is None else await _rows(dsn, running.rows, begin_s)
        counts = place.provider.counts()["keys"][KEY]
    return Outcome(design.name, design.title, design.queued, course, asked, log, seen, rows, counts, Prices.listed())


def _infrastructure(place: Place) -> dict[str, list[psutil.Process]]:
    programs = place.stack.infrastructure
    return {name: [psutil.Process(programs[name].pid)] for name in ("rabbitmq", "postgres")}


async def _without_autovacuum(dsn: str) -> None:
    """Its own transactions would be counted with those of the designs."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("ALTER SYSTEM SET autovacuum = off")
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()


async def _warm(design: Design, running: Running, provider: Provider) -> None:
    provider.play({})
    asked = [Asked(0.05 * number, "warm", f"Warm-up {number}.", f"{number}") for number in range(WARMING)]
    log = await _clients(design, running, Course(patience_s=60), asked, time.monotonic() + LEAD_S, 60)
    if missing := [entry for entry in log if entry.text is None]:
        raise RuntimeError(f"{design.title} does not answer: {missing[0]}")


async def _clients(
    design: Design, running: Running, course: Course, asked: Sequence[Asked], begin_s: float, until_s: float
) -> list[Entry]:
    task = Task(design.protocol, running.url, PROXY_KEY, begin_s, until_s, course.patience_s, asked)
    command = [sys.executable, "-P", "-m", surge_clients.__name__]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await process.communicate(json.dumps(asdict(task)).encode())
    if process.returncode:
        raise RuntimeError("the clients have failed")
    return [Entry(**entry) for entry in json.loads(told)]


async def _rows(dsn: str, query: str, begin_s: float) -> dict[str, End]:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(query)
    finally:
        await connection.close()
    began = time.time() - (time.monotonic() - begin_s)
    return {row["id"]: End(row["status"], row["at"].timestamp() - began) for row in rows}


def series(outcome: Outcome) -> dict[str, Any]:
    """What a plot needs of one design; by second since the load has begun."""
    course = outcome.course
    writes = None
    if outcome.rows is not None:
        last_s = math.floor(outcome.seen.database[-1][0])
        writes = [outcome.seen.writes_per_s(at_s, at_s + 1) for at_s in range(last_s)]
    return {
        "name": outcome.name,
        "title": outcome.title,
        "course": asdict(course),
        "fates": {fate: per_second(moments, course.end_s) for fate, moments in outcome.fates().items()},
        "accept_ms": [(e.sent_s, 1000 * (e.told_s - e.sent_s)) for e in outcome.accepted() if e.told_s],
        "writes": writes,
        "figures": {figure.name: _told(figure.of(outcome)) for figure in FIGURES},
    }


def measures(outcomes: Sequence[Outcome]) -> list[Measure]:
    """All figures of all designs; those of Forebay have goals."""
    return [
        Measure(
            f"{one.title}: {figure.name}",
            figure.of(one),
            figure.unit,
            figure.goal if one.name.startswith(OURS) else "",
        )
        for one in outcomes
        for figure in FIGURES
    ]


def table(outcomes: Sequence[Outcome], title: str) -> Table:
    """All figures, a column for each design."""
    shown = Table(title=title, title_justify="left")
    for heading in ("", "goal", *(one.title for one in outcomes)):
        shown.add_column(heading, justify="left" if heading in {"", "goal"} else "right")
    for figure in FIGURES:
        unit = f", {figure.unit}" if figure.unit else ""
        shown.add_row(f"{figure.name}{unit}", figure.goal, *(_shown(figure.of(one)) for one in outcomes))
    return shown


async def run(chosen: Sequence[Design], course: Course, seed: int, file: Path, packages: Path, proxy: Path) -> None:
    """All of them, one after the other."""
    outcomes: list[Outcome] = []
    with infrastructure() as stack, Provider.running() as provider:
        await _without_autovacuum(stack.postgres_dsn)
        place = Place(stack, provider, packages.resolve(), proxy.resolve())
        for design in chosen:
            _say(design.title)
            outcomes.append(await run_one(design, place, course, seed))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps([series(one) for one in outcomes]), encoding="utf-8")
    title = (
        f"{course.users} users, {course.factor} times as many for {course.calm_s - course.surge_s:g} s, who ask every "
        f"{course.pause_s:g} s; a SIMULATED provider, {course.time_scale:g} times as fast as real: 3 to 30 of its "
        f"seconds for an answer, {course.calls_per_s:g} calls in a second of ours; seed {seed}"
    )
    Console(width=None if sys.stdout.isatty() else 170).print(table(outcomes, title))
    tell("surge", measures(outcomes))


def _told(figure: float) -> float | None:
    return None if math.isnan(figure) else figure


def _shown(figure: float) -> str:
    return (
        "–" if math.isnan(figure) else f"{figure:,.0f}" if figure >= 1000 or figure == int(figure) else f"{figure:.3g}"
    )


def _say(what: str) -> None:
    sys.stdout.write(f"{what} …\n")
    sys.stdout.flush()


def main() -> None:
    """Read the command line."""
    names = {design.name: design for design in DESIGNS}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a shorter course, of the monolith and Forebay alone")
    parser.add_argument("--only", nargs="+", choices=names, help="these designs and no others")
    parser.add_argument("--seed", type=int, default=SEED, help="of the load")
    parser.add_argument("--series", type=Path, default=Path("build/surge.json"), help="file for what a plot needs")
    parser.add_argument("--packages", type=Path, default=Path("build/bench/packages"), help="folder with Celery")
    parser.add_argument("--proxy", type=Path, default=Path("build/bench/proxy"), help="folder with LiteLLM's proxy")
    told = parser.parse_args()
    chosen = [names[name] for name in told.only or (QUICKLY if told.quick else names)]
    course = QUICK if told.quick else Course()
    asyncio.run(run(chosen, course, told.seed, told.series, told.packages, told.proxy))


if __name__ == "__main__":
    main()

"""How calls keep to a provider's limit: ``make bench-limits``; QUICK=1 for a short run without the others.

One provider, simulated, in a process of its own, and 50 workers in three processes: Forebay's inference, as it runs
anywhere, with RabbitMQ and PostgreSQL; then what people write around litellm. What the provider saw is what counts.
"""

import argparse
import asyncio
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Final, Self

import psutil

from infra.local.stack import Stack
from tests.bench import limit_callers
from tests.bench.cpu import cpu_s
from tests.bench.limit_overhead import Overhead, overhead
from tests.bench.limit_provider import Course, Provider, Seen
from tests.bench.limit_replicas import REPLICAS, WORKERS, Replicas, lane, shares, stack
from tests.bench.report import Measure, report

QUICK: Final = Course(doubled_s=4, steady_s=16, outage_s=26, back_s=31, end_s=41)
# Who never waits meets the end of a short outage as that of a long one, and keeps two cores busy meanwhile.
IMPATIENT: Final = Course(back_s=72, end_s=82)
TOLD: Final = {"ratelimit": True, "retry_after": True}
# By the name of a run: what the provider's headers tell.
HEADERS: Final[Mapping[str, Mapping[str, bool]]] = {
    "headers": TOLD,
    "blind": {"ratelimit": False, "retry_after": True},
    "silent": {"ratelimit": False, "retry_after": False},
}
SHOWN: Final = {
    "headers": "Forebay, limits in headers",
    "blind": "Forebay, blind: Retry-After alone",
    "silent": "Forebay, no header at all",
    "litellm": "litellm num_retries=8",
    "at-once": "retry at once",
    "stamina": "stamina's defaults",
}
USUALLY: Final = ("headers", "blind", "litellm", "at-once", "stamina")
QUICKLY: Final = ("headers", "blind")
# The patient ones leave the machine idle enough for two of them, each with a provider of its own.
TOGETHER: Final = (("litellm", "stamina"), ("at-once",))
THEIRS: Final = {"at-once": IMPATIENT}
IN_FLIGHT: Final = 100
FALL_BACK: Final = 400
NAP_S: Final = 0.02
# Twenty seconds, on a machine with nothing else to do.
WITHIN_S: Final = 400


@dataclass(frozen=True, slots=True)
class Followed:
    """How the machine did in steady overload.

    Attributes:
        cpu_s: that the callers' processes took.
        late_ms: by which a process that does nothing else woke up too late, the median: with a machine of its own less
            than 1.
    """

    cpu_s: float
    late_ms: float


@dataclass(frozen=True, slots=True)
class Run:
    """One strategy from its beginning to its end.

    Attributes:
        cpu_ms: of the callers' processes for each useful call, in steady overload.
        late_ms: by which a process that does nothing else woke up too late meanwhile, the median.
        failed: requests without an answer, over the whole course.
    """

    name: str
    seen: Seen
    cpu_ms: float
    late_ms: float
    failed: int

    @classmethod
    def of(cls, name: str, seen: Seen, followed: Followed, failed: int) -> Self:
        """From what was seen and watched."""
        return cls(name, seen, 1000 * followed.cpu_s / max(1, seen.useful_in_steady), followed.late_ms, failed)


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of a run."""

    name: str
    unit: str
    goal: str
    of: Callable[[Run], float]


ROWS: Final = (
    Row("useful calls / limit", "", ">= 0.97", lambda run: run.seen.used),
    Row("refused / all calls", "%", "<= 1", lambda run: 100 * run.seen.refused),
    Row("most calls in 1 s after the outage / limit", "", "<= 1.1", lambda run: run.seen.peak),
    Row("limit used after the outage", "s", "", lambda run: run.seen.back_in_use_s),
    Row("limit that doubled used", "s", "<= 30", lambda run: run.seen.doubled_in_use_s),
    Row("requests that failed, over all", "", "", lambda run: run.failed),
    Row("the machine woke a sleeper late by", "ms", "", lambda run: run.late_ms),
    Row("CPU of the callers / useful call", "ms", "", lambda run: run.cpu_ms),
)


async def replicas(at: Stack, name: str, course: Course) -> Run:
    """Forebay."""
    with Provider.running() as provider:
        async with Replicas.running(at, name, [lane("provider", provider.url)]) as ours:
            provider.play({})
            await ours.ask(WORKERS)  # the first call of a process takes seconds: litellm gets ready
            await ours.finished(WORKERS)
            provider.play(course.scenario(HEADERS[name]))
            following = asyncio.create_task(_follow(course, ours.processes))
            await ours.ask(math.ceil(course.per_s * course.end_s * 1.2))
            followed = await following
            return Run.of(name, Seen.of(course, provider.counts()), followed, ours.failed)


async def callers(courses: Mapping[str, Course]) -> list[Run]:
    """What people write: some strategies at the same time, each with a provider of its own."""
    with ExitStack() as started:
        providers = {name: started.enter_context(Provider.running()) for name in courses}
        # All of them before the first begins: waiting for a process holds up everything here.
        programs = {name: started.enter_context(_programs(name, providers[name].url)) for name in courses}
        return await asyncio.gather(
            *(_called(name, course, providers[name], programs[name]) for name, course in courses.items())
        )


async def _called(name: str, course: Course, provider: Provider, programs: Sequence[psutil.Popen]) -> Run:
    provider.play(course.scenario(TOLD))
    for program in programs:
        program.stdin.write("go\n")
        program.stdin.flush()
    followed = await _follow(course, programs)
    seen = Seen.of(course, provider.counts())
    given_up = sum(int(program.communicate()[0].split()[-1]) for program in programs)
    return Run.of(name, seen, followed, given_up)


@contextmanager
def _programs(name: str, url: str) -> Iterator[list[psutil.Popen]]:
    """Processes that are ready to call."""
    programs = [
        psutil.Popen(
            [sys.executable, "-P", "-m", limit_callers.__name__, name, url, str(workers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for workers in shares(WORKERS, REPLICAS)
    ]
    try:
        for program in programs:
            if program.stdout.readline().strip() != limit_callers.READY:
                raise RuntimeError(f"{name}: a process did not start")
        yield programs
    finally:
        for program in programs:
            if program.poll() is None:
                program.kill()
            program.wait()


async def _follow(course: Course, processes: Sequence[psutil.Popen]) -> Followed:
    """Let the course run to its end, and watch the machine in steady overload."""
    began_s = time.monotonic()
    await asyncio.sleep(course.steady_s)
    before, late_ms = cpu_s(processes), []
    while (now_s := time.monotonic()) < began_s + course.outage_s:
        await asyncio.sleep(NAP_S)
        late_ms.append(1000 * (time.monotonic() - now_s - NAP_S))
    took = cpu_s(processes) - before
    await asyncio.sleep(began_s + course.end_s - time.monotonic())
    return Followed(took, median(late_ms))


async def fall_back(at: Stack) -> tuple[int, int]:
    """Kill one of two lanes with 100 calls under way: how many it had, and requests that failed."""
    scenario = {"latency": {"kind": "lognormal", "low": 1.5, "high": 6}}
    with Provider.running() as one, Provider.running() as two:
        for provider in (one, two):
            provider.play(scenario)
        lanes = [lane("one", one.url), lane("two", two.url)]
        async with Replicas.running(at, "two-lanes", lanes, workers=IN_FLIGHT) as ours, asyncio.timeout(WITHIN_S):
            await ours.ask(FALL_BACK)
            while (lost := one.under_way()) + two.under_way() < IN_FLIGHT:
                await asyncio.sleep(0.05)
            one.die()
            await ours.finished(FALL_BACK)
            return lost, ours.failed


def measures(runs: Mapping[str, Run], lost: int, failed: int, around: Overhead) -> list[Measure]:
    """The figures, ours beside each of the others'."""
    others = [run for name, run in runs.items() if name not in HEADERS]
    found = []
    for run in (run for name, run in runs.items() if name in HEADERS):
        for row in ROWS:
            name, value = f"{run.name}: {row.name}", row.of(run)
            found += [
                Measure(name, value, row.unit, row.goal, row.of(other), SHOWN[other.name]) for other in others
            ] or [Measure(name, value, row.unit, row.goal)]
    alone = "litellm.acompletion alone"
    return [
        *found,
        Measure("two lanes: under way on the one that dies", lost, "calls"),
        Measure("two lanes: requests that failed", failed, f"of {FALL_BACK}", "0"),
        Measure("a call, p50", median(around.ours_ms), "ms", "", median(around.alone_ms), alone),
        Measure("a call, p50, above litellm", median(around.ours_ms) - median(around.alone_ms), "ms", "<= 1"),
        Measure("CPU of a call", around.ours_cpu_ms, "ms", "", around.alone_cpu_ms, alone),
        Measure("CPU of a call, of litellm's", around.ours_cpu_ms / around.alone_cpu_ms, "times"),
    ]


def save(runs: Mapping[str, Run], file: Path) -> None:
    """Write what was seen over time, for a plot."""
    told = [
        {"name": SHOWN[name], "course": asdict(run.seen.course), "slices": [asdict(each) for each in run.seen.slices]}
        for name, run in runs.items()
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(told), encoding="utf-8")


async def run(names: Sequence[str], course: Course, series: Path) -> None:
    """All of it, one after the other where each needs the machine."""
    runs: dict[str, Run] = {}
    _say("one call at a time, with a worker and without")
    around = await overhead()
    _say("two lanes, one of which dies")
    with stack() as at:
        lost, failed = await fall_back(at)
        for name in (name for name in names if name in HEADERS):
            _say(SHOWN[name])
            runs[name] = await replicas(at, name, course)
            save(runs, series)
    for together in TOGETHER:
        if not (chosen := [name for name in together if name in names]):
            continue
        _say(", ".join(SHOWN[name] for name in chosen))
        theirs = await callers({name: THEIRS.get(name, course) for name in chosen})
        runs |= {one.name: one for one in theirs}
        save(runs, series)
    title = (
        f"{WORKERS} workers in {REPLICAS} processes, a limit of {course.per_s:g} calls a second, warm-up of "
        f"{course.steady_s:g} s, an outage of {course.back_s - course.outage_s:g} s"
    )
    report("limits", measures(runs, lost, failed, around), title)


def _say(what: str) -> None:
    sys.stdout.write(f"{what} …\n")
    sys.stdout.flush()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a shorter course, and Forebay alone")
    parser.add_argument("--only", nargs="+", choices=SHOWN, help="these strategies and no others")
    parser.add_argument(
        "--series",
        type=Path,
        default=Path("build/limits.json"),
        help="file to write what the provider saw over time to",
    )
    chosen = parser.parse_args()
    names = chosen.only or (QUICKLY if chosen.quick else USUALLY)
    asyncio.run(run(names, QUICK if chosen.quick else Course(), chosen.series))


if __name__ == "__main__":
    main()

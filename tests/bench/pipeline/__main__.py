"""How fast the pipeline is: hops without work, saying yes, the whole path. ``make bench-pipeline``.

CPU time counts, not the clock: what a second of a core does, the broker's and the database's work included. All ways
take turns in each round on the same broker and database; what is told is the median of the rounds.
"""

import argparse
import asyncio
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

from tests.bench.limit_provider import Provider
from tests.bench.pipeline import accepts, race, whole
from tests.bench.pipeline.accepts import Accepts
from tests.bench.pipeline.race import Lap
from tests.bench.pipeline.whole import Run
from tests.bench.report import Measure, report
from tests.bench.surge_designs import Place, database, infrastructure, virtual_host

OURS: Final = "forebay"
ASKED_OF_THE_PROXY: Final = 1 / 6  # of the requests that ingest gets: it is so much slower


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done."""

    rounds: int
    hops: int
    accepts: int
    whole: int


FULL: Final = Size(rounds=3, hops=1500, accepts=3000, whole=600)
QUICK: Final = Size(rounds=1, hops=800, accepts=1500, whole=300)

Laps = Mapping[str, Sequence[Lap]]
Yeses = Mapping[str, Sequence[Accepts]]
Runs = Mapping[str, Sequence[Mapping[str, Run]]]


class Bench:
    """The three parts, on one broker, database and provider."""

    def __init__(self, place: Place, size: Size) -> None:
        self._place = place
        self._size = size
        self._used = 0

    def hops(self) -> Laps:
        """Five hops without work."""
        laps = defaultdict(list)
        for _ in range(self._size.rounds):
            for way in race.WAYS:
                laps[way].append(asyncio.run(race.lap(self._place, way, self._size.hops)))
                _say(f"hops, {way}: {laps[way][-1].per_core_s:.0f} a core and second")
        return laps

    def accepts(self) -> Yeses:
        """A 202 beside an answer at once."""
        yeses = defaultdict(list)
        for _ in range(self._size.rounds):
            dsn, amqp_url = self._fresh(migrated=True)
            yeses[OURS].append(accepts.forebay(self._place, dsn, amqp_url, self._size.accepts))
            yeses["proxy"].append(accepts.proxy(self._place, int(self._size.accepts * ASKED_OF_THE_PROXY)))
            _say("; ".join(f"accepts, {name}: {each[-1].per_core_s:.0f}" for name, each in yeses.items()))
        return yeses

    def whole(self) -> Runs:
        """From submission to row."""
        runs = defaultdict(list)
        for _ in range(self._size.rounds):
            for name in whole.BUILT:
                dsn, amqp_url = self._fresh(migrated=name == OURS)
                found = asyncio.run(whole.measured(self._place, name, dsn, amqp_url, self._size.whole))
                runs[name].append(found)
                _say("; ".join(f"whole path, {name}, {kind}: {run.per_core_s:.0f}" for kind, run in found.items()))
        return runs

    def _fresh(self, *, migrated: bool) -> tuple[str, str]:
        """A database and a virtual host of their own."""
        self._used += 1
        name = f"pipeline_{self._used}"
        dsn = asyncio.run(database(self._place.stack.postgres_dsn, name, migrated=migrated))
        return dsn, virtual_host(self._place.stack, name)


def hop_measures(laps: Laps) -> list[Measure]:
    """Ours, beside each other way."""
    own = _median(laps[OURS], lambda lap: lap.per_core_s)
    measures = []
    for way in race.WAYS[1:]:
        theirs = _median(laps[way], lambda lap: lap.per_core_s)
        goal = ">= 2" if way in ("faststream", "celery") else ""
        measures.append(Measure(f"hops alone, times {way}'s", own / theirs, "", goal, theirs, f"{way}, per core·s"))
    for name, unit, of in (
        ("hops alone", "per core·s", lambda lap: lap.per_core_s),
        ("hops alone, by the clock", "a second", lambda lap: lap.per_s),
        ("hops alone, worker", "µs of CPU", lambda lap: lap.worker_us),
        ("hops alone, broker", "µs of CPU", lambda lap: lap.broker_us),
        ("hops alone, worker's memory", "MB", lambda lap: lap.rss_mb),
    ):
        measures.append(_beside(name, unit, laps, of, "faststream"))
    return measures


def accept_measures(yeses: Yeses) -> list[Measure]:
    """Ours, beside the proxy's."""
    own, theirs = (_median(yeses[name], lambda each: each.per_core_s) for name in (OURS, "proxy"))
    return [
        Measure("HTTP accepts, times the proxy's answers", own / theirs, "", ">= 10", theirs, "proxy, per core·s"),
        _beside("HTTP accepts", "per core·s", yeses, lambda each: each.per_core_s, "proxy"),
        _beside("HTTP accepts, by the clock", "a second", yeses, lambda each: each.per_s, "proxy"),
        _beside("HTTP accepts, p50, 20 clients", "ms", yeses, lambda each: each.quantile_ms(0.5), "proxy"),
        _beside("HTTP accepts, p99, 20 clients", "ms", yeses, lambda each: each.quantile_ms(0.99), "proxy"),
    ]


def whole_measures(runs: Runs) -> list[Measure]:
    """Hits and misses, ours beside the others'."""
    measures = []
    for kind in ("hit", "miss"):
        each = {name: [run[kind] for run in those] for name, those in runs.items()}
        own = _median(each[OURS], lambda run: run.per_core_s)
        for name in list(each)[1:]:
            theirs = _median(each[name], lambda run: run.per_core_s)
            title = f"whole path, {kind}, times {name}'s"
            measures.append(Measure(title, own / theirs, "", ">= 3", theirs, f"{name}, per core·s"))
        measures.append(_beside(f"whole path, {kind}", "per core·s", each, lambda run: run.per_core_s, "faststream"))
        measures.append(_beside(f"whole path, {kind}, p50", "ms", each, lambda run: run.p50_ms, "faststream"))
        measures.append(_beside(f"whole path, {kind}, p99", "ms", each, lambda run: run.p99_ms, "faststream"))
        measures += [
            _beside(f"whole path, {kind}, {whose}", "µs of CPU", each, partial(_us, whose=whose), "faststream")
            for whose in ("services", "broker", "database")
        ]
    return measures


def _us(run: Run, *, whose: str) -> float:
    return run.us[whose]


def _beside(name: str, unit: str, each: Mapping[str, Sequence[Any]], of: Callable[[Any], float], other: str) -> Measure:
    return Measure(name, _median(each[OURS], of), unit, "", _median(each[other], of), other)


def _median(each: Sequence[Any], of: Callable[[Any], float]) -> float:
    return median(map(of, each))


def _say(what: str) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, and less in it")
    parser.add_argument("--only", choices=("hops", "accepts", "whole"), help="this part and no other")
    parser.add_argument("--packages", type=Path, default=Path("build/bench/packages"), help="folder with the others")
    parser.add_argument("--proxy", type=Path, default=Path("build/bench/proxy"), help="folder with LiteLLM's proxy")
    told = parser.parse_args()
    with infrastructure() as stack, Provider.running() as provider:
        provider.play({})
        place = Place(stack, provider, told.packages.resolve(), told.proxy.resolve())
        bench = Bench(place, QUICK if told.quick else FULL)
        parts: Mapping[str, Callable[[], list[Measure]]] = {
            "hops": lambda: hop_measures(bench.hops()),
            "accepts": lambda: accept_measures(bench.accepts()),
            "whole": lambda: whole_measures(bench.whole()),
        }
        measures = [measure for name, part in parts.items() if told.only in {None, name} for measure in part()]
    report("pipeline", measures, "Requests through the pipeline; a SIMULATED provider that answers at once")


if __name__ == "__main__":
    main()

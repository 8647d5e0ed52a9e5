"""What Forebay costs as it grows: ``make bench-growth``, with QUICK=1 for three minutes of it, ONLY=queue or rows.

First with ever more requests queued, then with ever more rows and cache entries. What it comes to for a cluster is in
docs/capacity.md.
"""

import argparse
import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from infra.local.services import ALL
from tests.bench import growth_queue, growth_rows
from tests.bench.growth_queue import MB, Level, Work
from tests.bench.report import Measure, report

DEPTHS: Final = (1_000, 10_000, 100_000)
ROWS: Final = (1_000, 10_000, 100_000)
QUICK_DEPTHS: Final = (1_000, 5_000)
QUICK_ROWS: Final = (1_000, 10_000)
# Times the memory with the fewest requests queued that a service may take with more.
FLAT: Final = 1.2


def told(levels: Sequence[Level]) -> Iterator[Measure]:
    """The measures of some depths of the queue, each beside that of the first."""
    first = levels[0]
    for level in levels:
        label, beside = f"{level.queued:,} queued", f"{first.queued:,} queued"
        for name, used in level.memory.items():
            least = first.memory[name]
            goal = f"<= {FLAT * least:.0f}" if name in ALL and level is not first else ""
            yield Measure(f"{label}: memory of {name}", used, "MB", goal, least, beside)
        yield Measure(f"{label}: files of rabbitmq", level.disk / MB, "MB", "", first.disk / MB, beside)
        for call in ("post_ms", "get_ms"):
            verb = call.removesuffix("_ms").upper()
            for percent in (50, 99):
                now, then = (float(np.percentile(getattr(each, call), percent)) for each in (level, first))
                yield Measure(f"{label}: {verb}, p{percent}", now, "ms", "", then, beside)
        arrived, finished = level.arriving.per_s, level.finishing.per_s
        yield Measure(f"{label}: brought to inference", arrived, "per s", "", first.arriving.per_s, beside)
        yield Measure(f"{label}: finished then", finished, "per s", "", first.finishing.per_s, beside)


def processor(hit: Work, miss: Level) -> Iterator[Measure]:
    """What a request costs each program: one that the cache answers, and one that is bought."""
    for name, used_ms in hit.cpu_ms.items():
        yield Measure(f"CPU of {name}: a hit", used_ms, "ms/request")
    for name in miss.arriving.cpu_ms:
        yield Measure(f"CPU of {name}: a miss, to inference", miss.arriving.cpu_ms[name], "ms/request")
        yield Measure(f"CPU of {name}: a miss, from there to the row", miss.finishing.cpu_ms[name], "ms/request")


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="not beyond 5,000 queued and 10,000 rows")
    parser.add_argument("--only", choices=("queue", "rows"), help="half of it")
    arguments = parser.parse_args()
    measures: list[Measure] = []
    if arguments.only != "rows":
        hit, levels = asyncio.run(growth_queue.grown(QUICK_DEPTHS if arguments.quick else DEPTHS))
        # All of the second went the whole way, and it is long enough for a mean.
        measures += [*told(levels), *processor(hit, levels[1])]
    if arguments.only != "queue":
        measures += asyncio.run(growth_rows.grown(QUICK_ROWS if arguments.quick else ROWS))
    report("growth", measures, "Cost as it grows: requests queued, then rows and cache entries")


if __name__ == "__main__":
    main()

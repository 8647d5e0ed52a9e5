"""Does the trends service find what trends, in time, and nothing else: ``make bench-trends DATA=…``.

Three parts, all through the service's own code: a simulated stream with exact truth, counted by four replicas whose
counts are merged (see ``trend_stream`` for what a burst is, and what counts as detected); the labelled series of tweets
of NAB; and what counting costs. The rule and its numbers are the policy's defaults throughout. ``--full`` takes more
seeds and days.
"""

import argparse
import logging
import random
import statistics
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog

from services.trends.counting import Counting
from services.trends.decision import Evidence
from services.trends.rates import Rates
from services.trends.watch import Watch
from shared.events import TopicTrending
from shared.policy.trends import TrendsPolicy
from shared.topics import keys
from tests.bench import trend_keys, trend_peers
from tests.bench.report import Measure, report
from tests.bench.texts import rows
from tests.bench.trend_clock import Hands, hear
from tests.bench.trend_stream import Alarm, Score, Stream, minutes

REPLICAS: Final = 4
# Requests a minute, with the seeds and days of the quick run.
QUICK: Final = {300: (range(1, 4), 1.0), 30: (range(1, 4), 1.0), 3_000: (range(1, 2), 0.5)}
# The rhythm in which tweets were counted is slower than that of the policy: the fast constant is one step of it.
NAB: Final = "trends/nab_tweets"
COSTED: Final = 20_000


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data", type=Path, help="folder of the labelled data")
    parser.add_argument("--full", action="store_true", help="five seeds of three days each: half an hour")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    plan = {load: (range(1, 6), 3.0) for load in QUICK} if arguments.full else QUICK
    measures = [
        *chain.from_iterable(simulation(load, seeds, days) for load, (seeds, days) in plan.items()),
        *tweets(rows(arguments.data, NAB)),
        *trend_keys.measures(arguments.data),
        *cost(arguments.data),
    ]
    runs = ", ".join(f"{load} a minute: {len(seeds)} of {days:g} days" for load, (seeds, days) in plan.items())
    report("trends", measures, f"trends by the default policy; simulated streams: {runs}")


def simulation(load: int, seeds: Sequence[int], days: float) -> Iterator[Measure]:
    """Detection on simulated streams: means over the seeds."""
    ours, peers = [], []
    for seed in seeds:
        ours.append(Stream(seed, load, days).score(list(detected(Stream(seed, load, days)))))
        counts = minutes(Stream(seed, load, days))
        peers.append(
            (
                trend_peers.signitrend(Stream(seed, load, days), counts),
                trend_peers.poisson(Stream(seed, load, days), counts),
            )
        )
    where = f"{load} a minute"
    goal = ">= 0.95" if load == 300 else ">= 0.90"
    for n, name in enumerate(("SigniTrend", "Poisson LLR of shares")):
        anchor = _mean([peer[n] for peer in peers], "f1")
        yield Measure(f"{where}: F1", _mean(ours, "f1"), "", goal, anchor, f"{name}, best threshold in hindsight")
    yield Measure(f"{where}: least F1 of a seed", min(score.f1 for score in ours), "")
    yield Measure(f"{where}: recall", _mean(ours, "recall"), "")
    yield Measure(
        f"{where}: median delay",
        _mean(ours, "delay_min"),
        "min",
        "<= 4" if load == 300 else "",
        _mean([peer[1] for peer in peers], "delay_min"),
        "Poisson LLR of shares",
    )
    yield Measure(f"{where}: false", _mean(ours, "false_per_day"), "a day", "<= 1" if load == 300 else "")
    if load == 300:
        stream = Stream(seeds[0], load, days)
        alone = [stream.score(list(detected(stream, heard=1)))]
        yield Measure(f"{where}: F1 of one replica of four, counts not merged", _mean(alone, "f1"), "")


def detected(stream: Stream, heard: int = REPLICAS) -> Iterator[Alarm]:
    """When which topic begins to trend, by the counts of so many of the four replicas."""
    policy, clock, pick = TrendsPolicy(), Hands(), random.Random(0)
    replicas, watch = [Counting(policy, clock) for _ in range(REPLICAS)], Watch(policy, clock)
    trending: set[str] = set()
    for at, counts in stream.ticks():
        for topic in np.flatnonzero(counts).tolist():
            name = (f"topic{topic}",)
            for replica in pick.choices(replicas, k=int(counts[topic])):
                replica.count("default", name)
        clock.elapsed = at
        for counted in chain.from_iterable(replica.taken() for replica in replicas[:heard]):
            hear(watch, counted)
        for event in watch.tick():
            if isinstance(event, TopicTrending) and event.terms[0] not in trending:
                yield at, int(event.terms[0].removeprefix("topic"))
        trending = {trend.name[1] for trend in watch.trends()}


def tweets(series: Sequence[dict[str, Any]]) -> Iterator[Measure]:
    """NAB: windows in which something is flagged, and points flagged, in per cent; the rule asks both its questions."""
    recall, flagged = _flagged(series, [_rule(each) for each in series])
    best = max(
        (
            _flagged(series, [trend_peers.ewma(each["values"], each["step_s"], z) for each in series])
            for z in np.arange(3, 9, 0.25)
        ),
        key=lambda found: (found[1] <= 0.6, found[0], -found[1]),
    )
    yield Measure("NAB tweets: windows found", recall, "", ">= 0.92", best[0], "EWMA 24 h, best threshold")
    yield Measure("NAB tweets: points flagged", flagged, "%", "<= 0.6", best[1], "EWMA 24 h, best threshold")


def _rule(series: dict[str, Any]) -> list[bool]:
    """Which steps of a series trend: its own past stands where a topic's share of all requests stands in a stream.

    A single series has no others to be a share of, so the prior is left to one step with one tweet.
    """
    policy, step = TrendsPolicy(), float(series["step_s"])
    rates: Rates[str] = Rates(fast_s=max(policy.fast, step), slow_s=policy.slow, max_names=2)
    flags = []
    for n, value in enumerate(series["values"]):
        at = n * step
        rates.add("tweets", value, at)
        rates.add("time", 1, at)
        seen = Evidence.of(rates.at("tweets", at), rates.at("time", at))
        prior = 1 / max(seen.usual_all, 1)
        flags.append(seen.ratio(prior) >= policy.ratio and seen.significance >= policy.floor)
    return flags


def _flagged(series: Sequence[dict[str, Any]], flags: Sequence[Sequence[bool]]) -> tuple[float, float]:
    found = [
        any(flag for n, flag in enumerate(own) if begin <= each["t0"] + n * each["step_s"] <= end)
        for each, own in zip(series, flags, strict=True)
        for begin, end in each["windows"]
    ]
    points = [flag for own in flags for flag in own]
    return sum(found) / len(found), 100 * sum(points) / len(points)


def cost(data: Path) -> Iterator[Measure]:
    """What counting takes, on real prompts: taking their topics, adding, and deciding every two seconds at 3,000 a
    minute; and the memory of as many topics as are kept.
    """
    prompts = [row["query"] for row in rows(data, "cache/qqp_stream")[:COSTED]]
    policy, clock = TrendsPolicy(), Hands()
    counting, watch = Counting(policy, clock), Watch(policy, clock)
    began = time.process_time()
    for n, prompt in enumerate(prompts):
        counting.count("default", keys(prompt))
        if n % 100 == 99:
            clock.elapsed += 2
            for counted in counting.taken():
                hear(watch, counted)
            watch.tick()
    spent = time.process_time() - began
    yield Measure("counting: requests per CPU second", len(prompts) / spent, "1/s")
    tracemalloc.start()
    rates: Rates[tuple[str, str]] = Rates(fast_s=180, slow_s=10_800, max_names=policy.max_topics)
    for n in range(2 * policy.max_topics):
        rates.add(("default", f"some words {n}"), 1, float(n))
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    yield Measure(f"memory of {policy.max_topics} topics", held / 2**20, "MiB")


def _mean(scores: Sequence[Score], name: str) -> float:
    return statistics.fmean(getattr(score, name) for score in scores)


if __name__ == "__main__":
    main()

"""What to count a prompt under: its words and phrases, or the cache's nearest entry? Measured on CLINC150's stream.

Prompts of 150 intents, drawn evenly at 300 a minute; every hour one intent bursts for 30 minutes, with 30 prompts a
minute more, each drawn from those people wrote for it. What matters is not the alarm but what it holds back: of the
prompts of the intent that bursts, how many concern a topic that trends ten minutes later (covered), and of all others
(collateral)? Each kind of key goes through the service's own counting and decisions, by the policy's defaults.

The key of the nearest entry is that of the first prompt that was at least so similar, as a cache with that threshold
has it: a prompt that is near to none becomes an entry itself.
"""

import random
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from services.trends.counting import Counting
from services.trends.watch import Watch
from shared.embedding.builtin import Embedder, Vectors
from shared.policy.trends import TrendsPolicy
from shared.topics import keys, words
from tests.bench.report import Measure
from tests.bench.texts import rows, vectors
from tests.bench.trend_clock import Hands, hear

HOURS: Final = 12
WARM_HOURS: Final = 4
PER_MINUTE: Final = 300
BURST_PER_MINUTE: Final = 30
BURST_MIN: Final = 30
TICK_S: Final = 5
LOOKED_AT_MIN: Final = 10
# A topic that begins to trend later has nothing to do with the burst of that hour.
QUIET_FROM_MIN: Final = BURST_MIN + 10
# Prompts outside of any intent are clusters of one.
MEMBERS: Final = 20
FOUND: Final = 0.25
TENANT: Final = "default"
Keys = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Held:
    """What was held back ten minutes into a burst, as shares of prompts."""

    covered: float
    collateral: float


def measures(data: Path) -> Iterator[Measure]:
    """Each kind of key, beside the words and phrases."""
    found = rows(data, "cache/clinc150_stream")
    prompts, clusters = [row["query"] for row in found], [row["cluster"] for row in found]
    embedded, _ = vectors(Embedder(), prompts)
    kinds: dict[str, Keys] = {
        "words and phrases": [keys(prompt) for prompt in prompts],
        "words": [list(dict.fromkeys(words(prompt))) for prompt in prompts],
        "nearest entry, cosine 0.85": nearest(embedded, 0.85),
        "nearest entry, cosine 0.7": nearest(embedded, 0.7),
    }
    for name, keyed in kinds.items():
        held, stray = simulated(keyed, clusters)
        found_of = [each.covered >= FOUND for each in held]
        yield Measure(f"keys by {name}: bursts found in 10 min", 100 * _mean(found_of), "%")
        yield Measure(f"keys by {name}: burst covered", 100 * _mean([each.covered for each in held]), "%")
        yield Measure(f"keys by {name}: collateral", 100 * _mean([each.collateral for each in held]), "%")
        yield Measure(f"keys by {name}: topics outside of bursts", stray, "a day")


def nearest(embedded: Vectors, threshold: float) -> Keys:
    """The key of each prompt: the number of the entry it is near to, or of the one it becomes."""
    entries = np.empty_like(embedded)
    count, found = 0, []
    for vector in embedded:
        similar = entries[:count] @ vector
        best = int(similar.argmax()) if count else 0
        if count == 0 or similar[best] < threshold:
            best = count
            entries[count] = vector
            count += 1
        found.append([f"entry{best}"])
    return found


def simulated(keyed: Keys, clusters: Sequence[str]) -> tuple[list[Held], float]:
    """What each burst held back, and how many topics a day began to trend while nothing burst."""
    draw, policy, clock = random.Random(1), TrendsPolicy(), Hands()
    counting, watch = Counting(policy, clock), Watch(policy, clock)
    members: defaultdict[str, list[int]] = defaultdict(list)
    for n, cluster in enumerate(clusters):
        members[cluster].append(n)
    bursting = draw.sample(sorted(c for c, own in members.items() if len(own) >= MEMBERS), HOURS)
    held, stray, known = [], 0, set[tuple[str, str]]()
    for minute in range((WARM_HOURS + HOURS) * 60):
        hour, past = divmod(minute - WARM_HOURS * 60, 60)
        burst = bursting[hour] if hour >= 0 and past < BURST_MIN else None
        for _ in range(60 // TICK_S):
            share = TICK_S / 60
            picked = [draw.randrange(len(keyed)) for _ in range(round(PER_MINUTE * share))]
            if burst is not None:
                picked += draw.choices(members[burst], k=_some(draw, BURST_PER_MINUTE * share))
            for n in picked:
                counting.count(TENANT, keyed[n])
            clock.elapsed += TICK_S
            for counted in counting.taken():
                hear(watch, counted)
            watch.tick()
        trending = {trend.name for trend in watch.trends()}
        stray += len(trending - known) if hour >= 0 and past >= QUIET_FROM_MIN else 0
        known = trending
        if burst is not None and past == LOOKED_AT_MIN:
            held.append(_held({key for _, key in trending}, keyed, clusters, burst))
    return held, stray * 24 * 60 / (HOURS * (60 - QUIET_FROM_MIN))


def _some(draw: random.Random, mean: float) -> int:
    """A whole number with this mean."""
    return int(mean) + (draw.random() < mean % 1)


def _held(trending: set[str], keyed: Keys, clusters: Sequence[str], cluster: str) -> Held:
    concerned = [not trending.isdisjoint(each) for each in keyed]
    own = [flag for flag, each in zip(concerned, clusters, strict=True) if each == cluster]
    others = [flag for flag, each in zip(concerned, clusters, strict=True) if each != cluster]
    return Held(_mean(own), _mean(others))


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else 0.0

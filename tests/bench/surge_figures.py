"""The figures of one design in a surge, from what its clients, PostgreSQL, the provider and the machine saw."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from tests.bench.surge_clients import Entry
from tests.bench.surge_course import MODEL, Asked, Course, Phase
from tests.bench.surge_watch import Seen

Fate = Literal["in time", "late", "shed", "failed"]
SHED: Final = (429, 503)
PRICES: Final = "model_prices_and_context_window_backup.json"
MB: Final = 1e6


@dataclass(frozen=True, slots=True)
class End:
    """The end of a request as it is on record.

    Attributes:
        at_s: seconds after the load has begun.
    """

    status: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Prices:
    """What a token costs, in US dollars."""

    input: float
    output: float

    @classmethod
    def listed(cls) -> "Prices":
        """From the table that litellm brings along; importing it would take seconds, and ask the network."""
        spec = find_spec("litellm")
        assert spec is not None
        assert spec.origin is not None
        listed = json.loads(Path(spec.origin).with_name(PRICES).read_text(encoding="utf-8"))[MODEL]
        return cls(listed["input_cost_per_token"], listed["output_cost_per_token"])


@dataclass(frozen=True, slots=True)
class Outcome:
    """One design, from the beginning of its load until all was over.

    Attributes:
        rows: ends by id; None of a design without a database.
        counts: what the provider says of the design's key.
        queued: whether it says ``202``, and answers later.
    """

    name: str
    title: str
    queued: bool
    course: Course
    asked: Sequence[Asked]
    log: Sequence[Entry]
    seen: Seen
    rows: Mapping[str, End] | None
    counts: Mapping[str, Any]
    prices: Prices

    def accepted(self, *phases: Phase) -> list[Entry]:
        """Requests that the design took: it has answered, or said ``202``."""
        return [entry for entry in self._of(phases) if entry.id is not None]

    @property
    def shed(self) -> int:
        """Refused with a status that says: come again later."""
        return sum(entry.status in SHED for entry in self.log)

    @property
    def failed(self) -> int:
        """Neither taken nor refused, or taken and ended as failed."""
        untold = sum(entry.id is None and entry.status not in SHED for entry in self.log)
        return untold + sum(entry.ended_s is not None and entry.text is None for entry in self.log)

    @property
    def lost(self) -> float:
        """Taken, and without a row of their end; NaN without a database."""
        if self.rows is None:
            return math.nan
        return sum(entry.id not in self.rows for entry in self.accepted())

    @property
    def wrong(self) -> int:
        """Answers to another question."""
        asked_by = {one.digest: one.meaning for one in self.asked}
        return sum(
            entry.text is not None and asked_by.get(named(entry.text)) != one.meaning
            for one, entry in zip(self.asked, self.log, strict=True)
        )

    def in_time(self, *phases: Phase) -> int:
        """Answers that came while the client's patience lasted."""
        return sum(self._fate(entry) == "in time" for entry in self._of(phases))

    def sent(self, *phases: Phase) -> int:
        """Requests."""
        return len(self._of(phases))

    def accept_ms(self, percentile: float, *phases: Phase) -> float:
        """Milliseconds until a request was taken."""
        return _percentile([1000 * (e.told_s - e.sent_s) for e in self.accepted(*phases) if e.told_s], percentile)

    def answer_s(self, percentile: float, *phases: Phase) -> float:
        """Seconds until its client had the answer; those without one don't count."""
        waits = [e.ended_s - e.sent_s for e in self._of(phases) if e.ended_s is not None and e.text is not None]
        return _percentile(waits, percentile)

    @property
    def accept_ratio(self) -> float:
        """Accept latency in the surge, p99, by that of usual times."""
        return self.accept_ms(99, "surge") / self.accept_ms(99, "base")

    @property
    def usual_writes_per_s(self) -> float:
        """Write transactions a second in usual times."""
        if self.rows is None:
            return math.nan
        return self.seen.writes_per_s(self.course.warm_s, self.course.surge_s)

    @property
    def surge_writes_per_s(self) -> float:
        """The same in the surge."""
        if self.rows is None:
            return math.nan
        return self.seen.writes_per_s(self.course.surge_s + self.course.settle_s, self.course.calm_s)

    @property
    def most_writes_per_s(self) -> float:
        """The same in the worst second of all, from usual times on."""
        if self.rows is None:
            return math.nan
        return self.seen.most_writes_per_s(self.course.warm_s, self.seen.database[-1][0])

    @property
    def connections(self) -> float:
        """Connections to its database at the same time, at the most."""
        return math.nan if self.rows is None else self.seen.most_connections

    @property
    def drained_s(self) -> float:
        """Seconds from the surge's end until all that was asked up to then is over; NaN where it never was."""
        until_s = self.course.calm_s
        ends = [self._end_s(entry) for one, entry in zip(self.asked, self.log, strict=True) if one.at_s < until_s]
        last_s = max(ends, default=until_s)
        return math.nan if math.isinf(last_s) else max(0.0, last_s - until_s)

    @property
    def calls(self) -> int:
        """Calls that the provider answered, whether or not anybody was still there to hear."""
        return int(self.counts["useful"] + self.counts["abandoned"])

    @property
    def refused(self) -> int:
        """Calls that the provider refused."""
        return sum(self.counts["refused"].values())

    @property
    def spent_usd(self) -> float:
        """List price of the calls that the provider answered; those whose client had left count as the mean."""
        useful = self.counts["useful"]
        told = self.counts["input_tokens"] * self.prices.input + self.counts["output_tokens"] * self.prices.output
        return float(told / useful * self.calls) if useful else math.nan

    @property
    def spent_per_thousand_usd(self) -> float:
        """The same by a thousand requests that got an answer."""
        answered = sum(entry.text is not None for entry in self.log)
        return 1000 * self.spent_usd / answered if answered else math.nan

    def cpu_per_thousand_s(self, group: str) -> float:
        """Seconds of CPU of a group of processes by a thousand requests that were sent."""
        return 1000 * self.seen.cpu_s(group) / len(self.log)

    @property
    def most_rss_mb(self) -> float:
        """Megabytes in memory of its processes, at the most."""
        return self.seen.most_rss("design") / MB

    @property
    def rss_per_thousand_mb(self) -> float:
        """By how much that had grown since the beginning, by a thousand requests that were sent."""
        grown = self.seen.most_rss("design") - self.seen.used[0][1]["design"].rss
        return 1000 * grown / MB / len(self.log)

    def fates(self) -> dict[Fate, list[float]]:
        """What became of the requests, by when they were sent: seconds by fate."""
        fates: dict[Fate, list[float]] = {"in time": [], "late": [], "shed": [], "failed": []}
        for entry in self.log:
            fates[self._fate(entry)].append(entry.sent_s)
        return fates

    @property
    def late_ms(self) -> float:
        """By how much a client was late to send, p99: the machine's share in all of these latencies."""
        late = [1000 * (entry.sent_s - one.at_s) for one, entry in zip(self.asked, self.log, strict=True)]
        return _percentile(late, 99)

    def _fate(self, entry: Entry) -> Fate:
        if entry.text is not None and entry.ended_s is not None:
            return "in time" if entry.ended_s - entry.sent_s <= self.course.patience_s else "late"
        return "shed" if entry.status in SHED else "failed"

    def _end_s(self, entry: Entry) -> float:
        """When a request was over: by its row where the client may have asked later, else as the client saw it."""
        if entry.id is not None and self.queued and self.rows is not None:
            end = self.rows.get(entry.id)
            return end.at_s if end else math.inf
        return entry.told_s if entry.told_s is not None else entry.sent_s + self.course.patience_s

    def _of(self, phases: Sequence[Phase]) -> list[Entry]:
        wanted = phases or ("warm", "base", "surge", "after")
        return [entry for one, entry in zip(self.asked, self.log, strict=True) if self.course.phase(one.at_s) in wanted]


def named(answer: str) -> str:
    """The digest that an answer of the simulated provider names."""
    words = answer.split(" ", 3)
    return words[2].removesuffix(".") if len(words) > 2 else ""


def per_second(moments: Iterable[float], until_s: float) -> list[int]:
    """How many of some moments each whole second has."""
    counted = [0] * math.ceil(until_s)
    for moment_s in moments:
        if 0 <= moment_s < until_s:
            counted[int(moment_s)] += 1
    return counted


def _percentile(values: Sequence[float], percentile: float) -> float:
    return float(np.percentile(values, percentile)) if values else math.nan


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of the table."""

    name: str
    unit: str
    of: Callable[[Outcome], float]
    goal: str = ""


FIGURES: Final = (
    Figure("requests sent", "", lambda one: one.sent()),
    Figure("accepted", "", lambda one: len(one.accepted())),
    Figure("shed: 429 or 503", "", lambda one: one.shed),
    Figure("failed", "", lambda one: one.failed),
    Figure("lost: accepted, no row", "", lambda one: one.lost, "0"),
    Figure("answers to another question", "", lambda one: one.wrong, "0"),
    Figure("of the surge: sent", "", lambda one: one.sent("surge")),
    Figure("of the surge: not accepted", "", lambda one: one.sent("surge") - len(one.accepted("surge"))),
    Figure("of the surge: answered in the client's patience", "", lambda one: one.in_time("surge")),
    Figure("accept latency p50, usual", "ms", lambda one: one.accept_ms(50, "base")),
    Figure("accept latency p50, surge", "ms", lambda one: one.accept_ms(50, "surge")),
    Figure("accept latency p99, usual", "ms", lambda one: one.accept_ms(99, "base")),
    Figure("accept latency p99, surge", "ms", lambda one: one.accept_ms(99, "surge")),
    Figure("accept latency p99, surge / usual", "times", lambda one: one.accept_ratio, "<= 2"),
    Figure("time to answer p50, usual", "s", lambda one: one.answer_s(50, "base")),
    Figure("time to answer p50, surge", "s", lambda one: one.answer_s(50, "surge")),
    Figure("time to answer p99, usual", "s", lambda one: one.answer_s(99, "base")),
    Figure("time to answer p99, surge", "s", lambda one: one.answer_s(99, "surge")),
    Figure("write transactions, usual", "/s", lambda one: one.usual_writes_per_s),
    Figure("write transactions, surge", "/s", lambda one: one.surge_writes_per_s),
    Figure("write transactions, worst second", "/s", lambda one: one.most_writes_per_s),
    Figure(
        "write transactions, surge / usual",
        "times",
        lambda one: one.surge_writes_per_s / one.usual_writes_per_s,
        "<= 1.1",
    ),
    Figure("connections to PostgreSQL, at the most", "", lambda one: one.connections),
    Figure("drained after the surge's end", "s", lambda one: one.drained_s),
    Figure("calls the provider answered", "", lambda one: one.calls),
    Figure("calls the provider refused", "", lambda one: one.refused),
    Figure("spent at list prices", "USD", lambda one: one.spent_usd),
    Figure("spent for 1,000 answers", "USD", lambda one: one.spent_per_thousand_usd),
    Figure("CPU for 1,000 requests: the design", "s", lambda one: one.cpu_per_thousand_s("design")),
    Figure("CPU for 1,000 requests: RabbitMQ", "s", lambda one: one.cpu_per_thousand_s("rabbitmq")),
    Figure("CPU for 1,000 requests: PostgreSQL", "s", lambda one: one.cpu_per_thousand_s("postgres")),
    Figure("memory of the design, at the most", "MB", lambda one: one.most_rss_mb),
    Figure("memory it grew by for 1,000 requests", "MB", lambda one: one.rss_per_thousand_mb),
    Figure("clients late to send, p99", "ms", lambda one: one.late_ms),
)

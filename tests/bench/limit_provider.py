"""The simulated provider of a bench of limits: what happens to it and when, and what it saw.

It runs in a process of its own, as ``forebay simulate``, and every count comes from its control API.
"""

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import httpx

SLICE_S: Final = 0.1
# Whether a limit is used is told over so many seconds.
SMOOTH_S: Final = 3.0
USED: Final = 0.95
_ADDRESS: Final = re.compile(r"http://[^/\s]+(?=/v1)")


@dataclass(frozen=True, slots=True)
class Course:
    """What happens, in seconds since the beginning.

    Attributes:
        per_s: calls a second that the provider takes from ``doubled_s`` on; before it takes half as many.
        steady_s: from here to the outage is what the figures of steady overload are of; before is warming up.
        outage_s: every connection breaks from here.
        back_s: until here.
        end_s: the end.
    """

    per_s: float = 40
    doubled_s: float = 6
    steady_s: float = 42
    outage_s: float = 62
    back_s: float = 122
    end_s: float = 140

    def scenario(self, headers: Mapping[str, bool]) -> dict[str, Any]:
        """The same as a scenario: a second's worth can be saved up, answers take 0.8 s on average."""
        per_minute = 60 * self.per_s
        return {
            "slice": SLICE_S,
            "latency": {"kind": "lognormal", "low": 0.3, "high": 1.75},
            "limits": [
                {"requests_per_minute": per_minute / 2, "burst": 1},
                {"requests_per_minute": per_minute, "burst": 1, "from": self.doubled_s},
            ],
            "faults": [{"kind": "reset", "from": self.outage_s, "to": self.back_s}],
            "headers": dict(headers),
        }


@dataclass(frozen=True, slots=True)
class Slice:
    """A tenth of a second; calls are counted where they began."""

    at_s: float
    calls: int
    useful: int
    refused: int
    limit_per_s: float


@dataclass(frozen=True, slots=True)
class Seen:
    """What the provider saw of one strategy."""

    course: Course
    slices: Sequence[Slice] = field(repr=False)

    @classmethod
    def of(cls, course: Course, counts: Mapping[str, Any]) -> Self:
        """From what ``/control/counts`` tells; all keys together."""
        slices = [
            Slice(each["at_s"], each["calls"], each["useful"], each["refused"], each["limit_per_s"] or course.per_s)
            for tally in counts["keys"].values()
            for each in tally["series"]
        ]
        return cls(course, sorted(slices, key=lambda each: each.at_s))

    @property
    def used(self) -> float:
        """Useful calls of what the limit allowed, in steady overload."""
        useful = sum(each.useful for each in self._between(self.course.steady_s, self.course.outage_s))
        return useful / (self.course.per_s * (self.course.outage_s - self.course.steady_s))

    @property
    def refused(self) -> float:
        """Refused calls of all calls, in steady overload."""
        steady = self._between(self.course.steady_s, self.course.outage_s)
        return sum(each.refused for each in steady) / max(1, sum(each.calls for each in steady))

    @property
    def useful_in_steady(self) -> int:
        """Useful calls in steady overload."""
        return sum(each.useful for each in self._between(self.course.steady_s, self.course.outage_s))

    @property
    def peak(self) -> float:
        """The most calls within a second, at any time after the outage, of what the limit allows in one."""
        after = self._between(self.course.back_s, self.course.end_s)
        starts = (each.at_s for each in after)
        return max((self._calls(start, start + 1) for start in starts), default=0) / self.course.per_s

    @property
    def back_in_use_s(self) -> float:
        """Seconds from the outage's end until the limit is used again; NaN for never."""
        return self.used_after(self.course.back_s, self.course.end_s)

    @property
    def doubled_in_use_s(self) -> float:
        """Seconds until a limit that doubled is used; NaN for not before the outage."""
        return self.used_after(self.course.doubled_s, self.course.outage_s)

    def used_after(self, since_s: float, until_s: float) -> float:
        """Seconds from one time until 95 % of the limit was used for three seconds; NaN if that never came."""
        wanted = USED * self.course.per_s * SMOOTH_S
        for step in range(round((until_s - since_s - SMOOTH_S) / SLICE_S) + 1):
            begin_s = since_s + step * SLICE_S
            if sum(each.useful for each in self._between(begin_s, begin_s + SMOOTH_S)) >= wanted:
                return begin_s + SMOOTH_S - since_s
        return float("nan")

    def _calls(self, from_s: float, to_s: float) -> int:
        return sum(each.calls for each in self._between(from_s, to_s))

    def _between(self, from_s: float, to_s: float) -> Sequence[Slice]:
        """The slices that begin from one time up to another, which are both multiples of a slice."""
        half = SLICE_S / 2
        return [each for each in self.slices if from_s - half <= each.at_s < to_s - half]


class Provider:
    """A simulated provider in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]", address: str) -> None:
        self._process = process
        self._http = httpx.Client(base_url=f"{address}/control", trust_env=False, timeout=30)
        self.url = f"{address}/v1"

    @classmethod
    @contextlib.contextmanager
    def running(cls) -> Iterator["Provider"]:
        """A provider on a free port while the block runs."""
        command = [str(Path(sys.executable).with_name("forebay")), "simulate"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert process.stdout is not None
            found = _ADDRESS.search(process.stdout.readline())
            if found is None:
                raise RuntimeError("the simulated provider did not start")
            yield cls(process, found[0])
        finally:
            process.terminate()
            process.communicate()

    def play(self, scenario: Mapping[str, Any]) -> None:
        """Begin a scenario."""
        self._http.put("/scenario", json=scenario).raise_for_status()

    def counts(self) -> Mapping[str, Any]:
        """What it saw since then."""
        return self._http.get("/counts").raise_for_status().json()  # type: ignore[no-any-return]  # an object

    def under_way(self) -> int:
        """Calls that have not been answered yet."""
        state = self._http.get("/state").raise_for_status().json()
        return sum(key["in_flight"] for key in state["keys"].values())

    def die(self) -> None:
        """End without a word: every connection breaks, and no new one can be made."""
        self._process.kill()

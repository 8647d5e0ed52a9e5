"""What a simulated provider saw."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

MOST_TOLD: Final = 100


@dataclass(slots=True)
class Seen:
    """How often one prompt, or one request id, came and was answered."""

    calls: int = 0
    useful: int = 0


@dataclass(slots=True)
class Slice:
    """The calls of one slice of time; each is counted where it began.

    Attributes:
        limit_per_s: calls a second that the limits allowed; None for any number.
    """

    limit_per_s: float | None = None
    calls: int = 0
    useful: int = 0
    refused: int = 0
    faults: int = 0


@dataclass(slots=True)
class Tally:
    """What one key did.

    Attributes:
        useful: whole answers that reached the client.
        abandoned: calls whose client left before the end.
        refused: calls beyond a limit, by the limit.
        faults: by kind; those with a status by the status.
        peak_per_s: calls within any one second.
        input_tokens: of the calls that were useful, and so are the output tokens.
    """

    calls: int = 0
    useful: int = 0
    abandoned: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    input_tokens: int = 0
    output_tokens: int = 0
    peak_per_s: int = 0
    slices: dict[int, Slice] = field(default_factory=dict)
    _last_second: deque[float] = field(default_factory=deque)

    def began(self, now_s: float) -> None:
        """A call came."""
        self.calls += 1
        self._last_second.append(now_s)
        while self._last_second[0] <= now_s - 1:
            self._last_second.popleft()
        self.peak_per_s = max(self.peak_per_s, len(self._last_second))


@dataclass(frozen=True, slots=True)
class Counted:
    """A call that came and whose end is to be counted too.

    Attributes:
        slice_of: number of the slice of time it began in.
        names: what can tell that two calls want the same: the digest of the prompt, the request id if there is one.
    """

    tally: Tally
    slice_of: int
    names: tuple[Seen, ...]

    def refused(self, over: str) -> None:
        """It was beyond a limit."""
        self.tally.refused[over] += 1
        self._slice().refused += 1

    def faulted(self, kind: str) -> None:
        """It met a fault."""
        self.tally.faults[kind] += 1
        self._slice().faults += 1

    def useful(self, input_tokens: int, output_tokens: int) -> None:
        """Its answer arrived."""
        self.tally.useful += 1
        self.tally.input_tokens += input_tokens
        self.tally.output_tokens += output_tokens
        self._slice().useful += 1
        for name in self.names:
            name.useful += 1

    def abandoned(self) -> None:
        """Its client left."""
        self.tally.abandoned += 1

    def _slice(self) -> Slice:
        return self.tally.slices[self.slice_of]


class Counts:
    """All that was seen since the last reset.

    Attributes:
        keys: by API key.
        prompts: by digest.
        request_ids: by the request id a client sent.
    """

    def __init__(self, slice_s: float) -> None:
        self.slice_s = slice_s
        self.keys: dict[str, Tally] = {}
        self.prompts: dict[str, Seen] = {}
        self.request_ids: dict[str, Seen] = {}

    def began(self, key: str, now_s: float, limit_per_s: float | None, digest: str, request_id: str | None) -> Counted:
        """A call came."""
        tally = self.keys.setdefault(key, Tally())
        tally.began(now_s)
        number = int(now_s // self.slice_s)
        tally.slices.setdefault(number, Slice(limit_per_s)).calls += 1
        names = [self.prompts.setdefault(digest, Seen())]
        if request_id is not None:
            names.append(self.request_ids.setdefault(request_id, Seen()))
        for name in names:
            name.calls += 1
        return Counted(tally, number, tuple(names))


def series(slices: Mapping[int, Slice], slice_s: float) -> Iterable[tuple[float, Slice]]:
    """Each slice from the first to the last with the time it began, those without a call too.

    Where nobody called the limit is taken to be what it was.
    """
    limit_per_s = None
    for number in range(min(slices, default=0), max(slices, default=-1) + 1):
        one = slices.get(number, Slice(limit_per_s))
        limit_per_s = one.limit_per_s
        yield number * slice_s, one


def bought_twice(seen: Mapping[str, Seen]) -> dict[str, int]:
    """Whatever was answered more than once, with how often; the most frequent first, so many at the most."""
    repeated = sorted(((name, one.useful) for name, one in seen.items() if one.useful > 1), key=lambda pair: -pair[1])
    return dict(repeated[:MOST_TOLD])

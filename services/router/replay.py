"""Stored requests once more, through another policy: where they would have run, and at what cost.

Requests come in the order they were accepted in, and time is theirs: thresholds are calibrated, budgets spent and
tenants' limits held as on that day. Costs are estimates: a request's own tokens, as they were counted, at the policy's
price or at what a token of that tier and model cost on average in these rows.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from services.router.assembly import trial
from services.router.decision import Decider, Refused
from services.router.health import Health
from services.router.ledger import Ledger
from services.router.scoring import Scores
from services.router.vectors import Embedding
from shared import database
from shared.brownout import Brownout
from shared.events import Request, ResponseCompleted, Route, Usage
from shared.onrecord import request_of
from shared.policy import Policy
from shared.vectors import Vector

if TYPE_CHECKING:
    from shared.database import Pool

SQL: Final = database.statements(Path(__file__).with_name("replay.sql"))
PATIENCE_S: Final = 120.0
REFUSED: Final = "refused"
UNKNOWN: Final = "unknown model"


@dataclass(frozen=True, slots=True)
class Stored:
    """A request that was run, and how.

    Attributes:
        embedding: of its prompt; None where none was kept.
        model: that answered.
        input_tokens: as the provider counted them; so are output_tokens.
        cost_usd: US dollars at list price.
    """

    request: Request
    embedding: Embedding | None
    tier: str
    model: str
    input_tokens: int
    output_tokens: int
    cost_usd: float

    @property
    def tokens(self) -> int:
        """Read and written."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A request that the other policy would have run elsewhere, and why."""

    stored: Stored
    tier: str
    reasons: Sequence[str]


@dataclass(slots=True)
class Replayed:
    """What came of all of them.

    Attributes:
        was: requests by the tier they ran at.
        would: requests by the tier they would have run at; ``refused`` and ``unknown model`` are of these too.
        was_usd: what they cost.
        would_usd: what they would have cost, by estimate.
        guessed: requests whose cost is not known, for no row was run so and the policy has no price: taken as it was.
    """

    was: Counter[str] = field(default_factory=Counter)
    would: Counter[str] = field(default_factory=Counter)
    was_usd: float = 0.0
    would_usd: float = 0.0
    guessed: int = 0
    disagreements: list[Disagreement] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """How many there were."""
        return self.was.total()

    def moves(self) -> Iterator[tuple[str, str, int]]:
        """From which tier to which, and how many requests; the most first."""
        moves = Counter((each.stored.tier, each.tier) for each in self.disagreements)
        for (was, would), count in moves.most_common():
            yield was, would, count


class Then:
    """A clock that shows the time of the request at hand."""

    def __init__(self, start: datetime) -> None:
        self._start = self._now = start

    def turn(self, to: datetime) -> None:
        """Never back."""
        self._now = max(self._now, to)

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return (self._now - self._start).total_seconds()

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError("nobody waits in a replay")


async def stored(pool: "Pool", since: datetime, until: datetime, *, tenant: str | None, limit: int) -> Sequence[Stored]:
    """The requests that were run within a time, the latest of them if they are many, in the order of acceptance.

    Raises:
        DatabaseUnavailable: PostgreSQL can't be asked.
    """
    async with database.reading("the stored requests", patience_s=PATIENCE_S):
        rows = await pool.fetch(SQL["routed"], since, until, tenant, limit)
    return sorted((_stored(dict(row)) for row in rows), key=lambda one: one.request.accepted_at)


def replay(rows: Sequence[Stored], policy: Policy, score: Scores) -> Replayed:
    """Route the rows by a policy whose prompts ``score`` scores."""
    done = Replayed()
    if not rows:
        return done
    clock = Then(rows[0].request.accepted_at)
    ledger = Ledger(clock)
    decider = trial(policy, score, ledger, Health(clock), Brownout(policy, clock), clock)
    prices = _Prices(rows, policy)
    for row in rows:
        clock.turn(row.request.accepted_at)
        tier, reasons = _decided(decider, row)
        runs = tier in policy.tiers
        estimate = prices.of(row, tier) if runs else 0.0
        cost_usd = row.cost_usd if estimate is None else estimate
        done.was[row.tier] += 1
        done.would[tier] += 1
        done.was_usd += row.cost_usd
        done.would_usd += cost_usd
        done.guessed += estimate is None
        if tier != row.tier:
            done.disagreements.append(Disagreement(row, tier, reasons))
        if runs:
            ledger.heard(_answer(row, tier, cost_usd, clock.now()))
    return done


def _decided(decider: Decider, row: Stored) -> tuple[str, Sequence[str]]:
    try:
        decided = decider.decide(row.request, row.embedding)
    except KeyError:
        return UNKNOWN, (f"the policy knows no model {row.request.model!r}",)
    match decided:
        case Refused(reason):
            return REFUSED, (reason,)
        case Route():
            return decided.tier, decided.reasons


class _Prices:
    """What requests cost elsewhere: by the policy's own price, or as tokens of that tier and model did on average."""

    def __init__(self, rows: Sequence[Stored], policy: Policy) -> None:
        self._policy = policy
        self._usd: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._tokens: Counter[tuple[str, str]] = Counter()
        for row in rows:
            self._usd[row.tier, row.model] += row.cost_usd
            self._tokens[row.tier, row.model] += row.tokens

    def of(self, row: Stored, tier: str) -> float | None:
        """US dollars of a request at a tier of the policy; None where nothing tells."""
        runs = self._policy.tiers[tier]
        if (tier, runs.model) == (row.tier, row.model):
            return row.cost_usd
        if (price := self._policy.prices.get(runs.priced_model)) is not None:
            return (price.input * row.input_tokens + price.output * row.output_tokens) / 1e6
        tokens = self._tokens[tier, runs.model]
        return self._usd[tier, runs.model] / tokens * row.tokens if tokens else None


def _answer(row: Stored, tier: str, cost_usd: float, now: datetime) -> ResponseCompleted:
    """The answer as the ledger would have heard of it."""
    request = row.request
    return ResponseCompleted(
        request_id=request.id,
        tenant=request.tenant,
        source=tier,
        output_text="",
        model=tier,
        tier=tier,
        usage=Usage(input_tokens=row.input_tokens, output_tokens=row.output_tokens),
        cost_usd=cost_usd,
        accepted_at=request.accepted_at,
        completed_at=now,
    )


def _stored(row: Mapping[str, Any]) -> Stored:
    embedding = row["embedding"]
    return Stored(
        request=request_of(row),
        embedding=None if embedding is None else Embedding(_unit(json.loads(embedding)), row["embedder"]),
        tier=row["tier"],
        model=row["model"] or "",
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        cost_usd=row["cost_usd"],
    )


def _unit(numbers: Sequence[float]) -> Vector:
    vector = np.array(numbers, dtype=np.float32)
    length = float(np.linalg.norm(vector))
    return vector / np.float32(length) if length else vector

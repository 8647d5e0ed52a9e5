"""Cheaper tiers first, a check, and only then the tier that a request was routed to (FrugalGPT, arXiv:2305.05176).

The check is that more than half of several answers say the same (self-consistency, arXiv:2203.11171), or a validator.
No more answers are bought than it takes: of three only two, where these agree. Whatever goes wrong, the request goes on
to its own tier, with at least half of the time that it had.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Final, Literal

import structlog

from services.inference.caller import Caller
from services.inference.cascade import agreement
from services.inference.cascade.validators import Validates, validator
from services.inference.completion import Completion
from services.inference.errors import DeadlineExceeded, ProviderError
from services.inference.lanes.choice import PATIENCE_S, Candidate, Choice
from services.inference.lanes.gate import Busy
from shared.clock import Clock
from shared.events import AUTO, Cascaded, Request, RequestRouted, Usage
from shared.policy import Policy
from shared.policy.tiers import AGREEMENT, JSON, CascadePolicy, Tier
from shared.telemetry import metrics

log = structlog.stdlib.get_logger(__name__)
# Of the time until a request's deadline, what its cheaper answers may take.
PART: Final = 0.5
# Times as dear as a first tier that a tier should be: below it pays little, or nothing (docs/cascade.md).
PAYS_FROM: Final = 15.0
CUT_SHORT: Final = "length"

Answer = tuple[Candidate, Completion]
PriceOf = Callable[[str, Usage], float | None]


@dataclass(frozen=True, slots=True)
class _Outcome:
    verdict: Literal["agreed", "differed", "valid", "invalid", "failed"]
    answer: Answer | None = None


class Cascades:
    """Tries cheaper tiers, where the policy says so."""

    def __init__(self, tiers: Mapping[str, Tier], choice: Choice, caller: Caller, clock: Clock) -> None:
        """Raises StartupError where the policy names a validator that can't be loaded."""
        self._choice = choice
        self._caller = caller
        self._clock = clock
        self._validators: Mapping[str, Validates] = {
            name: validator(f"tiers.{name}.cascade.check", tier.cascade.check, clock)
            for name, tier in tiers.items()
            if tier.cascade is not None and tier.cascade.check != AGREEMENT
        }

    async def tried(self, event: RequestRouted) -> tuple[RequestRouted, Answer | None]:
        """The request with what came of it, and the answer where that passed; as it was, where nothing was tried."""
        tier = event.route.tier
        terms = self._choice.terms(tier)
        left_s = event.seconds_left(self._clock.now())
        if terms.cascade is None or event.cascade is not None or left_s <= 0 or not suits(event.request, terms):
            return event, None
        tries = _Tries(event, terms.cascade, self._choice, self._caller, self._clock, PART * left_s)
        if terms.cascade.check == AGREEMENT:
            outcome = await tries.by_agreement()
        else:
            outcome = await tries.by_validator(self._validators[tier])
        metrics.CASCADES.labels(tier, outcome.verdict).inc()
        cascaded = Cascaded(
            first=terms.cascade.first,
            verdict=outcome.verdict,
            calls=tries.calls,
            cost_usd=tries.cost_usd,
        )
        return event.model_copy(update={"cascade": cascaded}), outcome.answer


class _Tries:
    """The cheaper answers to one request.

    Attributes:
        calls: that were made for them.
        cost_usd: US dollars of those that were answered, at list price.
    """

    def __init__(
        self, event: RequestRouted, terms: CascadePolicy, choice: Choice, caller: Caller, clock: Clock, within_s: float
    ) -> None:
        self._request = event.request
        self._terms = terms
        self._choice = choice
        self._caller = caller
        self._clock = clock
        self._until_s = clock.monotonic() + within_s
        # Without a key: an answer that comes too late to be checked is not kept for others.
        asked = event.request.model_copy(update={"temperature": _temperature(event.request, terms)})
        self._event = event.model_copy(update={"request": asked, "key": None})
        self.calls = 0
        self.cost_usd = 0.0

    async def by_agreement(self) -> _Outcome:
        """The first of the answers on which more than half agree."""
        tiers = islice(cycle(self._terms.first), self._terms.answers)
        needed = self._terms.answers // 2 + 1
        votes: defaultdict[agreement.Meaning, list[Answer]] = defaultdict(list)
        best: list[Answer] = []
        left, failed = self._terms.answers, False
        while needed - len(best) <= left:
            round_of = needed - len(best)
            left -= round_of
            for answer in await asyncio.gather(*(self._ask(tier) for tier in islice(tiers, round_of))):
                failed = failed or answer is None
                if answer is not None and (said := self._said(answer)) is not None:
                    votes[said].append(answer)
            best = max(votes.values(), key=len, default=[])
            if len(best) >= needed:
                return _Outcome("agreed", best[0])
        return _Outcome("failed" if failed else "differed")

    async def by_validator(self, validates: Validates) -> _Outcome:
        """The one answer, if the validator says yes."""
        answer = await self._ask(self._terms.first[0])
        if answer is None:
            return _Outcome("failed")
        whole = answer[1].finish_reason != CUT_SHORT
        if whole and await validates(self._request, answer[1].text, self._left_s):
            return _Outcome("valid", answer)
        return _Outcome("invalid")

    @property
    def _left_s(self) -> float:
        return self._until_s - self._clock.monotonic()

    def _said(self, answer: Answer) -> agreement.Meaning | None:
        completion = answer[1]
        return None if completion.finish_reason == CUT_SHORT else agreement.meaning(self._request, completion.text)

    async def _ask(self, tier: str) -> Answer | None:
        """One answer; None where there is none soon."""
        on = self._choice.next(tier, AUTO, ())
        if on.tier != tier or not on.gate.well or on.gate.wait_s() > min(PATIENCE_S, self._left_s):
            return None
        try:
            completion = await self._caller.call(self._event, on, self._left_s)
        except Busy:
            return None
        except (ProviderError, DeadlineExceeded) as error:
            self.calls += 1
            log.info("no cheaper answer", tier=tier, lane=on.lane.name, code=error.code, error=str(error))
            return None
        self.calls += 1
        self.cost_usd += completion.cost_usd
        return on, completion


def suits(request: Request, tier: Tier) -> bool:
    """Whether the answer to a request can be checked as its tier says; never where the request itself names a model."""
    terms = tier.cascade
    if terms is None or request.model != AUTO:
        return False
    if request.output_format is not None:
        return True
    if terms.check == JSON:
        return False
    most = min(request.max_output_tokens or tier.max_output_tokens, tier.max_output_tokens)
    if most <= terms.most_output_tokens:
        return True
    return terms.check == AGREEMENT and bool(agreement.options(request.prompt))


def warn_of_prices(policy: Policy, price: PriceOf) -> None:
    """Log each cascade whose tier is too cheap, at list prices, for it to pay; ``price`` is None for unknown ones."""
    for name, tier in policy.tiers.items():
        for first, ratio in _ratios(policy, tier, price):
            if ratio < PAYS_FROM:
                told = {"tier": name, "first": first, "times_as_dear": round(ratio, 1), "pays_from": PAYS_FROM}
                log.warning("a cascade hardly pays: its tier is not much dearer than the first one", **told)


def _ratios(policy: Policy, tier: Tier, price: PriceOf) -> Iterator[tuple[str, float]]:
    """How many times as dear a tier is as each of those that are tried first, for as many tokens in as out."""
    usage = Usage(input_tokens=1000, output_tokens=1000)
    for first in tier.cascade.first if tier.cascade else ():
        dear, cheap = (price(each.priced_model, usage) for each in (tier, policy.tiers[first]))
        if dear is not None and cheap:
            yield first, dear / cheap


def _temperature(request: Request, terms: CascadePolicy) -> float | None:
    """Two answers of one model at temperature 0 are alike, right or wrong."""
    return request.temperature or terms.temperature if terms.samples else request.temperature

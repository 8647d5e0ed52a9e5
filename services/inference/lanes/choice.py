"""Which lane a request is run on next."""

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.inference.lanes.gate import Gate
from shared.policy.tiers import LOCAL, Lane, Tier

# Seconds a call may wait for a lane while another of its tier is free.
SPILL_S: Final = 1.0
# Seconds a request holds a worker for a lane that is to be left alone, before it is put aside: so a whole tier that is
# away does not send its backlog round and round through the broker.
PATIENCE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A lane a request may run on, and as which tier."""

    tier: str
    terms: Tier
    lane: Lane
    gate: Gate
    patience_s: float = PATIENCE_S


class Choice:
    """Orders the lanes of a tier, and of those it falls back on."""

    def __init__(self, tiers: Mapping[str, Tier], gates: Mapping[str, Gate]) -> None:
        self._tiers = tiers
        self._gates = gates

    def knows(self, tier: str) -> bool:
        """Whether the policy has a tier of that name."""
        return tier in self._tiers

    def terms(self, tier: str) -> Tier:
        """The tier of that name."""
        return self._tiers[tier]

    def next(self, tier: str, model: str, failed: Collection[str]) -> Candidate:
        """The lane to call now.

        Of the lanes of the tier that are usable the first, by order and weight, that is free within a second, or else
        the one that is free soonest; those that have failed this request come last. Where none of the tier is usable,
        the same of the tier it falls back on. Where none is at all, the one that is said to be back soonest.

        Args:
            tier: that the request was routed to.
            model: that the request asks for: a lane or model of the tier keeps it there, if the tier has it.
            failed: names of the lanes that have failed this request since it was taken up.
        """
        groups = [*self._groups(tier, model)]
        for group in groups:
            usable = [candidate for candidate in group if candidate.gate.usable]
            fresh = [candidate for candidate in usable if candidate.lane.name not in failed]
            if usable:
                return _first(fresh or usable)
        soonest = min((candidate for group in groups for candidate in group), key=_wait_s)
        # A request that wants this very lane is not to keep a worker from the tier's others.
        waits = not any(self._gates[lane.name].usable for lane in soonest.terms.lanes)
        return soonest if waits else replace(soonest, patience_s=0.0)

    def another(self, tier: str, model: str, failed: Collection[str]) -> bool:
        """Whether the next lane is usable, and one that has not failed this request."""
        candidate = self.next(tier, model, failed)
        return candidate.gate.usable and candidate.lane.name not in failed

    def _groups(self, tier: str, model: str) -> Iterator[list[Candidate]]:
        """The lanes of the tier, then those of the tiers it falls back on, each tier once."""
        seen: set[str] = set()
        name: str | None = tier
        while name is not None and name not in seen:
            seen.add(name)
            terms = self._tiers[name]
            wanted = [lane for lane in terms.lanes if model in names(lane)] or terms.lanes
            yield [Candidate(name, terms, lane, self._gates[lane.name]) for lane in wanted]
            name = terms.fall_back


def _wait_s(candidate: Candidate) -> float:
    return candidate.gate.wait_s()


def _first(candidates: Sequence[Candidate]) -> Candidate:
    """The first that is free soon, or the one that is free soonest."""
    soon = (each for each in shuffled(candidates) if each.gate.wait_s() <= SPILL_S)
    return next(soon, None) or min(candidates, key=_wait_s)


def names(lane: Lane) -> frozenset[str]:
    """What a request may call a lane."""
    return frozenset((lane.name, lane.model, lane.name.removeprefix(LOCAL), lane.model.removeprefix(LOCAL)))


def shuffled(candidates: Sequence[Candidate]) -> list[Candidate]:
    """By order; those of one order by weighted sampling without replacement (Efraimidis and Spirakis, 2006)."""
    return sorted(candidates, key=lambda each: (each.lane.order, -(random.random() ** (1 / each.lane.weight))))

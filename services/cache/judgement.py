"""The cache decision: which of the nearest entries may be served, and what speaks against the others.

Read from top to bottom, it is what happens to a candidate: near enough? no guard and no classifier against it? proven,
where the policy wants proof? worth the risk, by what audits have taught? Only then is its answer served.
"""

import asyncio
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Final

from services.cache.batching import Batcher
from services.cache.learning.neighbours import AnswerGroups, weigh
from services.cache.learning.threshold import LearnedThreshold
from services.cache.lookup import Entry
from services.cache.verification.verifier import Pair, Verdict, Verifier
from shared.events import Evidence
from shared.policy import Policy
from shared.telemetry import metrics

SAME_PROMPT: Final = "same prompt"
VERIFIED: Final = "verified"
TOO_FAR: Final = "not similar enough"
QUARANTINED: Final = "quarantined"
CLASSIFIER: Final = "classifier"


@dataclass(frozen=True, slots=True)
class Considered:
    """One candidate, and what was found about it.

    Attributes:
        against: what speaks against serving it, in a word or two; None where nothing does.
        evidence: what the decision was made on; its probability is 0 where a guard spoke against it.
        risk: estimated probability that its answer is wrong here; None where it did not get that far.
        sampled: probability with which this hit is audited; 0 where it is not.
    """

    entry: Entry
    against: str | None
    evidence: Evidence
    risk: float | None = None
    sampled: float = 0.0

    @property
    def reason(self) -> str:
        """Why it was served, or why not."""
        return self.against or (SAME_PROMPT if self.entry.match == "exact" else VERIFIED)


class Judge:
    """Decides about candidates; one for all requests of a replica."""

    def __init__(self, policy: Policy, verifier: Verifier, learned: LearnedThreshold) -> None:
        self.groups = AnswerGroups()
        self._quarantine = policy.cache.audit.quarantine
        self._learned = learned
        self._verifier = verifier
        self._verify: Batcher[Pair, Verdict] = Batcher(self._verify_each)
        self.entries: int | None = None  # about how many there are; whoever counts says so

    async def _verify_each(self, pairs: Sequence[Pair]) -> Sequence[Verdict]:
        with metrics.VERIFY_SECONDS.time():
            return await asyncio.to_thread(self._verifier.judge, pairs)

    async def consider(self, prompt: str, nearest: Sequence[Entry], *, counts: bool = True) -> Sequence[Considered]:
        """What was found about the nearest entries, in their order, up to the one that a decision was made about.

        What the learned threshold bounds is a share of requests, so it decides once for each, or notes that it had
        nothing to decide. Where the request does not count, nothing is noted.
        """
        learned = self._learned if counts else copy(self._learned)  # deciding moves the cutoff
        considered = []
        groups = [self.groups.of(entry.entry_id) for entry in nearest]
        similarities = [entry.similarity for entry in nearest]
        for place, entry in enumerate(nearest):
            found = await self._consider(prompt, entry, weigh(groups, similarities, place), learned)
            considered.append(found)
            if found.risk is not None:
                return considered
        learned.unmatched()
        return considered

    def exact(self, entry: Entry) -> Considered:
        """The entry of the very prompt: nothing to verify."""
        evidence = Evidence(similarity=1.0, probability=1.0, good=entry.good, bad=entry.bad, category=entry.category)
        return Considered(entry, None, evidence)

    async def same(self, prompt: str, other: str, similarity: float) -> str | None:
        """What speaks against one answer for two prompts in flight; None where nothing does."""
        verdict = await self._verify(Pair(prompt, other, similarity))
        return None if verdict.same else verdict.reason

    async def _consider(
        self, prompt: str, entry: Entry, neighbours: tuple[float, float], learned: LearnedThreshold
    ) -> Considered:
        agreeing, opposing = neighbours
        evidence = Evidence(
            similarity=entry.similarity,
            probability=0.0,
            agreeing=agreeing,
            opposing=opposing,
            good=entry.good,
            bad=entry.bad,
            entries=self.entries,
            category=entry.category,
        )
        if entry.similarity < learned.floor(entry.category):
            return Considered(entry, TOO_FAR, evidence)
        verdict = await self._verify(Pair(prompt, entry.prompt, entry.similarity))
        if verdict.reason not in (None, CLASSIFIER):
            return Considered(entry, verdict.reason, evidence)  # a guard's word is final
        evidence = evidence.model_copy(
            update={"probability": verdict.probability, "objected": verdict.reason == CLASSIFIER}
        )
        if self._quarantine and not entry.good:
            return Considered(entry, QUARANTINED, evidence)
        decision = learned.decide(evidence)
        if not decision.serve:
            return Considered(entry, verdict.reason or decision.reason, evidence, decision.risk)
        sampled = decision.audit_probability if decision.audit else 0.0
        return Considered(entry, None, evidence, decision.risk, sampled)

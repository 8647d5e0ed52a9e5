"""The cache decision: which of the nearest entries may be served, and what speaks against the others.

Read from top to bottom, it is what happens to a candidate: near enough? nothing that forbids it? proven, where the
policy wants proof? worth the risk, by all that is known of it and by what audits have taught? Only then is its answer
served.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from services.cache.learning.lessons import Lessons
from services.cache.learning.neighbours import AnswerGroups, weigh
from services.cache.learning.threshold import EXACT_ONLY, LearnedThreshold
from services.cache.lookup import Entry
from services.cache.verification.guards import FORBIDDING, objection
from shared.events import Evidence
from shared.policy import Policy
from shared.telemetry import metrics

log = structlog.stdlib.get_logger(__name__)
SAME_PROMPT: Final = "same prompt"
VERIFIED: Final = "verified"
TOO_FAR: Final = "not similar enough"
QUARANTINED: Final = "quarantined"
UNREADABLE: Final = "unreadable"


@dataclass(frozen=True, slots=True)
class Considered:
    """One candidate, and what was found about it.

    Attributes:
        against: what speaks against serving it, in a word or two; None where nothing does.
        evidence: what the decision was made on.
        despite: what spoke against it and was outweighed by what audits have taught.
        comparable: whether its answer and a fresh one are worth comparing; not where it is too far away or forbidden.
        risk: estimated probability that its answer is wrong here; None where it did not get that far.
        sampled: probability with which this hit is audited; 0 where it is not.
        detail: what speaks against it in a sentence, where a word or two would not tell.
    """

    entry: Entry
    against: str | None
    evidence: Evidence
    despite: str | None = None
    comparable: bool = False
    risk: float | None = None
    sampled: float = 0.0
    detail: str = ""

    @property
    def reason(self) -> str:
        """Why it was served, or why not."""
        if self.against:
            return self.detail or self.against
        if self.despite:
            return f"learned, despite {self.despite}"
        return SAME_PROMPT if self.entry.match == "exact" else VERIFIED


class Judge:
    """Decides about candidates; one for all requests of a replica."""

    def __init__(self, policy: Policy, lessons: Lessons, verify: Callable[[str, str], str | None] = objection) -> None:
        """``verify`` says what speaks against one answer for two prompts."""
        self.groups = AnswerGroups()
        self._quarantine = policy.cache.audit.quarantine
        self._lessons = lessons
        self._verify = verify
        self.entries: int | None = None  # about how many there are; whoever counts says so

    def consider(
        self, prompt: str, nearest: Sequence[Entry], *, tenant: str, counts: bool = True
    ) -> Sequence[Considered]:
        """What was found about the nearest entries, in their order, up to the one that a decision was made about.

        What the learned threshold bounds is a share of requests, so it decides once for each, or notes that it had
        nothing to decide. Where the request does not count, nothing is noted.
        """
        learned = self._lessons.of(tenant) if counts else self._lessons.peek(tenant)
        considered = []
        groups = [self.groups.of(entry.entry_id) for entry in nearest]
        similarities = [entry.similarity for entry in nearest]
        for place, entry in enumerate(nearest):
            found = self._consider(prompt, entry, weigh(groups, similarities, place), learned)
            considered.append(found)
            if found.risk is not None:
                return considered
        learned.unmatched()
        return considered

    def exact(self, entry: Entry) -> Considered:
        """The entry of the very prompt: nothing to verify."""
        evidence = Evidence(similarity=1.0, good=entry.good, bad=entry.bad, category=entry.category)
        return Considered(entry, None, evidence)

    def shared(self, prompt: str, other: str, *, tenant: str) -> str | None:
        """What speaks against one answer for two prompts in flight; None where nothing does.

        Nothing is known of that answer yet: what audits have taught lets no pair through here that a guard is against.
        """
        if self._quarantine:
            return QUARANTINED
        if self._lessons.of(tenant).exact_only:
            return EXACT_ONLY
        return self._objection(prompt, other)

    def _objection(self, prompt: str, other: str) -> str | None:
        try:
            with metrics.VERIFY_SECONDS.time():
                return self._verify(prompt, other)
        except Exception:  # what a guard stumbles over is no reason to lose a request, nor to serve another's answer
            log.exception("a guard failed")
            return UNREADABLE

    def _consider(
        self, prompt: str, entry: Entry, neighbours: tuple[float, float], learned: LearnedThreshold
    ) -> Considered:
        agreeing, opposing = neighbours
        good, bad = self.groups.findings(entry.entry_id)
        evidence = Evidence(
            similarity=entry.similarity,
            agreeing=agreeing,
            opposing=opposing,
            good=good,
            bad=bad,
            entries=self.entries,
            category=entry.category,
        )
        if entry.similarity < learned.floor(entry.category):
            return Considered(entry, TOO_FAR, evidence)
        objection = self._objection(prompt, entry.prompt)
        if objection in FORBIDDING:
            return Considered(entry, objection, evidence)
        evidence = evidence.model_copy(update={"objected": objection is not None})
        if self._quarantine and not entry.good:
            return Considered(entry, QUARANTINED, evidence, comparable=True)
        if objection is not None and not learned.warm:
            return Considered(entry, objection, evidence, comparable=True)  # the next one may be free of doubt
        decision = learned.decide(evidence)
        if not decision.serve:
            return Considered(entry, objection or decision.reason, evidence, comparable=True, risk=decision.risk)
        sampled = decision.audit_probability if decision.audit else 0.0
        return Considered(entry, None, evidence, objection, comparable=True, risk=decision.risk, sampled=sampled)

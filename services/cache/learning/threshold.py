"""A threshold that learns: which near answers may be served, so that wrong ones stay within what the operator states.

A model estimates the risk that a candidate's answer is wrong here. It starts as the policy's static threshold and
learns from two kinds of label. *Audits* are bought: a sampled share of the hits is also run, and the answers are
compared. *Free* labels come with every near candidate that was not served: its request is run anyway.

What is bounded is the share of wrong answers among the requests that come as far as the lookup by meaning. Repeats of
the same words are left out, so that they can't dilute it. Serving in the order of risk until the bound is spent gives
the most hits; bounding the wrong share of the hits instead would forbid them where few requests are near anything, and
do least harm. ``most_risk`` bounds each hit besides.

The cutoff follows adaptive conformal inference (Gibbs & Candès, NeurIPS 2021), with expected errors, corrected by what
audits found, instead of observed ones. Audits are spread over the hits after Neyman (JRSS 97, 1934). vCache (Schroeder
et al., arXiv 2502.03771) learns a threshold for each entry instead, and needs four labels of one before its first hit.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final, Literal

from services.cache.learning.risk import UNIT, Features, RiskModel, features
from services.cache.learning.sampling import LEAST_SAMPLED, Z997, FadingSample
from shared.events import Evidence

Reason = Literal["static", "confident", "below threshold", "too risky", "too far", "exact only: bound not held"]
EXACT_ONLY: Final = "exact only: bound not held"
SERVED: Final = frozenset({"static", "confident"})

# How fast the cutoff follows the spending, in log risk: what is spent strays from the bound by no more than
# ln(most_risk / LEAST_CUTOFF) / PACE times the bound, that is by the errors 760 requests may have.
PACE: Final = 0.01
LEAST_CUTOFF: Final = 1e-4
# An audit stands for 20 hits or so; the model counts it as this many at the most. More made its weights a lottery of
# the few audits that find an error, and what a model needs of a sample is not its share but its range.
MOST_WEIGHT: Final = 2.0
# Share of the bound that is spent: the rest is for chance, and for what the estimate gets wrong.
AIM: Final = 0.92
# Labels that have to show that the bound would be held, before hits are served again.
PROBATION: Final = 200
# Audits, by their effective number, and requests before anybody can say that the bound is surely exceeded: the share of
# hits is not known before, and a single wrong answer among the first audits proves nothing.
LEAST_AUDITS: Final = 30
LEAST_REQUESTS: Final = 200


@dataclass(frozen=True, slots=True)
class Audited:
    """One label.

    Attributes:
        same: whether the entry's answer says the same as the fresh one.
        served: whether it was served, so that the label was bought.
        sampled: probability with which such a case is labelled; 1 for a free label.
    """

    evidence: Evidence
    same: bool
    served: bool
    sampled: float = 1.0


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with a candidate.

    Attributes:
        risk: estimated probability that its answer is wrong here.
        audit: whether to run the request as well, and compare.
        audit_probability: with which that was drawn; 0 where nothing is served.
    """

    serve: bool
    risk: float
    audit: bool
    audit_probability: float
    reason: Reason


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator states.

    Attributes:
        max_error: wrong answers, as a share of the requests that reach the lookup by meaning.
        threshold: cosine at which a hit is served until enough is learned.
        thresholds: the same for some categories of freshness.
        reach: how far below that cosine learning may go.
        most_risk: no hit is served at a higher estimated risk.
        audit_share: share of hits that is audited.
        warm_labels: labels before the model decides.
    """

    max_error: float = 0.01
    threshold: float = 0.85
    thresholds: Mapping[str, float] = field(default_factory=dict)
    reach: float = 0.35
    most_risk: float = 0.2
    audit_share: float = 0.05
    warm_labels: int = 200


@dataclass(frozen=True, slots=True)
class State:
    """The state in figures, for metrics.

    Attributes:
        labels: seen so far, free ones included.
        seen: audits among them.
        served_wrong: audits that found a wrong answer.
        false_hit_rate: share of wrong answers among hits, by recent audits; its 95 % interval is low to high.
        calibration: wrong answers that audits found, over those the model expected.
        cutoff: risk up to which hits are served.
        threshold: cosine at which a candidate reaches the cutoff, everything else about it being as usual; the static
            one until enough is learned.
        exact_only: whether hits by meaning are suspended.
    """

    labels: int
    seen: int
    served_wrong: int
    false_hit_rate: float
    low: float
    high: float
    calibration: float
    cutoff: float
    threshold: float
    exact_only: bool


class LearnedThreshold:
    """Decides about candidates, and learns from labels.

    The model depends on the labels and their order alone, so that replaying the audit log restores it; the cutoff, and
    whether hits are suspended, follow the requests this process sees. Memory is constant; a decision takes about 10 µs,
    a label 50.
    """

    def __init__(self, settings: Settings, random: Random) -> None:
        self._settings = settings
        self._random = random
        self._cutoff = settings.most_risk / 4
        self._model = RiskModel(self._cutoff)
        self._usual = features(Evidence(similarity=settings.threshold), settings.threshold)
        self._audits = FadingSample()
        self._labels = self._seen = self._served_wrong = self._tried = self._tried_wrong = 0
        self._hits = 0.5  # share of the last 1,000 requests or so; a guess that counts as 20 of them
        self._requests = 20
        self._spread = 0.15  # standard deviation of a label, over the last 100 hits or so
        self._exact_only = False

    def decide(self, evidence: Evidence) -> Decision:
        """Whether to serve a candidate that no guard forbids, and whether to audit that."""
        risk = self._model.risk(self._features(evidence))
        reason = EXACT_ONLY if self._exact_only else self._judge(evidence, risk)
        serve = reason in SERVED
        self._account(risk if serve else 0.0, hit=serve)
        if not serve:
            return Decision(False, risk, False, 0.0, reason)
        probability = self._audit_probability(risk)
        return Decision(True, risk, self._random.random() < probability, probability, reason)

    def floor(self, category: str) -> float:
        """The least cosine similarity that is worth verifying: nothing below it is served, nor learned from."""
        return self._static(category) - self._settings.reach

    @property
    def warm(self) -> bool:
        """Whether enough was learned to decide by it; before, the static threshold does."""
        return self._labels >= self._settings.warm_labels

    @property
    def exact_only(self) -> bool:
        """Whether hits by meaning are suspended, because the bound can't be held."""
        return self._exact_only

    def unmatched(self) -> None:
        """Note a request that has no candidate: it is one of those the bound is about."""
        self._account(0.0, hit=False)

    def learn(self, label: Audited) -> None:
        """Take in one label."""
        x = self._features(label.evidence)
        wrong = not label.same
        risk = self._model.risk(x)
        self._labels += 1
        self._usual += (x - self._usual) / min(self._labels, 1000)
        if label.served:
            self._seen += 1
            self._served_wrong += wrong
            self._audits.add(wrong=wrong, expected=risk, sampled=label.sampled)
            self._exact_only = self._exact_only or self._broken()
        elif self._exact_only:
            self._try(wrong=wrong and self._judge(label.evidence, risk) in SERVED)
        self._model.learn(x, wrong=wrong, weight=min(MOST_WEIGHT, 1 / max(label.sampled, LEAST_SAMPLED)))

    def state(self) -> State:
        """What is known now."""
        low, high = self._audits.interval()
        return State(
            labels=self._labels,
            seen=self._seen,
            served_wrong=self._served_wrong,
            false_hit_rate=self._audits.rate,
            low=low,
            high=high,
            calibration=self._audits.calibration,
            cutoff=self._cutoff,
            threshold=self._settings.threshold + UNIT * self._away(),
            exact_only=self._exact_only,
        )

    def _away(self) -> float:
        """How far from the static threshold the cosine is that reaches the cutoff, in units of the model."""
        return self._model.similarity_at(self._cutoff, self._usual) if self.warm else 0.0

    def _judge(self, evidence: Evidence, risk: float) -> Reason:
        static = self._static(evidence.category)
        if not self.warm:
            return "static" if evidence.similarity >= static and not evidence.objected else "below threshold"
        if evidence.similarity < static - self._settings.reach:
            return "too far"
        return "confident" if risk <= self._cutoff else "too risky"

    def _account(self, risk: float, *, hit: bool) -> None:
        """Let the cutoff rise by what a request earns, and fall by what it spends."""
        if self._exact_only:
            return
        self._requests = min(1000, self._requests + 1)
        self._hits += (hit - self._hits) / self._requests
        if self.warm:
            spent = min(1.0, risk * self._audits.calibration) / self._settings.max_error
            cutoff = self._cutoff * math.exp(PACE * (AIM - spent))
            self._cutoff = min(self._settings.most_risk, max(LEAST_CUTOFF, cutoff))

    def _audit_probability(self, risk: float) -> float:
        """More audits where more is to be learned: in proportion to the standard deviation of the label."""
        share = self._settings.audit_share
        deviation = math.sqrt(risk * (1 - risk))
        self._spread += 0.01 * (deviation - self._spread)
        return min(1.0, share * min(4.0, max(0.25, deviation / self._spread)))

    def _broken(self) -> bool:
        """Whether the bound is surely exceeded; very surely, as it is asked at each audit."""
        if self._audits.size < LEAST_AUDITS or self._requests < LEAST_REQUESTS:
            return False
        return self._audits.interval(Z997)[0] * self._hits > self._settings.max_error

    def _try(self, *, wrong: bool) -> None:
        """While nothing is served all labels are free: serve again once a round of them would have kept the bound."""
        self._tried += 1
        self._tried_wrong += wrong
        if self._tried == PROBATION:
            self._exact_only = self._tried_wrong > self._settings.max_error * PROBATION
            self._tried = self._tried_wrong = 0
            if not self._exact_only:
                self._audits = FadingSample()

    def _static(self, category: str) -> float:
        return self._settings.thresholds.get(category, self._settings.threshold)

    def _features(self, evidence: Evidence) -> Features:
        return features(evidence, self._static(evidence.category))

"""Between similar and the same: what an embedding overlooks.

A sentence embedding hardly moves when "3 months" becomes "4 months" or "safe" becomes "unsafe". So a near prompt is
verified before its answer is served, and in doubt there is no hit. First the guards, each a named reason to say no:
numbers, negation, names, who does what to whom. What they leave open, a small classifier weighs, from how well each
word of one prompt finds its like in the other.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final, Protocol

import numpy as np

from services.cache.verification import classifier
from services.cache.verification.classifier import Classifier
from services.cache.verification.features import Reading, features
from services.cache.verification.guards import Pairing, Reason, objection

# What is left over on a side must be made up for by nearness. Chosen on the public halves, QQP's pairs among them.
LEFTOVER_FLOOR: Final = 0.93
# A reading is about 30 KB: 16 MiB at most, and more than the hot entries of a replica.
READINGS_KEPT: Final = 512


class Reader(Protocol):
    """What reads texts; the embedder does."""

    def read_now(self, texts: Sequence[str]) -> Sequence[Reading]: ...


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt, an earlier one that has an answer, and the cosine of their vectors."""

    asked: str
    stored: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the answer of one prompt may be served for another.

    Attributes:
        probability: that both ask the same, as the classifier sees it; 0 where a guard spoke first.
        reason: what speaks against it; None when nothing does.
    """

    same: bool
    probability: float
    reason: Reason | None


class Verifier:
    """Judges pairs of prompts; safe to use from several threads."""

    def __init__(self, embedder: Reader, *, threshold: float | None = None, trained: Classifier | None = None) -> None:
        """``threshold`` is the least probability to serve; None stands for the one the weights were released with."""
        self._embedder = embedder
        self._classifier = trained or classifier.load()
        self._threshold = self._classifier.threshold if threshold is None else threshold
        self._kept: OrderedDict[str, Reading] = OrderedDict()
        self._lock = Lock()

    def judge(self, pairs: Sequence[Pair]) -> Sequence[Verdict]:
        """A verdict on each pair."""
        pairings = [Pairing(pair.asked, pair.stored) for pair in pairs]
        objections = [objection(pairing) for pairing in pairings]
        for n, (pairing, pair) in enumerate(zip(pairings, pairs, strict=True)):
            if objections[n] is None and pairing.leftover and pair.similarity < LEFTOVER_FLOOR:
                objections[n] = "content"
        open_ = [n for n, found in enumerate(objections) if found is None and not pairings[n].equal]
        readings = self._readings({text for n in open_ for text in (pairs[n].asked, pairs[n].stored)})
        verdicts = [Verdict(found is None, float(found is None), found) for found in objections]
        for n in tuple(open_):
            if readings[pairs[n].asked].truncated or readings[pairs[n].stored].truncated:
                verdicts[n] = Verdict(same=False, probability=0.0, reason="unreadable")
                open_.remove(n)
        if not open_:
            return verdicts
        seen = [
            features(pairings[n], readings[pairs[n].asked], readings[pairs[n].stored], pairs[n].similarity)
            for n in open_
        ]
        for n, probability in zip(open_, self._classifier.probability(np.stack(seen)).tolist(), strict=True):
            same = probability >= self._threshold
            verdicts[n] = Verdict(same, probability, None if same else "classifier")
        return verdicts

    def _readings(self, texts: set[str]) -> dict[str, Reading]:
        with self._lock:
            found = {text: self._kept[text] for text in texts if text in self._kept}
        missing = sorted(texts - found.keys())
        if missing:
            found |= zip(missing, self._embedder.read_now(missing), strict=True)
        with self._lock:
            for text, reading in found.items():
                self._kept[text] = reading
                self._kept.move_to_end(text)
            while len(self._kept) > READINGS_KEPT:
                self._kept.popitem(last=False)
        return found

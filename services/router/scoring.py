"""How much a prompt deserves a stronger model: a score, and what it is made of."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.router.signals import Signals, Text
from services.router.vectors import Embedding
from shared.policy.routing import RouterPolicy

RULES: Final = "rules"


@dataclass(frozen=True, slots=True)
class Scored:
    """What a scorer says of one prompt.

    Attributes:
        value: the higher, the stronger the model it deserves. Scores of two scorers can't be compared.
        fired: what made the score, for people.
        informed: whether anything spoke for or against at all; where nothing did, the policy's default decides.
        by: the scorer: ``rules``, or the version of a learned head.
        threshold: the scorer's own, between the two lowest tiers; None: the policy's thresholds are for its scores.
    """

    value: float
    fired: tuple[str, ...]
    informed: bool
    by: str
    threshold: float | None = None


# One who has a score for every prompt, with its embedding or without.
Scores = Callable[[str, Embedding | None], Scored]


class Rules:
    """The policy's rules: the weights of the signals that fire, added up.

    Half of real prompts fire none, and many of the others fire the same ones; among equals the longer prompt gains more
    by a stronger model. So the length adds a little at every doubling, too little to stand for a signal, and never
    takes away: two signals that just reach the threshold still do.
    """

    def __init__(self, policy: RouterPolicy) -> None:
        self._signals = Signals(policy.length, policy.words)
        self._weights = policy.weights
        self._short = policy.length.short

    def score(self, prompt: str, _: Embedding | None = None) -> Scored:
        """The score of a prompt; where no signal fires the length alone is scored, and that is not informed."""
        text = Text.read(prompt)
        fired = [(name, told, getattr(self._weights, name)) for name, told in self._signals.fired(text)]
        informed = bool(fired)
        if by_length := self._weights.length * math.log2(max(text.tokens, self._short) / self._short):
            fired.append(("length", f"{text.tokens} tokens", by_length))
        reasons = tuple(f"{name}: {evidence} ({weight:+.3g})" for name, evidence, weight in fired)
        return Scored(sum(weight for _, _, weight in fired), reasons, informed=informed, by=RULES)

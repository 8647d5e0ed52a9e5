"""How much a prompt deserves a stronger model: a score, and what it is made of."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from services.router.signals import Signals, estimated_tokens
from shared.policy.routing import RouterPolicy

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

RULES: Final = "rules"


@dataclass(frozen=True, slots=True)
class Scored:
    """What a scorer says of one prompt.

    Attributes:
        value: the higher, the stronger the model it deserves. Scores of two scorers can't be compared.
        fired: what made the score, for people.
        informed: whether anything spoke for or against at all; where nothing did, the policy's default decides.
        by: the scorer: ``rules``, or the version of a learned head.
    """

    value: float
    fired: tuple[str, ...]
    informed: bool
    by: str


class Scorer(Protocol):
    """Scores prompts."""

    def score(self, prompt: str, vector: "NDArray[float32] | None") -> Scored | None:
        """The score of a prompt; None where this scorer can say nothing, and the rules are to be asked.

        ``vector`` is its embedding of length 1; None where there is none.
        """
        ...


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

    def score(self, prompt: str, vector: "NDArray[float32] | None" = None) -> Scored:  # noqa: ARG002 - see Scorer
        """Never None: where no signal fires the length alone is scored, and that is not informed."""
        tokens = estimated_tokens(prompt)
        fired = [(name, told, getattr(self._weights, name)) for name, told in self._signals.fired(prompt, tokens)]
        informed = bool(fired)
        if by_length := self._weights.length * math.log2(max(tokens, self._short) / self._short):
            fired.append(("length", f"{tokens} tokens", by_length))
        reasons = tuple(f"{name}: {evidence} ({weight:+.3g})" for name, evidence, weight in fired)
        return Scored(sum(weight for _, _, weight in fired), reasons, informed=informed, by=RULES)

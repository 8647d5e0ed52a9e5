"""How much a prompt deserves a stronger model: a score, and what it is made of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from services.router.signals import Signals
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


# One who always has a score: the rules, or those who are asked where a head can say nothing.
Scores: TypeAlias = "Callable[[str, NDArray[float32] | None], Scored]"


class Scorer(Protocol):
    """Scores prompts."""

    def score(self, prompt: str, vector: "NDArray[float32] | None") -> Scored | None:
        """The score of a prompt; None where this scorer can say nothing, and the rules are to be asked.

        ``vector`` is its embedding of length 1; None where there is none.
        """
        ...


class Rules:
    """The policy's rules: the weights of the signals that fire, added up."""

    def __init__(self, policy: RouterPolicy) -> None:
        self._signals = Signals(policy.length, policy.words)
        self._weights = policy.weights

    def score(self, prompt: str, vector: "NDArray[float32] | None" = None) -> Scored:  # noqa: ARG002 - see Scorer
        """Never None: no signal is a score of 0 that is not informed."""
        fired = [(name, evidence, getattr(self._weights, name)) for name, evidence in self._signals.fired(prompt)]
        reasons = tuple(f"{name}: {evidence} ({weight:+g})" for name, evidence, weight in fired)
        return Scored(sum(weight for _, _, weight in fired), reasons, informed=bool(fired), by=RULES)

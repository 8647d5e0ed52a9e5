"""Which tier a request goes to."""

from pydantic import FiniteFloat, PositiveInt

from shared.events import Word
from shared.policy.section import Section


class Length(Section):
    """Estimated tokens at which a prompt counts as short or long."""

    short: PositiveInt
    long: PositiveInt


class Weights(Section):
    """What each signal adds to the score."""

    short: FiniteFloat
    long: FiniteFloat
    code: FiniteFloat
    maths: FiniteFloat
    reasoning: FiniteFloat
    simple: FiniteFloat
    steps: FiniteFloat
    constraints: FiniteFloat
    clauses: FiniteFloat
    questions: FiniteFloat


class Words(Section):
    """Words and phrases that make a signal."""

    reasoning: tuple[str, ...]
    simple: tuple[str, ...]
    code: tuple[str, ...]
    maths: tuple[str, ...]


class RouterPolicy(Section):
    """Which tier a request goes to."""

    default: Word
    below: Word
    above: Word
    threshold: FiniteFloat
    length: Length
    weights: Weights
    words: Words

"""Which tier a request goes to."""

from pathlib import Path

from pydantic import FiniteFloat, PositiveInt, ValidationInfo, field_validator

from shared.events import Word
from shared.policy.section import Section


class Length(Section):
    """Estimated tokens at which a prompt counts as short or long."""

    short: PositiveInt
    long: PositiveInt


class Weights(Section):
    """What each signal adds to the score; ``length`` at each doubling of the tokens, from ``length.short`` on."""

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
    length: FiniteFloat = 0.0


class Words(Section):
    """Words and phrases that make a signal."""

    reasoning: tuple[str, ...]
    simple: tuple[str, ...]
    code: tuple[str, ...]
    maths: tuple[str, ...]


class HeadPolicy(Section):
    """A learned head in place of the rules.

    Attributes:
        file: relative to the policy file's folder, or absolute.
        threshold: expected gain in quality from which ``above`` is taken; None for the one in the head's file.
    """

    file: Path
    threshold: FiniteFloat | None = None

    @field_validator("file")
    @classmethod
    def _beside_the_policy(cls, file: Path, info: ValidationInfo) -> Path:
        return Path((info.context or {}).get("folder", "")) / file


class RouterPolicy(Section):
    """Which tier a request goes to."""

    default: Word
    below: Word
    above: Word
    threshold: FiniteFloat
    length: Length
    weights: Weights
    words: Words
    head: HeadPolicy | None = None

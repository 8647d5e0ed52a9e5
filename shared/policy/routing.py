"""Which tier a request goes to."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    FiniteFloat,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from shared.events import Word
from shared.policy.section import Phrase, Section, Share, seconds


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

    reasoning: tuple[Phrase, ...]
    simple: tuple[Phrase, ...]
    code: tuple[Phrase, ...]
    maths: tuple[Phrase, ...]


class HeadPolicy(Section):
    """A learned head in place of the rules.

    Attributes:
        file: relative to the policy file's folder, or absolute.
        threshold: expected gain in quality from which the second tier is taken; None for the one in the head's file.
    """

    file: Path
    threshold: FiniteFloat | None = None

    @field_validator("file")
    @classmethod
    def _beside_the_policy(cls, file: Path, info: ValidationInfo) -> Path:
        return _beside(file, info)


class CalibrationPolicy(Section):
    """How thresholds are found from the scores of the recent requests.

    Attributes:
        half_life: seconds after which a score that was seen counts half.
        observations: scores that must have been seen before the thresholds give way to the calibrated ones.
    """

    half_life: Annotated[PositiveInt, BeforeValidator(seconds)] = 3600
    observations: PositiveInt = 200


class TenantRouting(Section):
    """What one tenant may have of the stronger tiers.

    Attributes:
        shares: of its requests, by tier, at the most.
        usd_per_day: US dollars at list price, per day (UTC), of the requests that are routed for it.
        over: what becomes of a request that would go over it: a lower tier, or an error.
    """

    shares: dict[Word, Share] = Field(default_factory=dict)
    usd_per_day: PositiveFloat | None = None
    over: Literal["lower", "error"] = "lower"

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if not self.shares and self.usd_per_day is None:
            raise ValueError("no limit: say shares or usd_per_day, or leave the tenant out")
        return self


class RouterPolicy(Section):
    """Which tier a request goes to.

    Attributes:
        ladder: the tiers to choose from, from the cheapest to the strongest.
        default: the tier of a prompt about which nothing is known.
        thresholds: the least score of each tier above the lowest.
        shares: of requests, for each tier above the lowest: the thresholds are then found from the recent scores.
        usd_per_day: US dollars at list price that all requests together may cost per day (UTC); lowers the shares.
        shadow: a policy file that is asked as well, and only counted; relative to this file's folder, or absolute.
        head: a learned one that is asked before the rules.
    """

    ladder: Annotated[tuple[Word, ...], Field(min_length=1)]
    default: Word
    thresholds: dict[Word, FiniteFloat] = Field(default_factory=dict)
    shares: dict[Word, Share] = Field(default_factory=dict)
    usd_per_day: PositiveFloat | None = None
    calibration: CalibrationPolicy = CalibrationPolicy()
    tenants: dict[Word, TenantRouting] = Field(default_factory=dict)
    shadow: Path | None = None
    head: HeadPolicy | None = None
    length: Length
    weights: Weights
    words: Words

    @field_validator("shadow")
    @classmethod
    def _beside_the_policy(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        return None if file is None else _beside(file, info)

    @property
    def upper(self) -> tuple[Word, ...]:
        """The tiers above the lowest, from the cheapest."""
        return self.ladder[1:]

    @property
    def calibrated(self) -> bool:
        """Whether the thresholds follow the recent scores."""
        return bool(self.shares) or self.usd_per_day is not None

    @model_validator(mode="after")
    def _is_a_ladder(self) -> Self:
        if len(set(self.ladder)) < len(self.ladder):
            raise ValueError("ladder: each tier once, from the cheapest to the strongest")
        if self.default not in self.ladder:
            raise ValueError(f"default: {self.default!r} is not on the ladder: {', '.join(self.ladder)}")
        _one_for_each(self.upper, "thresholds", self.thresholds)
        scores = [self.thresholds[tier] for tier in self.upper]
        if scores != sorted(scores):
            raise ValueError("thresholds: they must rise along the ladder")
        if self.shares:
            _one_for_each(self.upper, "shares", self.shares)
        if (together := sum(self.shares.values())) > 1:
            said = ", ".join(f"{tier} {share:g}" for tier, share in self.shares.items())
            raise ValueError(f"shares: {said}: together {together:g}, and there is no more than 1")
        if self.head is not None and len(self.ladder) > 2 and not self.shares:  # noqa: PLR2004 - a head knows of two
            raise ValueError("head: its file has one threshold; with more than two tiers, say shares")
        if self.usd_per_day is not None and self.default != self.ladder[0]:
            raise ValueError(f"usd_per_day: can't be held unless the default is the lowest tier, {self.ladder[0]}")
        if lowest := [name for name, tenant in self.tenants.items() if self.ladder[0] in tenant.shares]:
            raise ValueError(f"tenants.{lowest[0]}.shares: {self.ladder[0]} is the lowest tier: no limit to that")
        return self


def _beside(file: Path, info: ValidationInfo) -> Path:
    """A file beside the policy's own, unless its path is absolute."""
    return Path((info.context or {}).get("folder", "")) / file


def _one_for_each(upper: Sequence[str], table: str, said: Mapping[str, float]) -> None:
    """Raise ValueError naming the first tier that is missing from a table, or does not belong there."""
    known = ", ".join(upper) or "none"
    for tier in said:
        if tier not in upper:
            raise ValueError(f"{table}.{tier}: not one of the tiers above the lowest: {known}")
    for tier in upper:
        if tier not in said:
            raise ValueError(f"{table}.{tier}: missing; {table} has one for each tier above the lowest: {known}")

"""What is given up, and in which order, while requests wait too long."""

from itertools import pairwise
from typing import Annotated, Final, Self, get_args

from pydantic import BeforeValidator, ConfigDict, Field, PositiveInt, model_validator

from shared.events import LONGEST_TTL_S, BrownoutStep
from shared.policy.section import Section, seconds

# The ladder, from what is missed least to what is missed most.
LADDER: Final[tuple[BrownoutStep, ...]] = get_args(BrownoutStep)
# Some time: a step from 0 would hold always.
Span = Annotated[PositiveInt, Field(le=LONGEST_TTL_S), BeforeValidator(seconds)]


class Rung(Section):
    """One step of the ladder.

    Attributes:
        from_s: age of a tier's queue, in seconds, from which it holds for that tier; ``from`` in the file.
    """

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    from_s: Span = Field(alias="from")


class StaleAnswers(Rung):
    """Expired entries are served.

    Attributes:
        up_to: seconds past their expiry.
    """

    up_to: Span


class LongerDeadline(Rung):
    """Requests have more time than their deadlines leave.

    Attributes:
        by: so many seconds more.
    """

    by: Span


class BrownoutPolicy(Section):
    """The ladder; a step that is not given is never taken.

    Attributes:
        settle: a step that holds is over when the age is below this share of its ``from``.
    """

    cheaper_tier: Rung | None = None
    stale_answers: StaleAnswers | None = None
    longer_deadline: LongerDeadline | None = None
    shed_bulk: Rung | None = None
    settle: Annotated[float, Field(gt=0, lt=1)] = 0.5

    @model_validator(mode="after")
    def _rises(self) -> Self:
        for (before, lower), (step, higher) in pairwise(self.ages.items()):
            if higher < lower:
                raise ValueError(
                    f"{step}.from: {higher} s is less than that of {before} ({lower} s), which comes first"
                )
        return self

    @property
    def ages(self) -> dict[BrownoutStep, int]:
        """The age from which each step holds, in the order of the ladder."""
        rungs: dict[BrownoutStep, Rung | None] = {
            "cheaper_tier": self.cheaper_tier,
            "stale_answers": self.stale_answers,
            "longer_deadline": self.longer_deadline,
            "shed_bulk": self.shed_bulk,
        }
        return {step: rung.from_s for step in LADDER if (rung := rungs[step]) is not None}

    @property
    def kept_past_expiry_s(self) -> int:
        """Seconds that an expired entry is kept for this."""
        return self.stale_answers.up_to if self.stale_answers else 0

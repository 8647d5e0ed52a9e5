"""When a topic counts as trending, and how old an answer about it may be."""

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from shared.events import LONGEST_TTL_S
from shared.policy.section import Section, seconds

# Some time: zero would never end, or never begin.
Span = Annotated[PositiveInt, Field(le=LONGEST_TTL_S), BeforeValidator(seconds)]


class TrendsPolicy(Section):
    """When a topic trends.

    Attributes:
        fast: time constant of the rate that says how much a topic is asked for now, in seconds.
        slow: of the rate that says how much it usually is.
        ratio: how many times its usual share a topic must have.
        floor: how unlikely that must be by chance: twice the log-likelihood ratio of the two rates.
        settle: a topic that trends has settled when it is below so many times its usual share.
        prior: usual share that every topic is credited with, so that a rare one does not trend over a few requests.
        max_topics: topics counted at a time; the rarest ones of the tenants that have most give way.
        max_trending: topics that trend at a time; the most unlikely ones come first, and tenants with more make room.
        max_age: seconds an answer about a trending topic may be old.
        across_tenants: whether all tenants' requests are counted together, and trend for all of them.
    """

    enabled: bool = True
    fast: Span = 180
    slow: Span = 10_800
    ratio: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 4.0
    floor: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 36.0
    settle: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.5
    prior: Annotated[float, Field(gt=0, lt=1)] = 0.001
    max_topics: Annotated[int, Field(ge=100, le=1_000_000)] = 20_000
    max_trending: Annotated[int, Field(ge=1, le=1000)] = 100
    max_age: Span = 900
    across_tenants: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.fast * 4 > self.slow:
            raise ValueError(
                f"fast and slow: {self.fast} s and {self.slow} s; slow must be at least four times fast, or the usual "
                "rate is over before it can be told from the present one"
            )
        if self.settle >= self.ratio:
            raise ValueError(f"settle: {self.settle:g} must be below ratio ({self.ratio:g}), or topics come and go")
        return self

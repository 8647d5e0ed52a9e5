"""How long an answer may be reused."""

from typing import Annotated

from pydantic import BeforeValidator, Field, PositiveInt

from shared.events import LONGEST_TTL_S
from shared.policy.section import Duration, Section, Share, seconds


class Category(Section):
    """Answers that may be reused for the same time."""

    ttl: Annotated[PositiveInt, Field(le=LONGEST_TTL_S), BeforeValidator(seconds)]
    words: tuple[str, ...] = ()
    threshold: Share | None = None
    stale_while_revalidate: Duration = 0


class FreshnessPolicy(Section):
    """How long an answer may be reused."""

    default: str
    categories: dict[str, Category]

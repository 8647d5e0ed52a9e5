"""How long an answer may be reused: categories, what leads to them, and what a tenant wants otherwise."""

from dataclasses import dataclass
from typing import Annotated, Final, Literal, Self, get_args

from pydantic import BeforeValidator, Field, NonNegativeInt, model_validator

from shared.events import LONGEST_TTL_S, Word
from shared.policy.section import Duration, Phrase, Section, Share, seconds

NEVER: Final = "none"
# What a prompt can be told of without having learned it; services/router/freshness/rules.py says how.
Rule = Literal["task", "moment", "recent", "price", "weather", "score", "news", "office", "year"]
RULES: Final[tuple[Rule, ...]] = get_args(Rule)
# What the classifier can tell the probability of: that the answer changes within a day … within a year, or ever.
Horizon = Literal["1d", "7d", "30d", "90d", "1y", "3y", "ever"]
HORIZONS: Final[tuple[Horizon, ...]] = get_args(Horizon)


def _ttl(value: object) -> object:
    """Seconds to live; 0 for "none", which is the one way to say it: a 0 is rather a mistake."""
    if value == NEVER:
        return 0
    never = 'for answers that are never kept write "none"'
    try:
        read = seconds(value)
    except ValueError as error:
        raise ValueError(f"{error}; {never}") from None
    if read == 0:
        raise ValueError(f"must be longer than 0; {never}")
    return read


Ttl = Annotated[NonNegativeInt, Field(le=LONGEST_TTL_S), BeforeValidator(_ttl)]


class Category(Section):
    """Answers that may be reused for the same time.

    Attributes:
        ttl: seconds; 0, which the file calls "none", for never.
        words: of a prompt that belongs here.
        rules: that lead here.
        changes_within: with ``probability``: the classifier leads here where it takes it for at least so probable that
            the answer changes within this time.
    """

    ttl: Ttl
    words: tuple[Phrase, ...] = ()
    rules: tuple[Rule, ...] = ()
    changes_within: Horizon | None = None
    probability: Annotated[float, Field(gt=0, lt=1)] | None = None
    threshold: Share | None = None
    stale_while_revalidate: Duration = 0

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.changes_within is None) != (self.probability is None):
            known = ", ".join(HORIZONS)
            raise ValueError(f"changes_within (one of {known}) and probability (between 0 and 1) need each other")
        return self


class ClassifierPolicy(Section):
    """The trained classifier."""

    enabled: bool = True


class TenantFreshness(Section):
    """What one tenant wants otherwise: another default, other times to live."""

    default: str | None = None
    not_english: str | None = None
    ttl: dict[str, Ttl] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Default:
    """The category of prompts of which nothing is known, and what it is called in a reason."""

    category: str
    name: str


class FreshnessPolicy(Section):
    """How long an answer may be reused.

    Attributes:
        default: category of prompts of which nothing is known.
        not_english: category of those in another language, which rules and classifier can't read; None for ``default``.
    """

    default: str
    not_english: str | None = None
    categories: dict[str, Category]
    classifier: ClassifierPolicy = ClassifierPolicy()
    tenants: dict[Word, TenantFreshness] = Field(default_factory=dict)

    def mistake(self) -> str | None:
        """What refers to a category that there is none of, or to one of two; None where all is well."""
        known = ", ".join(self.categories)
        names = [("default", self.default), ("not_english", self.not_english)]
        for tenant, own in self.tenants.items():
            names += [(f"tenants.{tenant}.default", own.default), (f"tenants.{tenant}.not_english", own.not_english)]
            names += [(f"tenants.{tenant}.ttl.{name}", name) for name in own.ttl]
        for key, name in names:
            if name is not None and name not in self.categories:
                return f"{key}: {name!r} is not one of the categories: {known}"
        leads: dict[Rule, str] = {}
        for name, category in self.categories.items():
            for rule in category.rules:
                if leads.setdefault(rule, name) != name:
                    return f"categories.{name}.rules: {rule!r} leads to {leads[rule]!r} already, take one out"
        return None

    def default_of(self, tenant: str, *, english: bool = True) -> Default:
        """What a tenant's prompts fall into of which nothing is known.

        What the tenant says of its prompts comes before what the policy says of all, and what is said of other
        languages before what is said of any.
        """
        own = self.tenants.get(tenant, TenantFreshness())
        for category, name in (
            (None if english else own.not_english, "the tenant's default for other languages"),
            (own.default, "the tenant's default"),
            (None if english else self.not_english, "the default for other languages"),
        ):
            if category is not None:
                return Default(category, name)
        return Default(self.default, "the default")

    def stale_s(self, category: str) -> int:
        """Seconds that an expired answer of a category may be served while a new one is bought."""
        known = self.categories.get(category)
        return 0 if known is None else known.stale_while_revalidate

    def longest_of(self, category: str, tenant: str) -> int | None:
        """Seconds after which an answer of a category is not served to a tenant, whoever's it was and whatever was said
        when it was stored; None where the policy knows no such category.
        """
        known = self.categories.get(category)
        return None if known is None else self.ttl_of(category, tenant) + known.stale_while_revalidate

    def ttl_of(self, category: str, tenant: str) -> int:
        """Seconds that a tenant's answers of a category may be reused; 0 for never."""
        own = self.tenants.get(tenant)
        return self.categories[category].ttl if own is None else own.ttl.get(category, self.categories[category].ttl)

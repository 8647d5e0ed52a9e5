"""The policy file: tiers, prices, routing, cache and freshness, validated as a whole before a service starts."""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from shared.errors import InvalidPolicy
from shared.events import AUTO, Word

LOCAL: Final = "local/"
LONGEST_TTL_S: Final = 10 * 365 * 86_400
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(value: object) -> object:
    """A duration in seconds from a number, or from text such as ``"15m"``; units are s, m, h and d."""
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+)\s*([smhd])", value.strip())
        if match is None:
            raise ValueError(f"{value!r} is no duration: write seconds as a number, or text such as '15m', '12h', '7d'")
        return int(match[1]) * _UNITS[match[2]]
    return value


class Section(BaseModel):
    """A table of the file: unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Tier(Section):
    """One class of model."""

    model: Annotated[str, Field(min_length=1)]
    price_as: str | None = None
    max_output_tokens: PositiveInt = 512
    timeout_s: PositiveFloat = 60
    attempts: PositiveInt = 5
    give_up_after_s: PositiveFloat = 120

    @property
    def priced_model(self) -> str:
        """The model whose list price counts."""
        return self.price_as or self.model

    @property
    def local(self) -> bool:
        """Whether the model is behind FOREBAY_LOCAL_MODEL_URL."""
        return self.model.startswith(LOCAL)


class Price(Section):
    """US dollars per million tokens."""

    input: NonNegativeFloat
    output: NonNegativeFloat


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


class CachePolicy(Section):
    """When an earlier answer may be served."""

    enabled: bool = True
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.95
    candidates: Annotated[int, Field(ge=1, le=20)] = 3
    max_prompt_chars: PositiveInt = 2000
    leader_patience_s: PositiveFloat = 30
    max_waiting: PositiveInt = 1000


class Category(Section):
    """Answers that may be reused for the same time."""

    ttl: Annotated[PositiveInt, Field(le=LONGEST_TTL_S), BeforeValidator(seconds)]
    words: tuple[str, ...] = ()


class FreshnessPolicy(Section):
    """How long an answer may be reused."""

    default: str
    categories: dict[str, Category]


class Policy(Section):
    """The whole file."""

    tiers: Annotated[dict[Word, Tier], Field(min_length=1)]
    prices: dict[str, Price] = Field(default_factory=dict)
    router: RouterPolicy
    cache: CachePolicy = Field(default_factory=CachePolicy)
    freshness: FreshnessPolicy

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        for key in ("default", "below", "above"):
            name = getattr(self.router, key)
            if name not in self.tiers:
                raise ValueError(f"router.{key}: {name!r} is not one of the tiers: {', '.join(self.tiers)}")
        if self.freshness.default not in self.freshness.categories:
            known = ", ".join(self.freshness.categories)
            raise ValueError(f"freshness.default: {self.freshness.default!r} is not one of the categories: {known}")
        for reserved in (AUTO, "cache", "coalesced"):
            if reserved in self.tiers:
                raise ValueError(f"tiers.{reserved}: the name {reserved!r} is taken; call the tier something else")
        return self

    def tier_of(self, model: str) -> str | None:
        """The tier a request asks for by ``model``: a tier's name or its model's name; None for ``auto``.

        Raises:
            KeyError: the policy knows no such model.
        """
        if model == AUTO:
            return None
        if model in self.tiers:
            return model
        for name, tier in self.tiers.items():
            if model in (tier.model, tier.model.removeprefix(LOCAL)):
                return name
        raise KeyError(model)


def load_policy(path: Path) -> Policy:
    """Read and validate the policy file.

    Raises:
        InvalidPolicy: the file is missing, is no TOML, or has wrong keys; the message names each.
    """
    try:
        return parse_policy(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InvalidPolicy(f"{path}: {error.strerror}; set FOREBAY_POLICY_FILE") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidPolicy(f"{path}: {error}") from None
    except InvalidPolicy as error:
        raise InvalidPolicy(f"{path}: {error}") from None


def parse_policy(data: dict[str, Any]) -> Policy:
    """Validate a policy that was read already; raises InvalidPolicy naming the keys that are wrong."""
    try:
        return Policy.model_validate(data)
    except ValidationError as error:
        faults = []
        for fault in error.errors(include_url=False):
            key = ".".join(str(part) for part in fault["loc"] if part != "[key]")
            message = fault["msg"].removeprefix("Value error, ")
            faults.append(f"{key}: {message}" if key else message)
        raise InvalidPolicy("; ".join(faults)) from None

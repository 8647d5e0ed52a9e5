"""The policy file: tiers, prices, routing, cache and freshness, validated as a whole before a service starts."""

import re
import tomllib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from shared.errors import InvalidPolicy
from shared.events import AUTO, LONGEST_TTL_S, Freshness, Word

LOCAL: Final = "local/"
BUILTIN: Final = "builtin"
BUILTIN_DIMENSIONS: Final = 384
# What pgvector can index of half-precision vectors (HNSW).
MOST_DIMENSIONS: Final = 4000
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


Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Duration = Annotated[NonNegativeInt, Field(le=LONGEST_TTL_S), BeforeValidator(seconds)]


class AuditPolicy(Section):
    """How the cache checks itself."""

    enabled: bool = True
    share: Share = 0.05
    max_per_hour: NonNegativeInt = 120
    max_error: Annotated[float, Field(gt=0, lt=1)] = 0.01
    agreement: Share = 0.8
    quarantine: bool = False


class RefreshPolicy(Section):
    """Buying an answer anew before it is missed."""

    enabled: bool = True
    popular_hits: PositiveInt = 3
    from_share_of_ttl: Annotated[float, Field(gt=0, le=1)] = 0.8
    max_per_hour: NonNegativeInt = 120


class FrontPolicy(Section):
    """The entries each replica keeps in memory."""

    max_entries: PositiveInt = 20_000
    max_bytes: PositiveInt = 64 * 2**20


class BoundsPolicy(Section):
    """How many entries are kept."""

    max_entries: PositiveInt = 1_000_000
    max_entries_per_tenant: PositiveInt = 200_000
    max_answer_chars: PositiveInt = 100_000


class EmbedderPolicy(Section):
    """What turns prompts into vectors.

    Attributes:
        model: ``builtin``, or an embedding model by litellm's name, or ``local/…``.
        dimensions: of its vectors; the built-in model's are known.
        previous: the model whose entries are to be embedded anew.
    """

    model: Annotated[str, Field(min_length=1)] = BUILTIN
    dimensions: Annotated[int, Field(ge=1, le=MOST_DIMENSIONS)] | None = None
    previous: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _dimensions_are_known(self) -> Self:
        if self.builtin and self.dimensions is not None:
            raise ValueError("dimensions: those of the built-in model are fixed; leave them out")
        if not self.builtin and self.dimensions is None:
            raise ValueError(
                f"dimensions: say how many numbers a vector of {self.model} has, {MOST_DIMENSIONS} at most"
            )
        return self

    @property
    def builtin(self) -> bool:
        """Whether the model runs in the cache's own process."""
        return self.model == BUILTIN

    @property
    def length(self) -> int:
        """Numbers in a vector."""
        return self.dimensions or BUILTIN_DIMENSIONS

    @property
    def bought(self) -> frozenset[str]:
        """The models that inference is asked for; replicas with the earlier policy still ask for the previous one."""
        return frozenset(name for name in (self.model, self.previous) if name not in (None, BUILTIN))


class CachePolicy(Section):
    """When an earlier answer may be served."""

    enabled: bool = True
    threshold: Share = 0.85
    candidates: Annotated[int, Field(ge=1, le=20)] = 8
    max_prompt_chars: PositiveInt = 2000
    leader_patience_s: PositiveFloat = 30
    max_waiting: PositiveInt = 1000
    pools: dict[Word, tuple[Word, ...]] = Field(default_factory=dict)
    never: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    audit: AuditPolicy = AuditPolicy()
    refresh: RefreshPolicy = RefreshPolicy()
    front: FrontPolicy = FrontPolicy()
    bounds: BoundsPolicy = BoundsPolicy()
    embedder: EmbedderPolicy = EmbedderPolicy()

    @model_validator(mode="after")
    def _one_pool_each(self) -> Self:
        pooled = [tenant for tenants in self.pools.values() for tenant in tenants]
        twice = sorted({tenant for tenant in pooled if pooled.count(tenant) > 1})
        if twice:
            raise ValueError(f"pools: {', '.join(twice)} in more than one pool; a tenant shares with one at the most")
        return self

    def pool_of(self, tenant: str) -> str | None:
        """The shared pool a tenant is in; None for a tenant that keeps its answers to itself."""
        return next((pool for pool, tenants in self.pools.items() if tenant in tenants), None)

    def owner_of(self, tenant: str) -> tuple[str, str]:
        """Whose answers a tenant is given: ``("pool", …)`` or ``("tenant", …)``."""
        pool = self.pool_of(tenant)
        return ("tenant", tenant) if pool is None else ("pool", pool)


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

    def threshold_of(self, category: str) -> float:
        """The least cosine similarity at which an entry of a freshness category may be served."""
        known = self.freshness.categories.get(category)
        return self.cache.threshold if known is None or known.threshold is None else known.threshold

    def lifetime(self, freshness: Freshness, since: datetime) -> tuple[datetime, datetime]:
        """Until when an answer is fresh, and until when it may be served at all, while a new one is bought."""
        known = self.freshness.categories.get(freshness.category)
        expires_at = since + timedelta(seconds=freshness.ttl_s)
        return expires_at, expires_at + timedelta(seconds=known.stale_while_revalidate if known else 0)

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

"""When an earlier answer may be served, and how the cache checks itself."""

from typing import Annotated, Final, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from shared.events import Word
from shared.policy.section import Phrase, Section, Share

BUILTIN: Final = "builtin"
BUILTIN_DIMENSIONS: Final = 384
# What pgvector can index of half-precision vectors (HNSW).
MOST_DIMENSIONS: Final = 4000


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
    never: dict[str, tuple[Phrase, ...]] = Field(default_factory=dict)
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

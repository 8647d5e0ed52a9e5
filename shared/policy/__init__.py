"""The policy file, validated as a whole before a service starts."""

import tomllib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from shared.errors import InvalidPolicy
from shared.events import AUTO, Freshness, Word
from shared.faults import told
from shared.policy.admission import AdmissionPolicy
from shared.policy.brownout import BrownoutPolicy
from shared.policy.caching import CachePolicy
from shared.policy.freshness import FreshnessPolicy
from shared.policy.routing import RouterPolicy
from shared.policy.section import Section
from shared.policy.tiers import LOCAL, Lane, Price, Tier, conflicting
from shared.policy.trends import TrendsPolicy


class Policy(Section):
    """The whole file."""

    tiers: Annotated[dict[Word, Tier], Field(min_length=1)]
    prices: dict[str, Price] = Field(default_factory=dict)
    admission: AdmissionPolicy = AdmissionPolicy()
    brownout: BrownoutPolicy = BrownoutPolicy()
    router: RouterPolicy
    cache: CachePolicy = Field(default_factory=CachePolicy)
    freshness: FreshnessPolicy
    trends: TrendsPolicy = TrendsPolicy()

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        if unknown := [name for name in self.router.ladder if name not in self.tiers]:
            raise ValueError(f"router.ladder: {', '.join(unknown)}: not one of the tiers: {', '.join(self.tiers)}")
        for name, tenant in self.router.tenants.items():
            if unknown := [tier for tier in tenant.shares if tier not in self.tiers]:
                known = ", ".join(self.tiers)
                raise ValueError(f"router.tenants.{name}.shares.{unknown[0]}: not one of the tiers: {known}")
        for name, tier in self.tiers.items():
            if tier.fall_back is not None and (tier.fall_back == name or tier.fall_back not in self.tiers):
                raise ValueError(f"tiers.{name}.fall_back: {tier.fall_back!r} is not another of the tiers")
            first = tier.cascade.first if tier.cascade else ()
            if unknown := [each for each in first if each == name or each not in self.tiers]:
                raise ValueError(f"tiers.{name}.cascade.first: {', '.join(unknown)}: not one of the other tiers")
        if differs := next(conflicting(self.tiers), None):
            raise ValueError(f"tiers: the lane {differs!r} is another deployment in another tier; give it another name")
        if mistake := self.freshness.mistake():
            raise ValueError(f"freshness.{mistake}")
        for reserved in (AUTO, "cache", "coalesced"):
            if reserved in self.tiers:
                raise ValueError(f"tiers.{reserved}: the name {reserved!r} is taken; call the tier something else")
        return self

    @property
    def lanes(self) -> dict[str, Lane]:
        """All lanes by name; one that serves several tiers is one lane."""
        return {lane.name: lane for tier in self.tiers.values() for lane in tier.lanes}

    def threshold_of(self, category: str) -> float:
        """The least cosine similarity at which an entry of a freshness category may be served."""
        known = self.freshness.categories.get(category)
        return self.cache.threshold if known is None or known.threshold is None else known.threshold

    def lifetime(self, freshness: Freshness, since: datetime) -> tuple[datetime, datetime]:
        """Until when an answer is fresh, and until when it is kept: for as long as it may be served while a new one is
        bought, or in a brownout.
        """
        expires_at = since + timedelta(seconds=freshness.ttl_s)
        past_s = max(self.freshness.stale_s(freshness.category), self.brownout.kept_past_expiry_s)
        return expires_at, expires_at + timedelta(seconds=past_s)

    @property
    def names(self) -> tuple[str, ...]:
        """What a request may ask for by ``model``."""
        models = {tier.model.removeprefix(LOCAL) for tier in self.tiers.values()}
        return (AUTO, *self.tiers, *sorted(models))

    def tier_of(self, model: str) -> str | None:
        """The tier a request asks for by ``model``: a tier, or one of its lanes or models; None for ``auto``.

        Raises:
            KeyError: the policy knows no such model.
        """
        if model == AUTO:
            return None
        if model in self.tiers:
            return model
        for name, tier in self.tiers.items():
            known = {lane.name for lane in tier.lanes} | {lane.model for lane in tier.lanes}
            if model in known | {each.removeprefix(LOCAL) for each in known}:
                return name
        raise KeyError(model)


def load_policy(path: Path, *, named_by: str | None = None) -> Policy:
    """Read and validate the policy file; ``named_by`` is what its path comes from, to be told where there is no file.

    Raises:
        InvalidPolicy: the file is missing, is no TOML, or has wrong keys; the message names each.
    """
    try:
        return parse_policy(tomllib.loads(path.read_text(encoding="utf-8")), folder=path.absolute().parent)
    except OSError as error:
        source = f", named by {named_by}" if named_by else ""
        raise InvalidPolicy(f"{path}: {error.strerror}{source}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidPolicy(f"{path}: {error}") from None
    except InvalidPolicy as error:
        raise InvalidPolicy(f"{path}: {error}") from None


def parse_policy(data: dict[str, Any], *, folder: Path | None = None) -> Policy:
    """Validate a policy that was read already; raises InvalidPolicy naming the keys that are wrong.

    ``folder`` is what relative paths in it start from; None stands for the working directory.
    """
    try:
        return Policy.model_validate(data, context={"folder": folder or Path()})
    except ValidationError as error:
        raise InvalidPolicy(told(error)) from None

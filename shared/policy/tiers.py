"""The tiers: classes of model, the lanes that serve each, and what they cost."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    HttpUrl,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from shared.events import Word
from shared.policy.section import Section

LOCAL: Final = "local/"
# What a tier with one lane may say of it, beside its model.
ONE_LANE: Final = ("requests_per_minute", "tokens_per_minute", "concurrency")
# Stands in while the fault of a lane without a model is told.
_UNKNOWN: Final = "?"
# Of a lane; other than a tier's it is no word of a routing key: by default it is litellm's name of the model.
LaneName = Annotated[str, Field(min_length=1, max_length=200)]


class Lane(Section):
    """One deployment of one model: a provider, a model, a key and a region, with limits of its own.

    Attributes:
        name: what signals, metrics and results call it.
        model: litellm's name of the model, or ``local/…``.
        price_as: the model whose list price counts.
        order: lanes of a lower order come first; those of a higher one take over where these can't.
        weight: share of the calls among lanes of one order.
        api_base: address of the server, where it is not the provider's usual one.
        api_key_env: the environment variable that holds its key, where it is not the provider's usual one.
        options: what litellm is to be told besides, such as ``aws_region_name`` or ``api_version``.
        requests_per_minute: what the provider allows; None: it is learned.
        tokens_per_minute: the same for tokens, those of prompt and answer together.
        concurrency: calls under way at a time, over all replicas; None: it is learned.
    """

    name: LaneName
    model: Annotated[str, Field(min_length=1)]
    price_as: str | None = None
    order: NonNegativeInt = 0
    weight: PositiveFloat = 1.0
    api_base: HttpUrl | None = None
    api_key_env: str | None = None
    options: dict[str, str] = Field(default_factory=dict)
    requests_per_minute: PositiveFloat | None = None
    tokens_per_minute: PositiveFloat | None = None
    concurrency: PositiveInt | None = None

    @property
    def priced_model(self) -> str:
        """The model whose list price counts."""
        return self.price_as or self.model

    @property
    def deployment(self) -> Mapping[str, object]:
        """What must be the same wherever a lane of this name is listed: all but its place and its price there."""
        return self.model_dump(exclude={"price_as", "order", "weight"})


AGREEMENT: Final = "agreement"
JSON: Final = "json"
_FUNCTION: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def _one_or_several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _known_check(check: str) -> str:
    if check not in (AGREEMENT, JSON) and not _FUNCTION.fullmatch(check):
        known = f"{AGREEMENT!r}, {JSON!r}, or a function as 'package.module:function'"
        raise ValueError(f"{check!r} is no check: write {known}")
    return check


class CascadePolicy(Section):
    """What is tried before a tier: cheaper ones, if their answer can be checked.

    Attributes:
        first: the tiers that are asked, in turn; one that is asked more than once samples.
        check: ``agreement`` of their answers, ``json`` that can be read, or a function of the operator's.
        answers: how many are asked for at the most; more than half have to agree. One, for any other check.
        temperature: of a tier that is asked more than once, where the request says none, or 0.
        most_output_tokens: a text may have for its answers to be compared, or to be shown to the function.
    """

    first: Annotated[tuple[Word, ...], Field(min_length=1), BeforeValidator(_one_or_several)]
    check: Annotated[str, AfterValidator(_known_check)] = AGREEMENT
    answers: Annotated[int, Field(ge=1, le=9)] = 2
    temperature: Annotated[float, Field(gt=0, le=2, allow_inf_nan=False)] = 0.7
    most_output_tokens: PositiveInt = 64

    @model_validator(mode="before")
    @classmethod
    def _as_many_as_the_check_takes(cls, data: Any) -> Any:
        """Each of several tiers is asked once, one tier twice; for a check that is not by comparison once."""
        if not isinstance(data, Mapping) or "answers" in data:
            return data
        first = _one_or_several(data.get("first"))
        tiers = len(first) if isinstance(first, list | tuple) else 1
        return {**data, "answers": max(2, tiers) if data.get("check", AGREEMENT) == AGREEMENT else 1}

    @model_validator(mode="after")
    def _answers_fit_the_check(self) -> Self:
        if len(set(self.first)) < len(self.first):
            raise ValueError("first: each tier once; answers says how many they give together")
        if self.check != AGREEMENT and (self.answers > 1 or len(self.first) > 1):
            raise ValueError(f"the check {self.check!r} takes one answer of one tier; several are for {AGREEMENT!r}")
        if self.check == AGREEMENT and self.answers < max(2, len(self.first)):
            raise ValueError(f"answers: at least {max(2, len(self.first))}: two, and one of each tier of first")
        return self

    @property
    def samples(self) -> bool:
        """Whether a tier is asked more than once."""
        return self.answers > len(self.first)


class Tier(Section):
    """One class of model.

    Attributes:
        model: of its first lane.
        lanes: in the order in which they are tried.
        fall_back: the tier whose lanes are taken where none of this one's will do.
        cascade: what is tried before it; None for nothing.
    """

    model: Annotated[str, Field(min_length=1)]
    price_as: str | None = None
    lanes: tuple[Lane, ...]
    fall_back: Word | None = None
    cascade: CascadePolicy | None = None
    max_output_tokens: PositiveInt = 512
    timeout_s: PositiveFloat = 60
    attempts: PositiveInt = 5
    give_up_after_s: PositiveFloat = 120

    @model_validator(mode="before")
    @classmethod
    def _one_lane_or_several(cls, data: Any) -> Any:
        """``model`` alone is short for one lane of that name; its limits may then stand beside it."""
        if not isinstance(data, Mapping):
            return data
        model, lanes, price_as = data.get("model"), data.get("lanes"), data.get("price_as")
        of_one = {key: data[key] for key in ONE_LANE if key in data}
        rest = {key: value for key, value in data.items() if key not in ONE_LANE}
        if lanes is None:
            lane = {"name": model, "model": model, "price_as": price_as, **of_one}
            return {**rest, "lanes": (lane,)} if isinstance(model, str) else rest
        if model is not None or of_one:
            said = next(iter(of_one), "model")
            raise ValueError(f"{said}: with lanes each of them has its own; say it there")
        if not isinstance(lanes, list | tuple) or not lanes:
            raise ValueError("lanes: list at least one, each a table [[tiers.….lanes]] with its model")
        named = [_named(lane, price_as) for lane in lanes]
        first = min(named, key=_order)
        known = first.get("model") if isinstance(first, Mapping) else None
        return {**data, "lanes": named, "model": known if known and isinstance(known, str) else _UNKNOWN}

    @model_validator(mode="after")
    def _lanes_differ(self) -> Self:
        names = [lane.name for lane in self.lanes]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"lanes: {twice!r} is listed twice; give the lanes of one model a name each")
        return self

    @property
    def priced_model(self) -> str:
        """The model whose list price counts where the lane is not known yet."""
        return self.price_as or self.model

    @property
    def local(self) -> bool:
        """Whether one of its models is behind FOREBAY_LOCAL_MODEL_URL."""
        return any(lane.model.startswith(LOCAL) for lane in self.lanes)


def _named(lane: Any, price_as: object) -> Any:
    """A lane as it was written, with what it has by default."""
    return {"name": lane.get("model"), "price_as": price_as, **lane} if isinstance(lane, Mapping) else lane


def _order(lane: Any) -> float:
    order = lane.get("order", 0) if isinstance(lane, Mapping) else 0
    return float(order) if isinstance(order, int | float) else 0.0


def conflicting(tiers: Mapping[str, Tier]) -> Iterator[str]:
    """Lanes that are listed in several tiers, and are not the same deployment everywhere."""
    known: dict[str, Lane] = {}
    for tier in tiers.values():
        for lane in tier.lanes:
            if known.setdefault(lane.name, lane).deployment != lane.deployment:
                yield lane.name


class Price(Section):
    """US dollars per million tokens."""

    input: NonNegativeFloat
    output: NonNegativeFloat

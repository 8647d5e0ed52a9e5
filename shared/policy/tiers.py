"""The tiers: classes of model, and what they cost."""

from typing import Annotated, Final

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from shared.policy.section import Section

LOCAL: Final = "local/"


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

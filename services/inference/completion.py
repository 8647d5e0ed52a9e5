"""What a model gives back; apart from the calls, so that who handles an answer need not import litellm."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.inference.lanes.said import Said
from shared.events import Usage


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model said, what it cost in US dollars at list price, and what its provider said of its limits."""

    text: str
    usage: Usage
    finish_reason: str | None
    cost_usd: float
    said: Said | None = None


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of some texts, in their order, and what they cost in US dollars at list price."""

    vectors: Sequence[Sequence[float]]
    input_tokens: int
    cost_usd: float

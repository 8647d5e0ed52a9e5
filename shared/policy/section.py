"""What the tables of the policy file are made of."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt

from shared.events import LONGEST_TTL_S

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


def _says_something(phrase: str) -> str:
    if not phrase.strip():
        raise ValueError("an empty phrase would be found in every prompt: leave it out")
    return phrase


def _share(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"{value!r} is not from 0 to 1: for 25 % write 0.25")
    return value


# A word or phrase to be found in prompts.
Phrase = Annotated[str, AfterValidator(_says_something)]
Share = Annotated[float, BeforeValidator(_share)]
Duration = Annotated[NonNegativeInt, Field(le=LONGEST_TTL_S), BeforeValidator(seconds)]

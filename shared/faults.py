"""What pydantic finds wrong, as people are told: where, and what. The value itself is not told: it may be a secret."""

from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

_OURS: Final = "Value error, "  # what pydantic puts before the message of a validator of ours
_KEY: Final = "[key]"  # and after the path of a mapping's key that is wrong


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        path: to the part that is meant; empty: the whole.
        message: what is wrong with it.
    """

    path: tuple[str, ...]
    message: str

    @property
    def where(self) -> str:
        """The path, with dots."""
        return ".".join(self.path)

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.path else self.message


def faults(error: ValidationError) -> list[Fault]:
    """All that is wrong; there is at least one."""
    return [
        Fault(tuple(str(part) for part in each["loc"] if part != _KEY), each["msg"].removeprefix(_OURS))
        for each in error.errors(include_url=False, include_input=False)
    ]


def told(error: ValidationError, *, most: int | None = None) -> str:
    """All that is wrong, or the first of it, on one line."""
    return "; ".join(map(str, faults(error)[:most]))

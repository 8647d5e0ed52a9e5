"""Which requests the cache takes part in: what the caller says, and what the policy never caches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shared.events import Request
from shared.words import word_pattern

# As much of a prompt as is looked through for the policy's phrases, at either end: there people say what they want of
# the text between. The doors take half a megabyte.
LOOKED_THROUGH_CHARS: Final = 8000


@dataclass(frozen=True, slots=True)
class Eligibility:
    """What the cache may do for a request.

    Attributes:
        reads: whether an earlier answer may be served.
        stores: whether the answer may be kept, and shared with those who ask the same meanwhile.
        reason: why not both; empty where it may do both.
    """

    reads: bool = True
    stores: bool = True
    reason: str = ""


class Eligible:
    """Judges requests by their ``Cache-Control`` and by the phrases of the policy's ``[cache.never]``."""

    def __init__(self, never: Mapping[str, Sequence[str]]) -> None:
        self._never = {name: word_pattern(phrases) for name, phrases in never.items()}

    def judge(self, request: Request) -> Eligibility:
        """What may be done for this request; a prompt about the asker or the moment is neither served nor kept."""
        prompt = request.prompt
        end = max(0, len(prompt) - LOOKED_THROUGH_CHARS)
        for name, pattern in self._never.items():
            if pattern.search(prompt, 0, LOOKED_THROUGH_CHARS) or (end and pattern.search(prompt, end)):
                return Eligibility(reads=False, stores=False, reason=name)
        said = request.cache_control
        reads, stores = not (said.no_cache or said.max_age_s == 0), not said.no_store
        words = [word for word, holds in (("no-cache", not reads), ("no-store", not stores)) if holds]
        return Eligibility(reads, stores, ", ".join(words))

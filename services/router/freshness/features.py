"""What a prompt looks like, as numbers for the classifier."""

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.router.freshness.reading import Reading

_OPENERS: Final = (
    *("what", "who", "when", "where", "which", "how", "why", "is", "are", "does", "do", "did", "was", "were"),
    *("will", "can", "has", "have", "tell", "name", "in", "the", "a"),
)
_FORMS: Final = (
    *("names a year long past", "names last year or a later one", "names this year or a later one", "opens otherwise"),
    *("is", "was", "has", "short", "long", "very long", "length", "names", "no names", "digits", "question mark"),
    *("superlative", "a per cent sign", "a number at once"),
)
_DIGIT: Final = re.compile(r"\d")
_PRESENT: Final = frozenset({"is", "are"})
_PAST: Final = frozenset({"did", "was", "were"})
_PERFECT: Final = frozenset({"has", "have"})
# In words: a short question, a long one, a very long one.
SHORT: Final = 6
LONG: Final = 12
VERY_LONG: Final = 17
MOST_NAMES: Final = 4


def names(classes: Sequence[str]) -> tuple[str, ...]:
    """The names of the features, in their order; weights are made for these very ones."""
    return (*classes, *(f"opens with {word}" for word in _OPENERS), *_FORMS)


def features(reading: Reading, classes: Sequence[str], this_year: int) -> NDArray[np.float32]:
    """Shape (len(names(classes)),): 1 where a class of words or a form occurs, 0 where it does not; and the length."""
    words, text, about, years = reading.words, reading.text, reading.about, reading.years
    opener = words[0] if words else ""
    count = len(words)
    capitals = sum([word[0].isupper() for word in text.split()[1:]])
    latest = max(years, default=0)
    return np.array(
        [
            *[name in about for name in classes],
            *[opener == word for word in _OPENERS],
            bool(years) and min(years) < this_year - 1,
            latest >= this_year - 1,
            latest >= this_year,
            opener not in _OPENERS,
            not _PRESENT.isdisjoint(words[:3]),
            not _PAST.isdisjoint(words[:4]),
            not _PERFECT.isdisjoint(words),
            count <= SHORT,
            count >= LONG,
            count >= VERY_LONG,
            np.log1p(min(count, 60)) / 3,
            min(capitals, MOST_NAMES) / 2,
            capitals == 0,
            _DIGIT.search(text) is not None,
            text.rstrip().endswith("?"),
            any(word.endswith("est") and len(word) > 4 for word in words),  # noqa: PLR2004 - "best" and "west" are none
            "%" in text,
            any(word[0].isdigit() for word in words[1:4]),
        ],
        dtype=np.float32,
    )

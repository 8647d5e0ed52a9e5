"""Between similar and the same: what an embedding overlooks.

A sentence embedding hardly moves when "3 months" becomes "4 months" or "safe" becomes "unsafe". Two prompts that differ
in a number, in negation or in a name are not the same question, however near their vectors are. The check fails closed:
in doubt there is no hit.
"""

import re
from collections import Counter
from collections.abc import Callable
from typing import Final

_WORD: Final = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_NUMBER: Final = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?")
_UNITS: Final = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS: Final = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ORDINALS: Final = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_SCALES: Final = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_NUMBER_WORDS: Final = (
    {word: value for value, word in enumerate(_UNITS)}
    | {word: 10 * value for value, word in enumerate(_TENS, start=2)}
    | {word: value for value, word in enumerate(_ORDINALS, start=1)}
    | {"once": 1, "twice": 2, "half": 0.5, "dozen": 12}
    | _SCALES
)
# "one" is a pronoun as often as a number, "second" a unit of time.
_AMBIGUOUS: Final = {"one", "second"}
_NEGATIONS: Final = {
    *("no", "not", "never", "none", "nobody", "nothing", "neither", "nor", "without", "cannot", "cant", "dont"),
    *("doesnt", "isnt", "arent", "wont", "wouldnt", "shouldnt", "couldnt", "didnt", "wasnt", "werent", "hasnt"),
    *("havent", "hadnt", "except", "lack", "lacks", "avoid", "stop", "fail", "fails"),
}
_NEGATING_PREFIX: Final = re.compile(r"^(?:un|in|im|il|ir|non|dis|mis)(?=[a-z]{3})")
_SENTENCE_START: Final = re.compile(r"(?:^|[.!?:\n\"“]\s*)$")


def differs(asked: str, stored: str) -> str | None:
    """Why the answer to ``stored`` must not be served for ``asked``; None when nothing speaks against it."""
    for reason, features in _CHECKS.items():
        if features(asked) != features(stored):
            return reason
    if _names(asked) - _lowered(stored) or _names(stored) - _lowered(asked):
        return "names"
    if _negated_twin(asked, stored):
        return "negation"
    return None


def _numbers(text: str) -> Counter[float]:
    """The numbers of a text, written in digits or in words."""
    found = Counter(float(match.replace(",", "")) for match in _NUMBER.findall(text))
    found.update(
        float(_NUMBER_WORDS[word]) for word in _words(text) if word in _NUMBER_WORDS and word not in _AMBIGUOUS
    )
    return found


def _negations(text: str) -> int:
    """Whether a text is negated: the number of its negating words, modulo 2."""
    return sum(1 for word in _words(text) if word in _NEGATIONS or word.endswith("n't")) % 2


def _names(text: str) -> set[str]:
    """Words written with a capital although no sentence begins there, in lower case."""
    return {
        match[0].lower()
        for match in _WORD.finditer(text)
        if match[0][0].isupper() and match[0] != "I" and not _SENTENCE_START.search(text[: match.start()])
    }


def _negated_twin(a: str, b: str) -> bool:
    """Whether one text has a word, and the other the same word with a negating prefix: safe, unsafe."""
    only_a, only_b = set(_words(a)) - set(_words(b)), set(_words(b)) - set(_words(a))
    return any(
        _NEGATING_PREFIX.sub("", word) in others
        for words, others in ((only_a, only_b), (only_b, only_a))
        for word in words
        if _NEGATING_PREFIX.match(word)
    )


def _words(text: str) -> list[str]:
    return [word.replace("’", "'") for word in (match[0].lower() for match in _WORD.finditer(text))]


def _lowered(text: str) -> set[str]:
    return set(_words(text))


_CHECKS: Final[dict[str, Callable[[str], object]]] = {"numbers": _numbers, "negation": _negations}

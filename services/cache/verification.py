"""Between similar and the same: what an embedding overlooks.

A sentence embedding hardly moves when "3 months" becomes "4 months" or "safe" becomes "unsafe". Two prompts that differ
in a number, in negation or in a name, or have them in another order, are not the same question, however near their
vectors are. The check fails closed: in doubt there is no hit.
"""

import re
from decimal import Decimal
from typing import Final

_TOKEN: Final = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|[.!?:\n\"“]")
_DIGITS: Final = re.compile(r"(?:(?<![\w.)-])[-−])?\d+(?:[.,:]\d+)*|[⁰¹²³⁴⁵⁶⁷⁸⁹½¼¾]")
_DECIMAL: Final = re.compile(r"[-−]?\d+(?:\.\d+)?")
_THOUSANDS: Final = re.compile(r"[-−]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_UNITS: Final = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_ORDINALS: Final = (
    *("zeroth", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"),
    *("eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth"),
    "nineteenth",
)
_TENS: Final = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_OTHERS: Final = ("hundred", "thousand", "million", "billion", "trillion", "half", "dozen", "once", "twice", "double")
_NUMBER_WORDS: Final = (
    {word: str(value) for value, word in enumerate(_UNITS)}
    | {word: str(value) for value, word in enumerate(_ORDINALS)}
    | {word: str(10 * value) for value, word in enumerate(_TENS, start=2)}
    | {word: word for word in _OTHERS}
)
# "one" is a pronoun as often as a number, "second" a unit of time: they count behind another number only.
_AMBIGUOUS: Final = {"one", "second"}
_NEGATIONS: Final = {
    *("no", "not", "never", "none", "nobody", "nothing", "neither", "nor", "without", "cannot", "cant", "dont"),
    *("doesnt", "isnt", "arent", "wont", "wouldnt", "shouldnt", "couldnt", "didnt", "wasnt", "werent", "hasnt"),
    *("havent", "hadnt", "except", "lack", "lacks", "avoid", "stop", "fail", "fails"),
}
_NEGATING_PREFIX: Final = re.compile(r"^(?:un|in|im|il|ir|non|dis|mis)(?=[a-z]{3})")
# Words that begin questions and commands; another word with a capital at the beginning may be a name.
_BEGINNINGS: Final = {
    *("a", "an", "and", "any", "are", "as", "at", "but", "by", "can", "compare", "could", "define", "describe", "did"),
    *("do", "does", "explain", "find", "for", "from", "give", "has", "have", "help", "how", "how's", "i", "i'm", "if"),
    *("in", "is", "it", "let", "let's", "list", "make", "may", "me", "my", "name", "of", "on", "or", "please", "say"),
    *("shall", "should", "show", "solve", "so", "spell", "summarise", "summarize", "tell", "that", "the", "then"),
    *("there", "these", "this", "those", "to", "translate", "use", "was", "we", "were", "what", "what's", "whats"),
    *("when", "when's", "where", "where's", "which", "who", "who's", "whose", "why", "will", "with", "would", "write"),
    *("you", "your"),
}


def differs(asked: str, stored: str) -> str | None:
    """Why the answer to ``stored`` must not be served for ``asked``; None when nothing speaks against it."""
    a, b = _words(asked), _words(stored)
    if _numbers(asked, a) != _numbers(stored, b):
        return "numbers"
    if _negations(a) != _negations(b) or _negated_twin(a, b):
        return "negation"
    names = _names(asked) | _names(stored)
    if [word for word in a if word in names] != [word for word in b if word in names]:
        return "names"
    return None


def _words(text: str) -> list[str]:
    """Words in lower case, in their order."""
    return [match[0].lower().replace("’", "'") for match in _TOKEN.finditer(text) if match[0][0].isalnum()]


def _numbers(text: str, words: list[str]) -> tuple[list[str], list[str]]:
    """The numbers of a text in their order, as digits and words alike, and those it writes in words."""
    digits = [_plain(match[0]) for match in _DIGITS.finditer(text)]
    spelled = [
        _NUMBER_WORDS[word]
        for before, word in zip(["", *words], words, strict=False)
        if word in _NUMBER_WORDS and (word not in _AMBIGUOUS or before in _NUMBER_WORDS)
    ]
    # Where both kinds occur their order is not compared, but neither may change by itself.
    return (digits, spelled) if digits and spelled else (digits or spelled, [])


def _plain(number: str) -> str:
    """One spelling for 1,000 and 1000, for 2.50 and 2.5; versions and times stay as they are."""
    if _THOUSANDS.fullmatch(number):
        number = number.replace(",", "")
    if not _DECIMAL.fullmatch(number):
        return number
    value = Decimal(number.replace("−", "-"))
    return format(value.normalize() + 0, "f")


def _negations(words: list[str]) -> int:
    return sum(1 for word in words if word in _NEGATIONS or word.endswith("n't"))


def _negated_twin(a: list[str], b: list[str]) -> bool:
    """Whether one text has a word, and the other the same word with a negating prefix: safe, unsafe."""
    only_a, only_b = set(a) - set(b), set(b) - set(a)
    return any(
        _NEGATING_PREFIX.sub("", word) in others
        for words, others in ((only_a, only_b), (only_b, only_a))
        for word in words
        if _NEGATING_PREFIX.match(word)
    )


def _names(text: str) -> set[str]:
    """Words with a capital that are not there for the beginning of a sentence alone, in lower case."""
    names, beginning = set(), True
    for match in _TOKEN.finditer(text):
        token = match[0]
        if not token[0].isalnum():
            beginning = True
            continue
        word = token.lower().replace("’", "'")
        if token[0].isupper() and word != "i" and not (beginning and word in _BEGINNINGS):
            names.add(word.removesuffix("'s"))
            names.add(word)
        beginning = False
    return names

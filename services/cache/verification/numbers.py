"""The numbers of a prompt, one spelling for each: 1,000 is 1000, three is 3."""

import re
from typing import Final

from services.cache.verification.words import NUMERALS

_TOKEN: Final = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_DIGITS: Final = re.compile(r"(?:(?<![\w.)-])[-−])?(?:(?<![\w.])\.)?\d+(?:[.,:]\d+)*|[⁰¹²³⁴⁵⁶⁷⁸⁹½¼¾]")
_MONEY: Final = re.compile(r"[$€£¥₹]\s*$")
_THOUSANDS: Final = re.compile(r"[-−]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?")
_ORDINALS: Final = (
    *("zeroth", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"),
    *("eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth"),
    "nineteenth",
)
_ROMAN: Final = ("ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii", "xiii", "xiv", "xv", "xvi")
_OTHERS: Final = (
    "hundred",
    "thousand",
    "million",
    "billion",
    "trillion",
    "half",
    "dozen",
    "once",
    "twice",
    "double",
    "couple",
    "pair",
    "triple",
    "thrice",
    "quarter",
)
_NUMBER_WORDS: Final = (
    {word: str(value) for word, value in NUMERALS.items()}
    | {word: str(value) for value, word in enumerate(_ORDINALS)}
    | {word: word for word in _OTHERS}
    | {word: str(value) for value, word in enumerate(_ROMAN, start=2) if len(word) > 1}
)
# "One" is a pronoun as often as a number: it counts behind another number only. Behind these a second is one of time.
_UNIT: Final = {"a", "per", "each", "every", "one", "split", "last"}


def numbers(text: str) -> tuple[list[str], list[str]]:
    """The numbers of a text in their order, as digits and words alike, and those it writes in words."""
    words = [match[0].lower() for match in _TOKEN.finditer(text)]
    digits = [
        _plain(match[0], money=_MONEY.search(text, max(0, match.start() - 4), match.start()) is not None)
        for match in _DIGITS.finditer(text)
    ]
    spelled = [
        _NUMBER_WORDS[word]
        for before, word in zip(["", *words], words, strict=False)
        if word in _NUMBER_WORDS and not (word == "one" and before not in _NUMBER_WORDS)
        if not (word == "second" and before in _UNIT)
    ]
    # Where both kinds occur their order is not compared, but neither may change by itself.
    return (digits, spelled) if digits and spelled else (digits or spelled, [])


def _plain(number: str, *, money: bool) -> str:
    """One spelling for 1,000 and 1000, for .5 and 0.5; version 3.10 is not 3.1, only of money the last zeros go."""
    number = number.replace("−", "-")
    if _THOUSANDS.fullmatch(number):
        number = number.replace(",", "")
    if number.lstrip("-").startswith("."):
        number = number.replace(".", "0.", 1)
    return number.rstrip("0").rstrip(".") if money and "." in number else number

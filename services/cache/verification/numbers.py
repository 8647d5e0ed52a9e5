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
)
# "one" is a pronoun as often as a number, "second" a unit of time: they count behind another number only.
_AMBIGUOUS: Final = {"one", "second"}


def numbers(text: str) -> tuple[list[str], list[str]]:
    """The numbers of a text in their order, as digits and words alike, and those it writes in words."""
    words = [match[0].lower() for match in _TOKEN.finditer(text)]
    digits = [
        _plain(match[0], money=_MONEY.search(text, 0, match.start()) is not None) for match in _DIGITS.finditer(text)
    ]
    spelled = [
        _NUMBER_WORDS[word]
        for before, word in zip(["", *words], words, strict=False)
        if word in _NUMBER_WORDS and (word not in _AMBIGUOUS or before in _NUMBER_WORDS)
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

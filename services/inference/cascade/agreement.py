"""What an answer says, in a form in which two answers that say the same are equal.

Where it is in doubt two answers differ: then the stronger tier is asked, which costs money and no quality. So what may
carry meaning stays (signs, brackets, exponents, leading zeros), and only what carries none goes.
"""

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Final, Literal

from shared.events import OutputFormat, Request

Meaning = tuple[Literal["json", "choice", "text"], str]

# Options of a multiple-choice prompt, one a line: "A. …", "B) …", "(C) …".
_OPTION: Final = re.compile(r"^[ \t]*\(?([A-J])[.):][ \t]*(\S.*)$", re.MULTILINE)
LETTERS: Final = "ABCDEFGHIJ"
# "The answer is (B).", "Answer: B" at the end of a line.
_CONCLUSION: Final = re.compile(
    r"\b[Aa]nswer(?:\s+is)?\s*:?[\s*_]*[\"(]?([A-J])(?=[ \t]*(?:[).:,;*_\"]|$))", re.MULTILINE
)
# "B", "(B)", "**B**", "B. Paris".
_BARE: Final = re.compile(r"\s*[*_\"(]*([A-J])(?:[.):*_\"]*\s*$|[.):]+[*_]*\s)")

_OPENING: Final = '"“”„«»*_`'
_CLOSING: Final = _OPENING + ".,;:?"
_SAME_CHARACTERS: Final = str.maketrans({"−": "-", "’": "'", "‘": "'"})
# A whole word only: the comma of "(1,200)" may part two numbers.
_NUMBER: Final = re.compile(r"([-+]?[$€£]?)(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?(%?)")


def meaning(request: Request, text: str) -> Meaning | None:
    """What an answer says; None for one that is not what was asked for, and so agrees with none."""
    if request.output_format is not None:
        value = json_value(request.output_format, text)
        return None if value is None else ("json", value)
    choices = options(request.prompt)
    letter = choice(choices, text) if choices else None
    return ("text", plain(text)) if letter is None else ("choice", letter)


def json_value(wanted: OutputFormat, text: str) -> str | None:
    """JSON in one spelling; None for what is no JSON, or no object where one is wanted.

    A schema is not looked at: providers hold the model to it. A client's schema may refer to other sites, and its
    patterns may take for ever.
    """
    try:
        value = json.loads(text, parse_constant=_refuse)
        if wanted.type == "json_object" and not isinstance(value, dict):
            return None
        return json.dumps(_whole_numbers(value), sort_keys=True)
    except (ValueError, RecursionError):
        return None


def options(prompt: str) -> Mapping[str, str]:
    """The options of a multiple-choice prompt by their letters, the last list of them; none for other prompts."""
    found: dict[str, str] = {}
    for letter, option in _OPTION.findall(prompt):
        if letter == LETTERS[0]:
            found = {}
        if letter == LETTERS[len(found) : len(found) + 1]:
            found[letter] = option
        else:
            found = {}
    return found if len(found) > 1 else {}


def choice(choices: Mapping[str, str], text: str) -> str | None:
    """The option an answer picks: by its conclusion, by a letter it consists of or begins with, or by its words."""
    letters = _CONCLUSION.findall(text)
    if not letters and len({letter for letter, _ in _OPTION.findall(text)}) < 2:  # noqa: PLR2004 - a list is no pick
        letters = [match[1] for match in [_BARE.match(text)] if match]
    if letters:
        return letters[-1] if letters[-1] in choices else None
    said = plain(text)
    return next((letter for letter, option in choices.items() if plain(option) == said), None)


def plain(text: str) -> str:
    """Words without case, marks around them, and different spellings of numbers (as in English: 1,000.0 is 1000)."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).translate(_SAME_CHARACTERS).casefold())
    return " ".join(_number(word.lstrip(_OPENING).rstrip(_CLOSING) or word) for word in folded.split())


def _number(word: str) -> str:
    match = _NUMBER.fullmatch(word)
    if match is None:
        return word
    sign, digits, fraction, percent = match.groups(default="")
    return f"{sign}{digits.replace(',', '')}{fraction if fraction.strip('.0') else ''}{percent}"


def _whole_numbers(value: Any) -> Any:
    """The same, with 1.0 as 1: in JSON they are one number."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [_whole_numbers(item) for item in value]
        case dict():
            return {name: _whole_numbers(item) for name, item in value.items()}
        case _:
            return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")

r"""What an embedding does not see at all: symbols, the case of letters, indentation, accents.

The tokenizer of the embedding model folds case and accents, and has one token for all it does not know: "chmod +x" and
"chmod -x", 👍 and 👎, \d and \D have the cosine 1.
"""

import re
import unicodedata
from typing import Final

_INSIDE_WORD: Final = re.compile(r"(?<=\w)[-'’](?=\w)")
_PUNCTUATION: Final = re.compile(
    r"[.,!?;:'’‘\"“”`´¿¡…]+(?=\s|$|[\"'”’)])|(?<!\S)[\"'“‘`´]+|(?<=\w)[\"”]+(?=\W|$)|(?<=\s)[-–—](?=\s)"
)
_SYMBOLS: Final = re.compile(r"[^\w\s.,'\"“”‘’`´]+|_+|(?<!\S)\.(?=[^\W\d])")
_FLAG: Final = re.compile(r"(?:^|\s)-\w\b|\\\w|`")
_CODE: Final = re.compile(r"[={}\[\];]|\w\(|\w\.\w+\(|\b(?:def|while|if) \w+(?: \w+)?:|\bSELECT\b")
_WORD: Final = re.compile(r"\w+")
_TOKEN: Final = re.compile(r"[^\W\d_]+")
# Another thing with a capital than without, or with other capitals.
CAPITONYMS: Final = frozenset(
    (
        *(
            "aids",
            "amazon",
            "apple",
            "august",
            "bath",
            "bill",
            "cancer",
            "chad",
            "china",
            "cologne",
            "discord",
            "excel",
        ),
        *(
            "excel",
            "ford",
            "fox",
            "gap",
            "go",
            "it",
            "jack",
            "japan",
            "jersey",
            "jobs",
            "march",
            "mark",
            "may",
            "mercury",
        ),
        *("nice", "orange", "pandas", "polish", "reading", "rich", "rose", "ruby", "rust", "shell", "slack", "spring"),
        *("stripe", "swift", "target", "teams", "turkey", "us", "visa", "who", "will", "windows", "word"),
    )
)
# As long as an acronym or a unit: MB and Mb, mW and MW, AIDS and aids.
ACRONYM_CHARS: Final = 4


def bare(text: str) -> list[tuple[str, str]]:
    """The lines of a text, each with its indentation; runs of blanks are one, the first letter has no case."""
    text = text.strip()
    return [(_indent(line), " ".join(line.split())) for line in (text[:1].lower() + text[1:]).splitlines()]


def code(text: str) -> list[str]:
    """The words of a text with code in it, in their order, and how its lines are indented; nothing for any other text.

    In code "a" is no article, and a - b not b - a.
    """
    indents = [indent for indent, _ in bare(text) if indent]
    return [*indents, *_WORD.findall(text.lower())] if indents or _CODE.search(text) else []


def symbols(text: str) -> list[str]:
    """Its symbols in their order, without the punctuation of sentences: operators, brackets, emoji."""
    return _SYMBOLS.findall(_PUNCTUATION.sub(" ", _INSIDE_WORD.sub("", text)))


def cased(one: str, other: str) -> bool:
    """Whether the same letters in another case may mean another thing.

    Capitals say nothing at the beginning, and little where a prompt has none or nothing else. Between two prompts with
    both, names and acronyms count; behind a backslash, in a flag and in code, every letter does.
    """
    if one.casefold() != other.casefold() or one == other:
        return False
    if _FLAG.search(one):
        return one[1:] != other[1:]
    plain = _single_case(one) or _single_case(other)
    for a, b in zip(_TOKEN.findall(one)[1:], _TOKEN.findall(other)[1:], strict=False):
        short = len(a) <= ACRONYM_CHARS and not (a[1:].islower() and b[1:].islower())
        if a != b and (a.casefold() in CAPITONYMS or (short and not plain)):
            return True
    return False


def foreign(word: str) -> bool:
    """Whether a word has letters that the embedding model knows only without their marks, or not at all."""
    return not word.isascii() and any(c.isalpha() for c in unicodedata.normalize("NFC", word))


def _single_case(text: str) -> bool:
    rest = text.strip()[1:]
    return rest in (rest.lower(), rest.upper())


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]

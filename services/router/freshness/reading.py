"""A prompt, read once for the rules and for the classifier: its words, and what they are about.

The words of the classes are in ``lexicon.toml``. Looking each word up in a table takes a tenth of the time of as many
regular expressions, whatever the prompt is like.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LEXICON: Final = Path(__file__).with_name("lexicon.toml")
# What is asked stands at the beginning or at the end; between them is the material. The doors take half a megabyte.
HEAD_CHARS: Final = 1500
TAIL_CHARS: Final = 500
_WORD: Final = re.compile(r"\w+(?:[-'’.]\w+)*")
_YEAR: Final = re.compile(r"(?:1\d|20)\d\d")

Phrase = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A phrase of the lexicon in a prompt, and at which word it begins."""

    phrase: str
    place: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What a prompt says.

    Attributes:
        text: the part of it that was read.
        words: of that, in lower case; a possessive or contracted "'s" is left out.
        about: the classes of words that occur in it, each with the phrase that was found first.
        years: that it names, from 1000 to 2099.
    """

    text: str
    words: Sequence[str]
    about: Mapping[str, Found]
    years: Sequence[int]


class Lexicon:
    """Classes of words and phrases."""

    def __init__(self, classes: Mapping[str, str]) -> None:
        """``classes`` maps the name of a class to its phrases, separated by bars."""
        self.classes = tuple(classes)
        self._whole: dict[str, list[tuple[Phrase, str]]] = {}
        self._begun: list[tuple[str, str]] = []
        for name, listed in classes.items():
            for phrase in (part.split() for part in listed.split("|")):
                if phrase[-1].endswith("*"):
                    self._begun.append((phrase[-1][:-1], name))
                else:
                    self._whole.setdefault(phrase[0], []).append((tuple(phrase), name))
        self._beginnings = tuple(beginning for beginning, _ in self._begun)

    def found(self, words: Sequence[str]) -> Mapping[str, Found]:
        """The classes that occur, each with the phrase that was found first."""
        about: dict[str, Found] = {}
        for place, word in enumerate(words):
            for phrase, name in self._whole.get(word, ()):
                if name not in about and (len(phrase) == 1 or tuple(words[place : place + len(phrase)]) == phrase):
                    about[name] = Found(" ".join(phrase), place)
            if word.startswith(self._beginnings):
                for beginning, name in self._begun:
                    if word.startswith(beginning):
                        about.setdefault(name, Found(word, place))
        return about


def load_lexicon() -> Lexicon:
    """The lexicon that ships."""
    tables = tomllib.loads(LEXICON.read_text(encoding="utf-8"))
    return Lexicon({name: listed for table in tables.values() for name, listed in table.items()})


class Reader:
    """Reads prompts."""

    def __init__(self, lexicon: Lexicon | None = None) -> None:
        self._lexicon = lexicon or load_lexicon()
        self.classes = self._lexicon.classes

    def read(self, prompt: str) -> Reading:
        """What a prompt says; of a long one, its beginning and its end."""
        text = prompt if len(prompt) <= HEAD_CHARS + TAIL_CHARS else f"{prompt[:HEAD_CHARS]}\n{prompt[-TAIL_CHARS:]}"
        words = [*_words(text)]
        years = [int(word) for word in words if _YEAR.fullmatch(word)]
        return Reading(text, words, self._lexicon.found(words), years)


def _words(text: str) -> Iterator[str]:
    for word in _WORD.findall(text.lower().replace("’", "'")):
        yield word.removesuffix("'s").replace("'", "")

"""What a prompt looks like: the signals that speak for one tier or the other.

The words come from the policy; the patterns here are about form: length, code, formulas, steps, lists, clauses. Each
signal that fires comes with what made it fire, for the reasons in the event.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Self

from shared.policy.routing import Length, Words
from shared.words import word_pattern

# Enough to see what kind of prompt it is; the doors take prompts of half a megabyte.
ANALYSED_CHARS: Final = 8000
LISTED_MIN: Final = 2
CLAUSES_MIN: Final = 4
QUESTIONS_MIN: Final = 2
ANY: Final = "*"  # stands for any word in a phrase: see shared.words

_TOKEN: Final = re.compile(r"\w+|[^\w\s]")
_LISTED: Final = re.compile(r"^[ \t]{0,8}(?:[-*•]|\d{1,3}[.)])[ \t]", re.MULTILINE)
_SENTENCE: Final = re.compile(r"(?<![.!?])[.!?]+(?=\s|$)")


@dataclass(frozen=True, slots=True)
class Text:
    """A prompt, read once.

    Attributes:
        beginning: the part that is analysed.
        tokens: words and punctuation marks of all of it: within a third of what tokenizers count for English, and a
            hundred times faster. Of long texts the beginning is counted, and the rest taken to be like it.
        distinct: those of the beginning, each once, in lower case.
    """

    beginning: str
    tokens: int
    distinct: frozenset[str]

    @classmethod
    def read(cls, prompt: str) -> Self:
        """Read a prompt."""
        beginning = prompt[:ANALYSED_CHARS]
        tokens = _TOKEN.findall(beginning)
        estimated = len(tokens) * len(prompt) // max(len(beginning), 1)
        return cls(beginning, estimated, frozenset(map(str.casefold, set(tokens))))


@dataclass(frozen=True, slots=True)
class Sought:
    """A pattern, and tokens of which one is there wherever it matches: most prompts have none, and are not searched.

    Attributes:
        tokens: None where it may match anywhere.
    """

    pattern: re.Pattern[str]
    tokens: frozenset[str] | None

    @classmethod
    def phrases(cls, phrases: Iterable[str]) -> Self:
        """Words and phrases of a policy; each begins with its first token."""
        phrases = tuple(phrases)
        anywhere = any(ANY in phrase.split()[0] for phrase in phrases)
        first = frozenset(_TOKEN.findall(phrase)[0].casefold() for phrase in phrases)
        return cls(word_pattern(phrases), None if anywhere else first)

    def search(self, text: Text) -> re.Match[str] | None:
        """The first match."""
        if self.tokens is not None and self.tokens.isdisjoint(text.distinct):
            return None
        return self.pattern.search(text.beginning)


_NOWHERE: Final = Sought(re.compile(r"(?!)"), frozenset())
_CODE: Final = Sought(
    re.compile(r"```|\bdef \w{1,64}\(|#include|=>|\bSELECT\b.{1,200}\bFROM\b|[{}];|\b\w{1,64}\(\w{0,64}\)[:{]"),
    frozenset({"`", "(", "#", "=", "select", "{", "}"}),
)
_MATHS: Final = Sought(
    re.compile(r"\\(?:frac|int|sum|sqrt)|\$[^$]+\$|\b\w\s*\^\s*\d|\d\s*[*/=]\s*\d|[∫∑√≤≥]|\b\d+\s*[+-]\s*\d+\b"),
    frozenset("\\$^*/=∫∑√≤≥+-"),
)
_STEPS: Final = Sought(
    re.compile(
        r"\bfirst\b.{1,300}?\b(?:then|next|second|finally)\b|\bthen\b.{1,300}?\b(?:then|finally)\b|\bstep \d",
        re.IGNORECASE | re.DOTALL,
    ),
    frozenset({"first", "then", "step"}),
)
_PAUSES: Final = ",;:"
_CLAUSE: Final = re.compile(
    rf"[{_PAUSES}]|\b(?:although|because|given that|however|if|provided|since|so that|unless|whereas|which|while)\b",
    re.IGNORECASE,
)
_CLAUSE_BEGINS: Final = frozenset(
    {"although", "because", "given", "however", "if", "provided", "since", "so", "unless", "whereas", "which", "while"}
)


class Signals:
    """Finds the signals in prompts."""

    def __init__(self, length: Length, words: Words) -> None:
        self._length = length
        phrases = {name: Sought.phrases(getattr(words, name)) for name in Words.model_fields}
        forms = {"code": _CODE, "maths": _MATHS}
        self._sought = [
            (name, forms.get(name, _NOWHERE), phrases[name]) for name in ("code", "maths", "reasoning", "simple")
        ]

    def fired(self, text: Text) -> Iterator[tuple[str, str]]:
        """The signals that fire, each with its evidence; form and words are looked for in the beginning of a prompt."""
        if text.tokens <= self._length.short:
            yield "short", f"{text.tokens} tokens"
        if text.tokens >= self._length.long:
            yield "long", f"{text.tokens} tokens"
        for name, form, phrases in self._sought:
            if match := form.search(text) or phrases.search(text):
                yield name, _evidence(match)
        if match := _STEPS.search(text):
            yield "steps", _evidence(match)
        if (listed := len(_LISTED.findall(text.beginning))) >= LISTED_MIN:
            yield "constraints", f"{listed} listed items"
        if (clauses := _clauses(text)) >= CLAUSES_MIN:
            yield "clauses", f"{clauses} in one sentence"
        if (questions := text.beginning.count("?")) >= QUESTIONS_MIN:
            yield "questions", f"{questions} questions"


def _evidence(match: re.Match[str]) -> str:
    return repr(match[0].strip()[:40])


def _clauses(text: Text) -> int:
    """The most that are in one sentence; 0 where they can't be enough in all of them together."""
    if _CLAUSE_BEGINS.isdisjoint(text.distinct) and sum(map(text.beginning.count, _PAUSES)) < CLAUSES_MIN:
        return 0
    return max(len(_CLAUSE.findall(sentence)) for sentence in _SENTENCE.split(text.beginning))

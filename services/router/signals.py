"""What a prompt looks like: the signals that speak for one tier or the other.

The words come from the policy; the patterns here are about form: length, code, formulas, steps, lists, clauses. Each
signal that fires comes with what made it fire, for the reasons in the event.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from shared.policy.routing import Length, Words
from shared.words import word_pattern

TOKEN: Final = re.compile(r"\w+|[^\w\s]")
_CODE: Final = re.compile(
    r"```|\bdef \w{1,64}\(|#include|=>|\bSELECT\b.{1,200}\bFROM\b|[{}];|\b\w{1,64}\(\w{0,64}\)[:{]"
)
_MATHS: Final = re.compile(
    r"\\(?:frac|int|sum|sqrt)|\$[^$]+\$|\b\w\s*\^\s*\d|\d\s*[*/=]\s*\d|[∫∑√≤≥]|\b\d+\s*[+-]\s*\d+\b"
)
_STEPS: Final = re.compile(
    r"\bfirst\b.{1,300}?\b(?:then|next|second|finally)\b|\bthen\b.{1,300}?\b(?:then|finally)\b|\bstep \d",
    re.IGNORECASE | re.DOTALL,
)
_LISTED: Final = re.compile(r"^[ \t]{0,8}(?:[-*•]|\d{1,3}[.)])[ \t]", re.MULTILINE)
_CLAUSE: Final = re.compile(
    r"[,;:]|\b(?:although|because|given that|however|if|provided|since|so that|unless|whereas|which|while)\b",
    re.IGNORECASE,
)
_SENTENCE: Final = re.compile(r"(?<![.!?])[.!?]+(?=\s|$)")
# Enough to see what kind of prompt it is; the doors take prompts of half a megabyte.
ANALYSED_CHARS: Final = 8000
LISTED_MIN: Final = 2
CLAUSES_MIN: Final = 4
QUESTIONS_MIN: Final = 2


class Signals:
    """Finds the signals in prompts."""

    def __init__(self, length: Length, words: Words) -> None:
        self._length = length
        self._words: Mapping[str, re.Pattern[str]] = {
            name: word_pattern(getattr(words, name)) for name in Words.model_fields
        }

    def fired(self, prompt: str, tokens: int) -> Iterator[tuple[str, str]]:
        """The signals that fire, each with its evidence; form and words are looked for in the beginning of a prompt.

        ``tokens`` is how many it has, see ``estimated_tokens``.
        """
        prompt = prompt[:ANALYSED_CHARS]
        if tokens <= self._length.short:
            yield "short", f"{tokens} tokens"
        if tokens >= self._length.long:
            yield "long", f"{tokens} tokens"
        for name, form in (("code", _CODE), ("maths", _MATHS), ("reasoning", None), ("simple", None)):
            if match := (form.search(prompt) if form else None) or self._words[name].search(prompt):
                yield name, repr(match[0].strip()[:40])
        if match := _STEPS.search(prompt):
            yield "steps", repr(match[0].strip()[:40])
        if (listed := len(_LISTED.findall(prompt))) >= LISTED_MIN:
            yield "constraints", f"{listed} listed items"
        if (clauses := max(len(_CLAUSE.findall(sentence)) for sentence in _SENTENCE.split(prompt))) >= CLAUSES_MIN:
            yield "clauses", f"{clauses} in one sentence"
        if (questions := prompt.count("?")) >= QUESTIONS_MIN:
            yield "questions", f"{questions} questions"


def estimated_tokens(text: str) -> int:
    """Words and punctuation marks: within a third of what tokenizers count for English, and a hundred times faster.

    Of long texts the beginning is counted, and the rest taken to be like it.
    """
    counted = len(TOKEN.findall(text, 0, ANALYSED_CHARS))
    return counted if len(text) <= ANALYSED_CHARS else counted * len(text) // ANALYSED_CHARS

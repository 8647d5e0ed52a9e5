"""What a prompt is about, in words that can be counted, and whether it concerns a topic.

The words of a prompt are its content words, without those that every text has, in one spelling: lower case, without
accents or possessive, and in the singular as far as English spelling tells. The trends service counts these keys, and
the cache finds the entries of a topic by the same rules, so that what is counted is what is meant. Other scripts than
Latin keep their marks, which make other letters of them (か and が); a language without spaces between words has one
key for a whole phrase.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final

# A prompt says what it is about early; the work for a long one is bounded.
READ_CHARS: Final = 2_000
MOST_WORDS: Final = 48
WORD_CHARS: Final = 40
# Marks are no letters to ``\w``, but without them words of many scripts fall apart at each vowel.
_MARKS: Final = "".join(mark for mark in map(chr, range(0x300, 0x10000)) if unicodedata.category(mark)[0] == "M")
_LETTERS: Final = rf"[^\W_]+(?:[{_MARKS}]+[^\W_]*)*"
_WORD: Final = re.compile(rf"{_LETTERS}(?:['’]{_LETTERS})*")
_AFTER_LATIN: Final = "\u0300"  # letters beyond that stand for themselves and a mark, and are taken apart
_POSSESSIVE: Final = re.compile(r"['’]")
# Endings, so that a word has the same key in both numbers; that key need not be a word. Once is enough: what is left of
# a word has none of these endings.
_PLURALS: Final = (
    (re.compile(r"(?<=..)ies\Z"), "y"),
    (re.compile(r"(?<=ss|sh|ch)es\Z|(?<=x)es\Z"), ""),
    (re.compile(r"(?<=..)(?<![su])(?<![rstx]i)s\Z"), ""),  # not of bus, nor of crisis
)
_COMMON: Final = frozenset(
    """
    a about above across actually after again against all almost along already also although always am an and
    another any anyone anything anyway are aren around as ask at away back be became because become been before
    behind being below best better between both but by call came can cannot come could couldn course did didn
    different do does doesn doing don done down during each either else enough etc even ever every everyone
    everything exactly example explain far few find first for from further gave get gets getting give given gives go
    goes going gone good got had hadn has hasn have haven having he hello help her here hers herself hey hi him
    himself his how however i if in instead into is isn it its itself just keep kind know last least less let lets
    like list little ll look lot made make makes making many may maybe me mean means might mine more most much must
    my myself need needs never new next no nobody none nor not nothing now of off often ok okay old on once one only
    onto or other others our ours out over own part people perhaps please possible probably put quite rather re
    really right s said same say see seem seems several shall she should shouldn show since so some somebody someone
    something sometimes soon sort still such sure t take taken takes talk tell than thank thanks that the their
    theirs them themselves then there these they thing things think this those though through thus to together too
    took toward try trying two under until up upon us use used using usually ve very want wants was wasn way ways we
    well went were weren what whatever when where whether which while who whole whom whose why will with within
    without won word work would wouldn write yes yet you your yours yourself
    """.split()  # noqa: SIM905  # as a list it would fill six screens
)


def words(text: str) -> Sequence[str]:
    """The content words of a text, in their order and in one spelling; the first ones of a long text."""
    found: list[str] = []
    for word in _WORD.findall(_plain(text[:READ_CHARS])):
        if spelt := _spelt(word):
            found.append(spelt)
            if len(found) == MOST_WORDS:
                break
    return found


def keys(prompt: str) -> Sequence[str]:
    """What a prompt is counted under, each once: its content words, and each two that stand side by side."""
    found = words(prompt)
    pairs = (" ".join(pair) for pair in pairwise(found) if pair[0] != pair[1])
    return list(dict.fromkeys((*found, *pairs)))


def term(text: str) -> tuple[str, ...]:
    """The words of a term that somebody wrote, in any order; empty where it has no content word."""
    return tuple(sorted(set(words(text))))


def concerns(terms: Iterable[Sequence[str]], prompt_words: frozenset[str]) -> bool:
    """Whether a prompt of these words concerns a topic: all words of one of its terms occur."""
    return any(prompt_words.issuperset(each) for each in terms)


def _plain(text: str) -> str:
    """A text in lower case, without accents on Latin letters, each character in its usual form."""
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    kept: list[str] = []
    latin = True
    for character in apart:
        if unicodedata.category(character)[0] != "M":
            latin = character < _AFTER_LATIN
        elif latin:
            continue
        kept.append(character)
    return unicodedata.normalize("NFC", "".join(kept))


@lru_cache(maxsize=50_000)
def _spelt(word: str) -> str:
    """One spelling for the forms of a word; empty where it says nothing by itself."""
    word = _POSSESSIVE.split(word[:WORD_CHARS], maxsplit=1)[0]
    if word in _COMMON or _is_letter(word):
        return ""
    singular = _singular(word)
    spelt = word if singular in _COMMON else singular
    return "" if _is_letter(spelt) else spelt  # "xes" would be counted as a key that is no term


def _is_letter(word: str) -> bool:
    return len(word) == 1 and word.isascii()


def _singular(word: str) -> str:
    for plural, singular in _PLURALS:
        word, changed = plural.subn(singular, word)
        if changed:
            return word
    return word

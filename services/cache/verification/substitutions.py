"""What small words do: which preposition governs a word, what joins two of them, may or must, is or was.

Content words are matched first; what is compared here stands between them, so that "from Paris to Lyon" is not "to
Paris from Lyon" though both have the same words.
"""

import re
from collections.abc import Iterator
from typing import Final

from services.cache.verification.alignment import EXACT, Alignment
from services.cache.verification.lexicon import irregular
from services.cache.verification.questions import Question
from services.cache.verification.words import PREPOSITIONS, WH

# Prepositions that say who does it, to whom, for whom, about what; one never stands for another.
_ROLES: Final = {"to", "from", "by", "for", "about", "with", "as", "against", "toward", "towards"}
_OPPOSED: Final = ({"to", "of"}, {"by", "on"}, {"with", "in"}, {"is", "in"})
_ALIKE: Final = ({"to", "with"}, {"to", "towards"}, {"to", "toward"}, {"to", "for"})
_JOINING: Final = {"and", "or", "nor", "if", "because", "while", "but", "although", "though", "unless"}
_BINDING: Final = {
    "can": "may", "could": "may", "may": "may", "might": "may", "possible": "may",
    "should": "must", "must": "must", "need": "must", "shall": "must",
}  # fmt: skip
_TIMES: Final = {"day", "year", "month", "time", "date"}
_ORDERS: Final = {
    "list": "name", "name": "name", "define": "define", "describe": "explain", "explain": "explain",
    "summarize": "summarize", "summarise": "summarize", "recommend": "recommend", "suggest": "recommend",
}  # fmt: skip
# A prompt about words is about these very words.
_ABOUT_WORDS: Final = re.compile(
    r"[\"“”«»]|\b(?:words?|rhymes?|spell(?:ed|ing|t)?|pronounced?|pronunciation|syllables?|how many letters|plural"
    r"|singular|tense|etymology|synonyms?|antonyms?|translat(?:e|ion)|conjugate|grammar|grammatically|part of speech"
    r"|keyword|operator|statement|say .+ in)\b",
    re.IGNORECASE,
)
_FEW: Final = re.compile(r"\b(a )?(few|little)\b", re.IGNORECASE)
_HARMLESS: Final = {"a", "an", "the", "is", "are", "do", "does"}

# What a thing means or is called has one answer, in whatever form.
_ANY_FORM: Final = {"mean", "call", "nam"}
_BEFORE_VERBS: Final = {"to", "i", "you", "we", "they", "can", "could", "should", "will", "would", "must", "may"}

Gap = tuple[list[str], list[str]]


def gaps(a: Question, b: Question, alignment: Alignment) -> Iterator[Gap]:
    """What stands between neighbouring matched words, on both sides, where they come in the same order.

    Once for what are neighbours in the first, once for those of the second: the result is the same for both directions.
    """
    there = [(i, j) for i, j, _ in alignment.pairs]
    back = sorted((j, i) for i, j in there)
    yield from _between(a.texts(), b.texts(), there)
    for other, one in _between(b.texts(), a.texts(), back):
        yield one, other


def _between(one: list[str], other: list[str], pairs: list[tuple[int, int]]) -> Iterator[Gap]:
    last = -1, -1
    for i, j in (*pairs, (len(one), len(other))):
        if j > last[1]:
            yield one[last[0] + 1 : i], other[last[1] + 1 : j]
        last = i, j


def prepositions(a: Question, b: Question, alignment: Alignment) -> bool:
    """Whether one preposition took the place of another that says something else: for and from, by and on."""
    for one, other in gaps(a, b, alignment):
        left, right = ([text for text in side if text in PREPOSITIONS] for side in (one, other))
        if len(left) == len(right) and any(_opposed(x, y) for x, y in zip(left, right, strict=True)):
            return True
    return False


def _opposed(one: str, other: str) -> bool:
    both = {one, other}
    return one != other and (both <= _ROLES or both in _OPPOSED) and both not in _ALIKE


def connectors(a: Question, b: Question, alignment: Alignment) -> bool:
    """Whether two things are joined in another way: and, or; if, because."""
    for one, other in gaps(a, b, alignment):
        left, right = ({text for text in side if text in _JOINING} for side in (one, other))
        if left and right and left != right:
            return True
    return False


def modality(a: Question, b: Question) -> bool:
    """Whether one asks what may be and the other what must; how one can and how one should do a thing are one."""
    one, other = ({_BINDING[text] for text in q.texts() if text in _BINDING} for q in (a, b))
    return bool(one and other) and one != other and a.kinds[:1] != ("how",)


def inflection(a: Question, b: Question, alignment: Alignment) -> bool:
    """Whether a word is in another form: owns and owned, boring and bored, park and parking."""
    for i, j, how in alignment.pairs:
        one, other = a.words[i], b.words[j]
        if how == EXACT and one.text != other.text and one.lemma not in _ANY_FORM:
            forms = {_form(a, i), _form(b, j)}
            if len(forms) > 1 and forms != {"ing", "verb"}:
                return True
    return False


def _form(q: Question, place: int) -> str:
    """The form of a word; a verb where it can't be anything else: to work, I work."""
    text = q.words[place].text
    if text.removesuffix("s").endswith("ing"):
        return "ing"
    if text.endswith("ed") or irregular(text):
        return "past"
    return "verb" if place and q.words[place - 1].text in _BEFORE_VERBS else ""


def wanted(a: Question, b: Question) -> bool:
    """Whether another thing is asked for behind the same beginning: explain how, explain why; what day, what year."""
    return any(
        one and other and one != other
        for one, other in (
            ([t for i, t in enumerate(q.texts()) if t in WH and i not in q.frame] for q in (a, b)),
            ({t for i, t in enumerate(q.texts()) if t in _TIMES and i in q.frame} for q in (a, b)),
            ({_ORDERS[t] for i, t in enumerate(q.texts()) if t in _ORDERS and i in q.frame} for q in (a, b)),
        )
    )


def wording(a: Question, b: Question) -> bool:
    """Whether a prompt about words is about others: what rhymes with big, with large."""
    if not any(_ABOUT_WORDS.search(q.text) for q in (a, b)):
        return False
    one, other = (
        [w.text for i, w in enumerate(q.words) if i not in q.frame and w.text not in _HARMLESS] for q in (a, b)
    )
    return sorted(one) != sorted(other)


def quantity(a: Question, b: Question) -> bool:
    """Few or a few, little or a little."""
    one, other = ([match.group(0).lower() for match in _FEW.finditer(q.text)] for q in (a, b))
    return len(one) == len(other) and one != other

"""What must never be overlooked between two similar prompts: each guard is a named reason to say no.

A sentence embedding hardly moves when "3 months" becomes "4 months" or "safe" becomes "unsafe". So a near prompt is
verified before its answer is served, and in doubt there is no hit. The guards work on words alone, in under a
millisecond.

No classifier follows them. One over the states of the embedding model took ten times as long and served 2.7 points more
of QQP's duplicates at a greater share of false ones: it did not earn its milliseconds (docs/decisions/0006).
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final, Literal

from services.cache.verification.alignment import Alignment, align
from services.cache.verification.characters import CAPITONYMS, bare, cased, code, foreign, symbols
from services.cache.verification.lexicon import degrees, lexicon
from services.cache.verification.numbers import numbers
from services.cache.verification.questions import Question, question
from services.cache.verification.roles import reordered
from services.cache.verification.substitutions import (
    connectors,
    inflection,
    modality,
    prepositions,
    quantity,
    wanted,
    wording,
)
from services.cache.verification.words import FUNCTION, LIGHT, NEGATIONS, PERSONAL, PERSONS

Reason = Literal[
    "unreadable", "symbols", "numbers", "negation", "units", "antonyms", "names", "roles", "connectors", "wording",
    "question", "person", "tense", "modality", "prepositions", "reference", "order", "content",
]  # fmt: skip
# What nothing overrules. The other guards see another way to ask more often than another question: what they say
# refuses until enough answers were compared to know what it is worth (see learning.threshold).
FORBIDDING: Final[frozenset[Reason]] = frozenset(
    ("unreadable", "symbols", "numbers", "negation", "units", "antonyms", "names", "roles", "connectors", "wording")
)
_NEGATING_PREFIX: Final = re.compile(r"^(?:un|in|im|il|ir|non|dis|mis|anti|de)(?=[a-z]{3})")
_TIMES: Final = "year|month|week|day|time|century|decade|season|summer|winter|world|morning|weekend"
_POINTING: Final = re.compile(
    rf"\b(?:this|these|those) (?!is\b|are\b|{_TIMES})\w"
    r"|\b(?:above|attached|the following)\b|\b(?:is|are) (?:this|these)\b",
    re.IGNORECASE,
)
_UNITS: Final = {
    *("kg", "kilo", "kilogram", "g", "gram", "mg", "milligram", "lb", "lbs", "pound", "ounce", "oz", "ton", "tonn"),
    *("km", "kilometer", "kilometr", "m", "meter", "metr", "cm", "mm", "mil", "mile", "yard", "foot", "ft", "inch"),
    *("second", "sec", "minut", "min", "hour", "hr", "day", "week", "month", "year", "decad", "century", "quarter"),
    *("celsiu", "celsius", "fahrenheit", "kelvin", "degre", "liter", "litr", "gallon", "pint", "cup", "ml", "acr"),
    *("dollar", "usd", "eur", "euro", "gbp", "yen", "inr", "rupe", "cent", "$", "€", "£", "¥", "₹", "%", "percent"),
    *("kb", "mb", "gb", "tb", "byt", "bit", "kbps", "mbps", "watt", "kw", "kwh", "volt", "amp", "hz", "khz", "mhz"),
    *("ghz", "lakh", "cror", "bn", "mn", "k", "dozen", "am", "pm", "hectar", "knot", "mph", "kph", "calori", "joul"),
}


# Behind these a letter is a name.
LETTERED: Final = {
    *("vitamin", "hepatiti", "hepatitis", "typ", "type", "grad", "grade", "plan", "influenza", "part", "group"),
}
# With a capital these begin an order.
VERBS_OF_ORDER: Final = {
    *("writ", "write", "draft", "compos", "creat", "com", "come", "mak", "make", "giv", "give", "generat"),
}


@dataclass(frozen=True)
class Pairing:
    """Two prompts beside each other, taken apart and matched once for all guards."""

    asked: str
    stored: str

    @cached_property
    def equal(self) -> bool:
        """Whether they are the same but for blanks between words and the case of the first letter."""
        return bare(self.asked) == bare(self.stored)

    @cached_property
    def a(self) -> Question:
        return question(self.asked)

    @cached_property
    def b(self) -> Question:
        return question(self.stored)

    @cached_property
    def alignment(self) -> Alignment:
        return align(self.a, self.b)

    @cached_property
    def left(self) -> list[str]:
        """Lemmas of the first that nothing in the second stands for."""
        return [self.a.words[i].lemma for i in self.alignment.left]

    @cached_property
    def right(self) -> list[str]:
        return [self.b.words[j].lemma for j in self.alignment.right]

    @cached_property
    def open(self) -> bool:
        """Whether both ask openly (what, how …), so that light words carry little."""
        return bool(self.a.kinds and self.b.kinds) and not {"whether", ""} & {*self.a.kinds, *self.b.kinds}


def objection(asked: str, stored: str) -> Reason | None:
    """The first guard that speaks against serving one's answer for the other; those that forbid speak first."""
    pair = Pairing(asked, stored)
    if pair.equal:
        return None
    for reason, speaks in _GUARDS:
        if speaks(pair):
            return reason
    return None


def opposed(one: str, other: str) -> bool:
    """Whether one of two answers denies what the other says, or says the opposite."""
    pair = Pairing(one, other)
    return bool(_negations(pair.a)) != bool(_negations(pair.b)) or _prefixed(pair) or _antonyms(pair)


def _unreadable(pair: Pairing) -> bool:
    """Whether the embedding can't tell what they say."""
    if any(foreign(word) for word in (*pair.left, *pair.right)):
        return True
    return any(not _readable(text, q) for text, q in ((pair.asked, pair.a), (pair.stored, pair.b)))


def _readable(text: str, q: Question) -> bool:
    """Whether the words are words of a language in Latin letters, and there are any."""
    letters = [c for c in text if c.isalpha()]
    return bool(q.words) and sum(c.isascii() or "À" <= c <= "ɏ" for c in letters) >= 0.9 * len(letters)


def _symbols(pair: Pairing) -> bool:
    """Operators, emoji, code, the case of flags and acronyms."""
    a, b = pair.asked, pair.stored
    return symbols(a) != symbols(b) or code(a) != code(b) or cased(a, b)


def _numbers(pair: Pairing) -> bool:
    return numbers(pair.asked) != numbers(pair.stored)


def _negation(pair: Pairing) -> bool:
    return _negations(pair.a) != _negations(pair.b) or _prefixed(pair)


def _prefixed(pair: Pairing) -> bool:
    """Whether a word has a negating prefix on one side only: edible and inedible."""
    left, right = set(pair.left), set(pair.right)
    return any(
        _NEGATING_PREFIX.sub("", word) in others for words, others in ((left, right), (right, left)) for word in words
    )


def _negations(q: Question) -> int:
    return sum(word.text in NEGATIONS for word in q.words)


def _units(pair: Pairing) -> bool:
    left, right = set(pair.left) & _UNITS, set(pair.right) & _UNITS
    if (left and right) or ((left or right) and any(word.number for word in pair.a.words)):
        return True
    # What a number counts must be the same on both sides: 5 kg, 5 lb.
    return _counted(pair.a) != _counted(pair.b)


def _counted(q: Question) -> Counter[str]:
    return Counter(word.text for word in q.words if word.text in {"$", "€", "£", "¥", "₹", "%", "°"})


def _antonyms(pair: Pairing) -> bool:
    left, right = ({form for word in set(side) for form in degrees(word)} for side in (pair.left, pair.right))
    antonyms = lexicon().antonyms
    return any(not right.isdisjoint(antonyms[form]) for form in left if form in antonyms)


def _names(pair: Pairing) -> bool:
    left = [pair.a.words[i] for i in pair.alignment.left]
    right = [pair.b.words[j] for j in pair.alignment.right]
    if any(word.capital and not word.first and word.text not in FUNCTION for word in (*left, *right)):
        return True
    # At the beginning a capital alone says nothing, on both sides it does: Paris weather, London weather.
    if any(word.capital and word.lemma not in VERBS_OF_ORDER for word in left) and any(
        word.capital and word.lemma not in VERBS_OF_ORDER for word in right
    ):
        return True
    return _lettered(pair.a) != _lettered(pair.b) or _capitonyms(pair)


def _lettered(q: Question) -> int:
    """Hepatitis A, vitamin a: a letter that is a name looks like an article."""
    return sum(
        word.text == "a" and (word.capital or before.lemma in LETTERED) and not word.first
        for before, word in pairwise(q.words)
    )


def _capitonyms(pair: Pairing) -> bool:
    """Whether a word is a name on one side only: Polish and polish, Turkey and turkey."""
    matched = ((pair.a.words[i], pair.b.words[j]) for i, j, _ in pair.alignment.pairs)
    return any(
        one.capital != other.capital and one.text in CAPITONYMS and not (one.first or other.first)
        for one, other in matched
    )


def _connectors(pair: Pairing) -> bool:
    return connectors(pair.a, pair.b, pair.alignment) or quantity(pair.a, pair.b)


def _wording(pair: Pairing) -> bool:
    return wording(pair.a, pair.b)


def _question(pair: Pairing) -> bool:
    return (_asks(pair.a) != _asks(pair.b) and not _compared(pair)) or wanted(pair.a, pair.b)


def _asks(q: Question) -> list[str]:
    """What is asked; a bare noun phrase asks what."""
    return sorted({kind or "what" for kind in q.kinds})


def _compared(pair: Pairing) -> bool:
    texts = {*pair.a.texts(), *pair.b.texts()}
    return {*_asks(pair.a), *_asks(pair.b)} == {"what", "whether"} and {"or", "than"} <= texts


def _person(pair: Pairing) -> bool:
    # How or where one does a thing is how anyone does: only what is not the subject's own matters then.
    if {*pair.a.kinds, *pair.b.kinds} <= {"how", "where"}:
        return _others(pair.a) != _others(pair.b)
    return pair.a.persons != pair.b.persons


def _others(q: Question) -> list[str]:
    """The persons of a prompt but its subject: how do I find mine, how do you find yours, and nobody else's."""
    texts = q.texts()
    # Where nobody is the subject (how to, a good way to) it is anybody, who says my or your.
    own = {PERSONS[text] for i, text in enumerate(texts) if i in q.frame and text in PERSONS} or {"1", "2"}
    found = [PERSONAL[text] for i, text in enumerate(texts) if i not in q.frame and text in PERSONAL]
    return sorted(person for person in found if person not in own | {"it"})


def _tense(pair: Pairing) -> bool:
    return pair.a.tenses != pair.b.tenses or inflection(pair.a, pair.b, pair.alignment)


def _modality(pair: Pairing) -> bool:
    if {*pair.a.kinds, *pair.b.kinds} == {"whether"} and pair.a.modals != pair.b.modals:
        return True
    return modality(pair.a, pair.b)


def _prepositions(pair: Pairing) -> bool:
    return prepositions(pair.a, pair.b, pair.alignment)


def _reference(pair: Pairing) -> bool:
    """Whether a prompt points outside itself: this poem, the code above. Only the same words can mean the same then."""
    return any(len(q.kinds) == 1 and _POINTING.search(q.text) for q in (pair.a, pair.b))


def _roles(pair: Pairing) -> bool:
    """Whether the very same words say who does what to whom another way round."""
    return not (pair.left or pair.right) and _order(pair)


def _order(pair: Pairing) -> bool:
    return reordered(pair.a, pair.b, pair.alignment)


def _content(pair: Pairing) -> bool:
    """Whether a word is left over; on one side of an open question light ones (good, way) may be."""
    if pair.left and pair.right:
        return True
    return any(word not in LIGHT or not pair.open for word in (*pair.left, *pair.right))


_GUARDS: Final[tuple[tuple[Reason, Callable[[Pairing], bool]], ...]] = (
    ("unreadable", _unreadable),
    ("numbers", _numbers),
    ("symbols", _symbols),
    ("negation", _negation),
    ("units", _units),
    ("antonyms", _antonyms),
    ("names", _names),
    ("roles", _roles),
    ("connectors", _connectors),
    ("wording", _wording),
    ("question", _question),
    ("person", _person),
    ("tense", _tense),
    ("modality", _modality),
    ("prepositions", _prepositions),
    ("reference", _reference),
    ("order", _order),
    ("content", _content),
)

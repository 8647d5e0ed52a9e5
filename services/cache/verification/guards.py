"""What must never be overlooked between two similar prompts: each guard is a named reason to say no."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Final, Literal

from services.cache.verification.alignment import Alignment, align
from services.cache.verification.lexicon import degrees, lexicon
from services.cache.verification.numbers import numbers
from services.cache.verification.questions import Question, question
from services.cache.verification.roles import reordered
from services.cache.verification.words import FUNCTION, LIGHT, NEGATIONS

Reason = Literal[
    "unreadable", "numbers", "negation", "units", "antonyms", "names", "question", "person", "tense", "reference",
    "order", "content", "classifier",
]  # fmt: skip
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


# More words than these without a match are another question, whatever the classifier says.
MOST_OPEN: Final = 3
# Words that turn a question, however small their share in its vector.
PIVOTAL: Final = {
    *("more", "less", "few", "fewer", "most", "least", "all", "every", "each", "only", "both", "half", "many", "much"),
    *("always", "never", "sometim", "often", "rarely", "before", "after", "since", "until", "against", "under", "over"),
    *("above", "below", "up", "down", "out", "off", "inside", "outsid", "old", "new", "first", "last", "next", "still"),
    *("already", "yet", "again", "used", "becom", "begin", "stop", "start", "end", "today", "tomorrow", "yesterday"),
    *("now", "future", "past", "former", "previou", "current", "he", "she", "man", "woman", "male", "female", "boy"),
    *("girl", "men", "women", "worst", "bad", "wrong", "cheap", "expensiv", "fast", "slow", "without", "alon", "same"),
}


@dataclass(frozen=True)
class Pairing:
    """Two prompts beside each other, taken apart and matched once for all guards."""

    asked: str
    stored: str

    @cached_property
    def equal(self) -> bool:
        """Whether they are the same but for space and case."""
        return " ".join(self.asked.split()).casefold() == " ".join(self.stored.split()).casefold()

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
    def heavy_left(self) -> list[str]:
        """Those of them that carry weight in a question like this."""
        return [word for word in self.left if not (self.open and word in LIGHT)]

    @cached_property
    def heavy_right(self) -> list[str]:
        return [word for word in self.right if not (self.open and word in LIGHT)]

    @cached_property
    def leftover(self) -> bool:
        """Whether a word that carries weight has no match."""
        return not self.equal and bool(self.heavy_left or self.heavy_right)

    @cached_property
    def open(self) -> bool:
        """Whether both ask openly (what, how …), so that light words carry little."""
        return bool(self.a.kinds and self.b.kinds) and not {"whether", ""} & {*self.a.kinds, *self.b.kinds}


def objection(pair: Pairing) -> Reason | None:
    """The first guard that speaks against serving one's answer for the other."""
    if pair.equal:
        return None
    for reason, speaks in _GUARDS:
        if speaks(pair):
            return reason
    return None


def _unreadable(pair: Pairing) -> bool:
    return any(not _readable(text, q) for text, q in ((pair.asked, pair.a), (pair.stored, pair.b)))


def _readable(text: str, q: Question) -> bool:
    """Whether the words are words of a language in Latin letters, and there are any."""
    letters = [c for c in text if c.isalpha()]
    return bool(q.words) and sum(c.isascii() or "À" <= c <= "ɏ" for c in letters) >= 0.9 * len(letters)


def _numbers(pair: Pairing) -> bool:
    return numbers(pair.asked) != numbers(pair.stored)


def _negation(pair: Pairing) -> bool:
    if _negations(pair.a) != _negations(pair.b):
        return True
    return any(
        _NEGATING_PREFIX.sub("", word) in others
        for words, others in ((pair.left, pair.right), (pair.right, pair.left))
        for word in words
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
    known = lexicon()
    return any(
        known.opposite(one, other)
        for left in pair.left
        for right in pair.right
        for one, other in product(degrees(left), degrees(right))
    )


def _names(pair: Pairing) -> bool:
    left = [pair.a.words[i] for i in pair.alignment.left]
    right = [pair.b.words[j] for j in pair.alignment.right]
    if any(word.capital and not word.first and word.text not in FUNCTION for word in (*left, *right)):
        return True
    # At the beginning a capital alone says nothing, on both sides it does: Paris weather, London weather.
    return any(word.capital for word in left) and any(word.capital for word in right)


def _question(pair: Pairing) -> bool:
    return _asks(pair.a) != _asks(pair.b) and not _compared(pair)


def _asks(q: Question) -> list[str]:
    """What is asked; a bare noun phrase asks what."""
    return sorted({kind or "what" for kind in q.kinds})


def _compared(pair: Pairing) -> bool:
    texts = {*pair.a.texts(), *pair.b.texts()}
    return {*_asks(pair.a), *_asks(pair.b)} == {"what", "whether"} and {"or", "than"} <= texts


def _person(pair: Pairing) -> bool:
    a, b = pair.a.persons, pair.b.persons
    # How or where one does a thing is how anyone does; what is mine or yours matters elsewhere.
    anyone = {*pair.a.kinds, *pair.b.kinds} <= {"how", "where"} and "he" not in a | b and "she" not in a | b
    return a != b and not anyone


def _tense(pair: Pairing) -> bool:
    if pair.a.tenses != pair.b.tenses:
        return True
    return {*pair.a.kinds, *pair.b.kinds} == {"whether"} and pair.a.modals != pair.b.modals


def _reference(pair: Pairing) -> bool:
    """Whether a prompt points outside itself: this poem, the code above. Only the same words can mean the same then."""
    return any(len(q.kinds) == 1 and _POINTING.search(q.text) for q in (pair.a, pair.b))


def _order(pair: Pairing) -> bool:
    return reordered(pair.a, pair.b, pair.alignment)


def _content(pair: Pairing) -> bool:
    """Whether a word is left over that changes the question; in open ones a word or two are for the classifier."""
    heavy = [*pair.heavy_left, *pair.heavy_right]
    if not pair.open:
        return bool(heavy)
    return len(heavy) > MOST_OPEN or any(word in PIVOTAL for word in heavy)


_GUARDS: Final[tuple[tuple[Reason, Callable[[Pairing], bool]], ...]] = (
    ("unreadable", _unreadable),
    ("numbers", _numbers),
    ("negation", _negation),
    ("units", _units),
    ("antonyms", _antonyms),
    ("names", _names),
    ("question", _question),
    ("person", _person),
    ("tense", _tense),
    ("reference", _reference),
    ("order", _order),
    ("content", _content),
)

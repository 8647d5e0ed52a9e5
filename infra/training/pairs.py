"""Pairs of prompts made by rule: edits that keep the question, and edits that change it.

Each edit takes the words of a prompt and gives those of another, or None where it does not apply. The classifier sees
only what the guards let through, so edits that a guard refuses (numbers, negation, names) need no place here.
"""

import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final

from services.cache.verification.alignment import SYNONYM, Alignment, align
from services.cache.verification.guards import Pairing, objection
from services.cache.verification.lexicon import LEXICON, lexicon
from services.cache.verification.questions import question

Edit = Callable[[str, random.Random], str | None]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Two prompts, whether they ask the same, and what kind of pair it is."""

    a: str
    b: str
    same: bool
    kind: str


class Unaware(Pairing):
    """A pair whose synonyms the dictionary does not know, as it will be with most: they are left over."""

    @cached_property
    def alignment(self) -> Alignment:
        full = align(self.a, self.b)
        lost = [(i, j) for i, j, how in full.pairs if how == SYNONYM]
        return Alignment(
            pairs=tuple(pair for pair in full.pairs if pair[2] != SYNONYM),
            left=(*full.left, *(i for i, _ in lost)),
            right=(*full.right, *(j for _, j in lost)),
        )


UNAWARE: Final = 0.7
SHORTEST: Final = 4
_HOW: Final = (
    *("how do i", "how can i", "how to", "how do you", "how could i", "how should i", "how can you", "how would i"),
    *("what is the best way to", "what is a good way to", "what's the best way to", "what are some ways to"),
    *("what are the best ways to", "how does one", "how would you", "what should i do to", "is there a way to"),
)
_WHAT: Final = ("what is", "what's", "what are", "which is", "which are", "tell me", "can you tell me what is")
_HOW_START: Final = re.compile(r"^how (?:do|can|could|should|would) (?:i|you|we|one) |^how to ", re.IGNORECASE)
_WHAT_START: Final = re.compile(r"^(?:what|which)(?: is| are|'s) ", re.IGNORECASE)
_EMPHASIS: Final = ("really", "actually", "currently", "truly", "exactly", "indeed", "just", "basically")
_OPENINGS: Final = (
    *("please tell me ", "can you tell me ", "so ", "hey ", "i want to know ", "could you please tell me ", "hi, "),
    *("i'd like to know ", "do you know ", "tell me "),
)
_ENDINGS: Final = (", please", ", and why", " please", ", thanks", "?")
_DETERMINERS: Final = {"a": ("the", ""), "the": ("a", "", "my"), "my": ("the", "your", "a"), "some": ("the", "any", "")}
_SWAPS: Final = {
    "can": ("could",),
    "could": ("can",),
    "best": ("good",),
    "good": ("best",),
    "great": ("good",),
    "for": ("of",),
    "in": ("at", "on"),
    "on": ("in", "of"),
    "about": ("on", "regarding"),
    "using": ("with",),
    "i": ("you", "we", "one"),
    "should": ("could", "can"),
    "which": ("what",),
    "most": ("the most",),
    "get": ("obtain",),
    "any": ("some",),
    "my": ("your", "our"),
    "with": ("using",),
    "many": ("a lot of",),
}
_ADDED: Final = (
    *("cheap", "small", "local", "foreign", "digital", "red", "free", "famous", "private", "electric", "young"),
    *("organic", "heavy", "secret", "annual", "modern", "legal", "rare", "portable", "advanced", "simple", "healthy"),
    *(
        "online",
        "wooden",
        "professional",
        "temporary",
        "ancient",
        "commercial",
        "military",
        "spicy",
        "broken",
        "remote",
    ),
)
_TAILS: Final = (
    *("online", "at home", "at night", "for free", "for beginners", "for kids", "on a budget", "in winter", "by mail"),
    *("at work", "while travelling", "for a friend", "in an emergency", "on weekends", "with a dog", "over the phone"),
    *("as a student", "for seniors", "by car", "in a small room", "during pregnancy", "in history", "for women"),
)


def same_edits() -> tuple[Edit, ...]:
    """Edits that keep the question."""
    return (
        _reframed, _reframed, _emphasised, _opened, _ended, _determined, _function_word, _number, _synonym, _synonym,
        _synonym, _synonym, _moved, _typed,
    )  # fmt: skip


def _reframed(text: str, rng: random.Random) -> str | None:
    for start, others in ((_HOW_START, _HOW), (_WHAT_START, _WHAT)):
        if start.match(text):
            return start.sub(rng.choice(others) + " ", text, count=1)
    return None


def _emphasised(text: str, rng: random.Random) -> str | None:
    tokens = text.split()
    if len(tokens) < SHORTEST:
        return None
    tokens.insert(rng.randrange(2, len(tokens)), rng.choice(_EMPHASIS))
    return " ".join(tokens)


def _opened(text: str, rng: random.Random) -> str | None:
    return rng.choice(_OPENINGS) + text


def _ended(text: str, rng: random.Random) -> str | None:
    return text.rstrip("?.! ") + rng.choice(_ENDINGS)


def _determined(text: str, rng: random.Random) -> str | None:
    return _replaced(text, rng, _DETERMINERS)


def _function_word(text: str, rng: random.Random) -> str | None:
    return _replaced(text, rng, _SWAPS)


def _number(text: str, rng: random.Random) -> str | None:
    """Singular and plural."""
    tokens = text.split()
    places = [
        i for i in _content_places(text) if i < len(tokens) and tokens[i].isalpha() and len(tokens[i]) >= SHORTEST
    ]
    if not places:
        return None
    i = rng.choice(places)
    tokens[i] = tokens[i][:-1] if tokens[i].endswith("s") and not tokens[i].endswith("ss") else tokens[i] + "s"
    return " ".join(tokens)


def _typed(text: str, rng: random.Random) -> str | None:
    """Other capitals and marks."""
    return rng.choice((text.lower(), text.capitalize(), text.rstrip("?.!"), text.rstrip("?.!") + " ?"))


def _moved(text: str, rng: random.Random) -> str | None:  # noqa: ARG001 - every edit takes one
    """The last phrase goes first."""
    match = re.search(r"^(.{12,}) ((?:in|on|at|for|during|with) [\w' ]{3,25})[?.]?$", text)
    return f"{match[2]}, {match[1]}?" if match else None


def _synonym(text: str, rng: random.Random) -> str | None:
    return _replaced(text, rng, _dictionary())


def _replaced(text: str, rng: random.Random, by: dict[str, tuple[str, ...]]) -> str | None:
    tokens = text.split()
    places = [i for i, token in enumerate(tokens) if i and token.lower() in by]
    if not places:
        return None
    i = rng.choice(places)
    tokens[i] = rng.choice(by[tokens[i].lower()])
    return " ".join(token for token in tokens if token)


@cache
def _dictionary() -> dict[str, tuple[str, ...]]:
    stored = json.loads(LEXICON.read_text(encoding="utf-8"))["synonyms"]
    return {word: tuple(others.split()) for word, others in stored.items()}


def other_edits(topic: Sequence[str]) -> tuple[Edit, ...]:
    """Edits that change the question; ``topic`` are words that others use about the same."""
    known = lexicon()

    def substituted(text: str, rng: random.Random) -> str | None:
        tokens = text.split()
        places = [i for i in _content_places(text) if i < len(tokens)]
        if not places:
            return None
        i, word = rng.choice(places), rng.choice(topic)
        if known.synonymous(_lemma(tokens[i]), _lemma(word)) or _lemma(tokens[i]) == _lemma(word):
            return None
        tokens[i] = word
        return " ".join(tokens)

    def modified(text: str, rng: random.Random) -> str | None:
        tokens = text.split()
        places = [i for i in _content_places(text) if 0 < i < len(tokens)]
        if not places:
            return None
        tokens.insert(rng.choice(places), rng.choice((*_ADDED, *topic)))
        return " ".join(tokens)

    return substituted, substituted, substituted, modified, modified, _tailed, _shortened


def _tailed(text: str, rng: random.Random) -> str | None:
    return f"{text.rstrip('?.! ')} {rng.choice(_TAILS)}?"


def _shortened(text: str, rng: random.Random) -> str | None:
    tokens = text.split()
    places = [i for i in _content_places(text) if i < len(tokens)]
    if len(places) < SHORTEST:
        return None
    del tokens[rng.choice(places)]
    return " ".join(tokens)


def _content_places(text: str) -> list[int]:
    """Which of the tokens between spaces carry content."""
    q = question(text)
    starts = {q.words[i].start for i in q.content}
    place, places = 0, []
    for i, token in enumerate(text.split(" ")):
        if any(place <= start < place + len(token) for start in starts):
            places.append(i)
        place += len(token) + 1
    return places


def _lemma(token: str) -> str:
    words = question(token).words
    return words[0].lemma if words else token


def generated(sources: Sequence[tuple[str, str]], count: int, rng: random.Random) -> list[Labelled]:
    """Pairs made from sources (topic, prompt), about as many of the same as of others, all past the guards."""
    topics: defaultdict[str, list[str]] = defaultdict(list)
    for topic, text in sources:
        topics[topic].extend(token for i, token in enumerate(text.split(" ")) if i in set(_content_places(text)))
    result: list[Labelled] = []
    while len(result) < count:
        topic, text = rng.choice(sources)
        same = rng.choice((True, False))
        other = text
        for _ in range(rng.randint(1, 3) if same else rng.randint(0, 2)):
            other = rng.choice(same_edits())(other, rng) or other
        if not same:
            other = rng.choice(other_edits(topics[topic] or ["thing"]))(other, rng) or text
        if other != text and objection(Pairing(text, other)) is None:
            unaware = same and SYNONYM in {how for _, _, how in Pairing(text, other).alignment.pairs}
            result.append(Labelled(text, other, same, "unaware" if unaware and rng.random() < UNAWARE else "generated"))
    return result

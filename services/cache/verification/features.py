"""What the classifier sees of two prompts: how well the words of each find their like in the other.

Late interaction in the manner of ColBERT (Khattab and Zaharia, 2020): every word of one prompt looks for its nearest in
the other by the cosine of their states in the embedding model, in which a word carries its sentence with it.
"""

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from services.cache.verification.alignment import EXACT, KIN, SYNONYM
from services.cache.verification.guards import Pairing
from services.cache.verification.questions import Question
from services.cache.verification.words import AUXILIARIES, GENDERED, PREPOSITIONS, PRONOUNS

Floats = NDArray[np.float32]
NAMES: Final = (
    "similarity", "shortfall", "unmatched", "share", "added", "replaced", "light", "synonyms", "kin", "farthest",
    "prepositions", "determiners", "auxiliaries", "moved",
)  # fmt: skip
_DETERMINERS: Final = {"a", "an", "the", "this", "that", "these", "those", "some", "any", "all"}


class Reading(Protocol):
    """What the embedding model makes of a text; see ``embedder.Reading``."""

    @property
    def vector(self) -> Floats: ...
    @property
    def states(self) -> Floats: ...
    @property
    def offsets(self) -> Sequence[tuple[int, int]]: ...
    @property
    def truncated(self) -> bool: ...


def features(pair: Pairing, asked: Reading, stored: Reading, similarity: float) -> Floats:
    """The features of a pair in the order of NAMES; the same for both directions."""
    a, b, alignment = pair.a, pair.b, pair.alignment
    states_a, shares_a = _of_words(a, asked)
    states_b, shares_b = _of_words(b, stored)
    cosines = states_a @ states_b.T
    left, right = list(alignment.left), list(alignment.right)
    # How near what is left over comes to anything in the other prompt, and how much of its prompt's vector it is.
    nearest = np.concatenate((cosines.max(axis=1)[left], cosines.max(axis=0)[right]))
    share = float(shares_a[left].sum() + shares_b[right].sum())
    heavy_a, heavy_b = len(pair.heavy_left), len(pair.heavy_right)
    related = [(how, float(cosines[i, j])) for i, j, how in alignment.pairs if how != EXACT]
    order = [j for _, j, _ in alignment.pairs]
    return np.array(
        [
            similarity,
            1 - similarity if heavy_a or heavy_b else 0.0,
            nearest.min(initial=1.0),
            share,
            abs(heavy_a - heavy_b),
            min(heavy_a, heavy_b),
            len(left) + len(right) - heavy_a - heavy_b,
            sum(how == SYNONYM for how, _ in related),
            sum(how == KIN for how, _ in related),
            min((cosine for _, cosine in related), default=1.0),
            _difference(a, b, PREPOSITIONS),
            _difference(a, b, _DETERMINERS | set(PRONOUNS) | set(GENDERED)),
            _difference(a, b, AUXILIARIES),
            float(order != sorted(order)),
        ],
        dtype=np.float32,
    )


def _of_words(q: Question, reading: Reading) -> tuple[Floats, Floats]:
    """Of each word the unit mean of its tokens' states, and its share in the vector of the whole text."""
    states = np.zeros((len(q.words), reading.states.shape[1]), dtype=np.float32)
    for i, word in enumerate(q.words):
        inside = [n for n, (start, end) in enumerate(reading.offsets) if start < word.end and end > word.start]
        if inside:
            states[i] = reading.states[inside].mean(axis=0)
    shares = np.maximum(states @ reading.vector, 0)
    norms = np.linalg.norm(states, axis=1, keepdims=True)
    return states / np.maximum(norms, 1e-6), shares / max(float(shares.sum()), 1e-6)


def _difference(a: Question, b: Question, words: set[str]) -> float:
    """How many words of a class one text has outside its frame and the other has not, at most 4."""
    one, other = (
        {word.text for i, word in enumerate(q.words) if word.text in words and i not in q.frame} for q in (a, b)
    )
    return float(min(4, len(one ^ other)))

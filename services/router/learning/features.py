"""What the head sees of a prompt beside its embedding: cheap counts of characters and words.

Counts come from one pass over the bytes and one over the words of the beginning of a prompt, so that half a megabyte
takes no longer than two thousand characters.
"""

import math
import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

# Any change of what follows is a change of this: weights made for other features are refused.
VERSION: Final = "lexical-1"
ANALYSED_CHARS: Final = 2000

_BYTES: Final = {
    "lines": "\n",
    "digits": "0123456789",
    "capitals": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "operators": "+=*/^<>|",
    "LaTeX": "\\$",
    "brackets": "()[]{}",
    "commas": ",",
    "colons": ":;",
    "full stops": ".",
    "questions": "?",
    "quotes": "\"'`",
    "blanks to fill": "_",
}
_WORDS: Final = {
    "asks what or who": "what which who whom whose",
    "asks when or where": "when where",
    "asks how or why": "how why explain",
    "negation": "not no except never least false",
    "statements": "statement statements following true",
    "conditions": "if then suppose given assume let",
    "asks to calculate": "find calculate compute determine evaluate solve",
    "asks to prove": "prove show derive proof",
    "asks to write": "write generate create compose code function program python",
    "quantities": "per each total many much cost percent average",
    "superlatives": "most best likely primarily mainly",
    "past tense": "was were did had",
    "first or second person": "i my me you your",
    "third person": "he she his her they",
    "conjunctions": "because although however while since unless and or but",
}
# Small letters stay, capitals become small, and all else parts words.
_LETTERS: Final = bytes(ord(bytes((byte,)).lower()) if bytes((byte,)).isalpha() else ord(" ") for byte in range(256))
_OPTION: Final = re.compile(rb"\n[A-J][.)]")
_TABLE: Final = np.zeros((256, len(_BYTES) + 1))
for _column, _characters in enumerate(_BYTES.values()):
    _TABLE[list(_characters.encode()), _column] = 1
_TABLE[128:, len(_BYTES)] = 1
_GROUP_OF: Final = {word: group for group, words in enumerate(_WORDS.values()) for word in words.encode().split()}

_GROUPED: Final = frozenset(_GROUP_OF)

_OF_FORM: Final = ("length", "options to choose from", "length of words", "variety of words", "share of digits")
_DIGITS: Final = list(_BYTES).index("digits")

NAMES: Final = (
    *_OF_FORM,
    *_BYTES,
    "other scripts",
    *_WORDS,
)
COUNT: Final = len(NAMES)


def features(prompt: str) -> NDArray[np.float64]:
    """The features of a prompt, of shape (COUNT,), in the order of ``NAMES``: logarithms of counts, and shares.

    All but the length are of the first ``ANALYSED_CHARS`` characters.
    """
    # Python's numbers over small arrays: each step of numpy's costs as much as a dozen of these.
    head = prompt[:ANALYSED_CHARS].encode(errors="replace")
    counts = (np.bincount(np.frombuffer(head, dtype=np.uint8), minlength=256) @ _TABLE).tolist()
    words = head.translate(_LETTERS).split()
    distinct = set(words)
    groups = [0] * len(_WORDS)
    for word in distinct & _GROUPED:
        groups[_GROUP_OF[word]] += 1
    return np.array(
        [
            math.log1p(len(prompt)),
            math.log1p(len(_OPTION.findall(head))),
            len(head) / max(len(words), 1),
            len(distinct) / max(len(words), 1),
            counts[_DIGITS] / max(len(head), 1),
            *map(math.log1p, counts),
            *groups,
        ]
    )

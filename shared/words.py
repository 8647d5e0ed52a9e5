"""Finding the words and phrases a policy lists."""

import re
from collections.abc import Iterable
from typing import Final

ANY_WORD: Final = r"[\w'’-]{1,40}"


def word_pattern(words: Iterable[str]) -> re.Pattern[str]:
    """A pattern that finds any of these words or phrases as whole words, in any case; none at all finds nothing.

    A ``*`` in a phrase stands for one word: "my * order" finds "my last order".
    """
    longest_first = sorted(words, key=len, reverse=True)
    if not longest_first:
        return re.compile(r"(?!)")
    phrases = (re.escape(" ".join(phrase.split())).replace(r"\*", ANY_WORD) for phrase in longest_first)
    return re.compile(rf"(?<!\w)(?:{'|'.join(phrases)})(?!\w)", re.IGNORECASE)

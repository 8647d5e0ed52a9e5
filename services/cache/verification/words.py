"""A prompt as words: contractions spelled out, numbers as digits, lemmas, and which words carry the content."""

import re
from dataclasses import dataclass
from typing import Final

from services.cache.verification.lexicon import lemma

# A word may end in ++ or #: C, C++ and C# are three languages. Symbols of money and share are words.
_WORD: Final = re.compile(r"\d+(?:[.,:/]\d+)*|[^\W\d_]+(?:['’`´][^\W\d_]+)*(?:\+\+|#(?!\w))?|[$€£¥₹%°]|[⁰¹²³⁴⁵⁶⁷⁸⁹½¼¾]")
_THOUSANDS: Final = re.compile(r"(?<=\d),(?=\d{3}(?:\D|$))")
_BOUNDARY: Final = re.compile(r"[.!?](?:\s|$)|[;:\n\"“”()]")
_ENDINGS: Final = {"'s": "is", "'re": "are", "'m": "am", "'ve": "have", "'ll": "will", "'d": "would"}
_IRREGULAR: Final = {
    "can't": ("can", "not"),
    "won't": ("will", "not"),
    "shan't": ("shall", "not"),
    "cannot": ("can", "not"),
    "let's": ("let", "us"),
    "gonna": ("going", "to"),
    "wanna": ("want", "to"),
    "gotta": ("have", "to"),
    **{f"{word}nt": (word, "not") for word in ("do", "does", "did", "is", "are", "was", "were", "has", "have", "had")},
    **{f"{word}nt": (word, "not") for word in ("would", "should", "could")},
    "cant": ("can", "not"),
    "wont": ("will", "not"),
    "aint": ("is", "not"),
    "ain't": ("is", "not"),
    **{f"{word}s": (word, "is") for word in ("what", "how", "where", "who", "when", "that")},
    "im": ("i", "am"),
    "ive": ("i", "have"),
    "youre": ("you", "are"),
    "theyre": ("they", "are"),
    "u": ("you",),
    "ur": ("your",),
    "r": ("are",),
    "n't": ("not",),
    "pls": ("please",),
    "plz": ("please",),
    "thru": ("through",),
    "bcoz": ("because",),
    "cuz": ("because",),
    "dont": ("do", "not"),
}
# As capitals they are names, not short for are and you.
_LETTERS: Final = {"R", "U"}
_NEGATED: Final = re.compile(r"(\w+)n't")
# After these an 's is a verb; elsewhere it marks a possessor.
_BEARERS: Final = {
    *("what", "who", "where", "when", "how", "why", "which", "that", "it", "he", "she", "let"),
}
_UNITS: Final = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS: Final = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
NINE: Final = 9
NUMERALS: Final = {word: value for value, word in enumerate(_UNITS)} | {
    word: 10 * value for value, word in enumerate(_TENS, start=2)
}

WH: Final = {"what", "which", "who", "whom", "whose", "where", "when", "why", "how"}
NEGATIONS: Final = {
    *("no", "not", "never", "none", "nobody", "nothing", "neither", "nor", "without", "nowhere", "hardly"),
    *("except", "lack", "avoid", "fail", "non", "excluding", "exclude", "refuse", "cease"),
}
AUXILIARIES: Final = {
    *("am", "is", "are", "was", "were", "be", "been", "being", "do", "does", "did", "have", "has", "had", "having"),
    *("can", "could", "shall", "should", "will", "would", "may", "might", "must", "get", "gets", "got", "getting"),
}
PREPOSITIONS: Final = {
    *("of", "in", "on", "at", "for", "to", "from", "by", "with", "about", "as", "into", "onto", "during", "using"),
    *("through", "via", "among", "amongst", "between", "within", "towards", "toward", "than", "per", "upon"),
}
CONNECTORS: Final = {"and", "or", "vs", "versus", "nor", "between"}
PRONOUNS: Final = {
    **dict.fromkeys(("i", "me", "my", "mine", "myself", "we", "us", "our", "ours", "ourselves"), "1"),
    **dict.fromkeys(("you", "your", "yours", "yourself", "yourselves"), "2"),
    **dict.fromkeys(("one", "someone", "somebody", "anyone", "anybody", "people", "oneself"), "any"),
    **dict.fromkeys(("they", "them", "their", "theirs", "themselves"), "they"),
    **dict.fromkeys(("it", "its", "itself", "this", "that", "these", "those"), "it"),
}
GENDERED: Final = {
    **dict.fromkeys(("he", "him", "his", "himself"), "he"),
    **dict.fromkeys(("she", "her", "hers", "herself"), "she"),
}
PERSONAL: Final = PRONOUNS | GENDERED
PERSONS: Final = {word: person for word, person in PERSONAL.items() if person not in {"any", "it"}}
# They add politeness, emphasis or "as things are now", which a question means anyway.
FILLERS: Final = {
    *("really", "truly", "actually", "currently", "indeed", "somehow", "exactly", "basically", "just", "simply"),
    *("please", "ever", "literally", "honestly", "definitely", "certainly", "presently", "apparently", "specifically"),
    *("kindly", "anyway", "so", "quite", "perhaps", "maybe", "essentially", "obviously", "surely", "evidently"),
    *("seriously", "hi", "hello", "hey", "thanks", "ok", "okay", "personally", "of"),
}
# They carry little in an open question (what are the best, the main, some good …) and much in a closed one.
LIGHT: Final = {
    *("best", "good", "great", "various", "different", "possible", "several", "way", "like", "need", "want", "know"),
    *("go", "main", "certain", "particular", "own", "thing", "such", "well", "also", "too", "rather", "generally"),
    *("usually", "possibly", "effectively", "properly", "proper", "nice", "type", "kind", "sort"),
    *("example", "mean", "make", "do", "use", "take", "come", "put", "s", "etc", "top", "say", "give", "tell", "think"),
}
_ARTICLES: Final = {"a", "an", "the", "if", "because", "while", "but", "though", "although", "s"}
FUNCTION: Final = AUXILIARIES | PREPOSITIONS | CONNECTORS | _ARTICLES | WH | set(PRONOUNS)
_NUMBER: Final = re.compile(r"\d")


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a prompt.

    Attributes:
        text: lower case; numbers in digits, contractions already taken apart.
        lemma: what inflected forms share; equal lemmas count as the same word.
        start, end: its place in the prompt, in characters.
        capital: whether it is written with one.
        first: whether it begins a sentence.
    """

    text: str
    lemma: str
    start: int
    end: int
    capital: bool = False
    first: bool = False

    @property
    def number(self) -> bool:
        return _NUMBER.search(self.text) is not None


def words(text: str) -> tuple[Word, ...]:
    """The words of a text in their order."""
    found: list[Word] = []
    end = 0
    for match in _WORD.finditer(text):
        first = not found or _BOUNDARY.search(text, end, match.start()) is not None
        end = match.end()
        token = _THOUSANDS.sub("", match[0])
        parts = (token.lower(),) if token in _LETTERS else _parts(re.sub("[’`´]", "'", token.lower()))
        found.extend(
            Word(part, lemma(part), match.start(), end, token[0].isupper(), first and i == 0)
            for i, part in enumerate(parts)
        )
    return tuple(_numbered(found))


def _parts(token: str) -> tuple[str, ...]:
    if token in _IRREGULAR:
        return _IRREGULAR[token]
    if verb := _NEGATED.fullmatch(token):
        return verb[1], "not"
    head, mark, tail = token.rpartition("'")
    if not mark:
        return (token,)
    ending = _ENDINGS.get(f"'{tail}")
    if ending is None or (tail == "s" and head not in _BEARERS):
        return (head,) if tail == "s" else (token.replace("'", ""),)
    return *_parts(head), ending


def _numbered(found: list[Word]) -> list[Word]:
    """Number words as digits: twenty one is 21. "One" alone stays a pronoun."""
    result: list[Word] = []
    for i, word in enumerate(found):
        value = NUMERALS.get(word.text)
        before = result[-1] if result else None
        if value is None:
            result.append(word)
        elif before and before.text in _TENS_DIGITS and value <= NINE and found[i - 1].text in _TENS:
            result[-1] = _as_number(before, str(int(before.text) + value), word.end)
        elif word.text == "one":
            result.append(word)
        else:
            result.append(_as_number(word, str(value), word.end))
    return result


def _as_number(word: Word, digits: str, end: int) -> Word:
    return Word(digits, digits, word.start, end, first=word.first)


_TENS_DIGITS: Final = {str(value) for value in range(20, 100, 10)}

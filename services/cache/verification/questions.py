"""What a prompt asks, and about what: the frame (how, where, whether …) and the words that carry the content."""

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final

from services.cache.verification.words import (
    FILLERS,
    FUNCTION,
    GENDERED,
    NEGATIONS,
    PERSONS,
    PRONOUNS,
    Word,
    words,
)

_WHO: Final = "(?:i|you|we|one|someone|somebody|anyone|a person|people|they|he or she)"
_DO: Final = "(?:do|does|did|can|could|should|would|will|might|may|shall|must)"
_FINE: Final = (
    "(?:best|good|great|better|proper|possible|right|correct|ideal|effective|different|various|most|very|simple)"
)
_WAYS: Final = "(?:way|ways|method|methods|trick|tricks|tip|tips|step|steps|thing|things|technique|techniques)"
_LEADS: Final = (
    *("please", "so", "and", "but", "hi", "hello", "hey", "ok", "okay", "well", "also", "then", "thanks"),
    *("(?:can|could|would|will) you (?:please )?(?:tell|show|give|explain)(?: to)?(?: me| us)?",),
    *("(?:i|we) (?:would like|want|need|d like) to know", "do you know", "does any(?:one|body) know"),
    *("any idea", "i wonder", "i was wondering", "(?:tell|show) (?:me|us)(?: about)?", "let me know", "say"),
    *("according to you", "in your opinion", "do you think(?: that)?"),
)
_LEAD: Final = re.compile(f"(?:{'|'.join(_LEADS)}) (?=.)")
_OPINION: Final = re.compile("(?:do|did|would) you think(?: that)? $")
_WHICH: Final = "(?:what|which) (?:is|are|was|were|would be|s)"
_KIND_OF: Final = f"(?:(?:the|a|an|some|one|your|any|of|{_FINE}) )*(?:\\w+est )?"
_MODAL: Final = "(?:can|could|should)"
_END: Final = "(?= |$)"
_PLACES: Final = f"(?:(?:the|some|a|{_FINE}) )*places?{_END}"
_TIME: Final = "(?:what|which) (?:time|day|date|year|month)"
_SCALES: Final = "(?:long|old|far|often|big|tall|high|fast|hard|good|bad|deep|large|soon|late|heavy|wide)"
_ORDERS: Final = "(?:give|list|name|define|describe|explain|summarize|summarise|recommend|suggest)(?: (?:me|us))?"
_INVERTED: Final = "am|is|are|was|were|do|does|did|can|could|shall|should|will|would|may|might|must|has|have|had"
# Tried in this order at the beginning of each sentence; what matches is the frame, the rest is content.
_FRAMES: Final = tuple(
    (kind, re.compile(f"(?:{'|'.join(patterns)})"))
    for kind, *patterns in (
        (
            "how",
            f"{_WHICH} {_KIND_OF}{_WAYS} (?:to|of|for|by which|in which|(?:that |for )?{_WHO}(?: {_DO})?)(?: |$)",
            f"what (?:{_DO}|is|are) {_WHO} (?:(?:have|need|supposed) to )?do (?:to|for|in order to|so as to)(?: |$)",
            f"(?:is there|are there) (?:any|a|some)? ?(?:{_FINE} )?{_WAYS} (?:to|of|(?:that )?{_WHO} {_DO})(?: |$)",
            f"how (?:to|{_DO} {_WHO})(?: (?:best|go about|possibly))?{_END}",
        ),
        (
            "feel",
            f"(?:what|how) (?:does|is|was|did|would|s) it (?:feel|be|is)(?: like)?{_END}",
            f"what (?:is|was) it like{_END}",
        ),
        ("how much", f"how much{_END}"),
        ("how many", f"how many{_END}", f"what (?:is|was) the (?:total )?number of{_END}"),
        ("how:", f"how {_SCALES}{_END}"),
        ("how", f"how{_END}(?! come )"),
        ("what", f"where (?:is|are|was|were) (?={_PLACES})"),
        ("where", f"where (?:can|could|should|do|would) {_WHO}{_END}"),
        ("what", f"(?:what|which) {_MODAL} {_WHO}{_END}"),
        ("when", f"when {_MODAL} {_WHO}{_END}", f"when{_END}", f"(?:(?:at|on|in) )?{_TIME}{_END}"),
        ("where", f"where{_END}", f"(?:in|at|to|from) (?:what|which) place{_END}"),
        ("why", f"why{_END}", f"what (?:is|are) the reasons? (?:for|why|that|behind){_END}", f"for what reason{_END}"),
        ("why", f"how come{_END}"),
        ("who", f"(?:(?:by|to|for|with|of|from) )?(?:who|whom|whose){_END}"),
        ("what", f"(?:(?:by|to|for|with|of|from|in|at|on|under|about) )?(?:what|which){_END}", f"{_ORDERS}{_END}"),
        ("whether", f"(?:{_INVERTED}){_END}"),
    )
)
# In Python, how do I …
_FRONTED: Final = re.compile(
    "(?:in|on|at|for|with|during|from) (?:[\\w']+ ){1,5}?(?=(?:how|what|which|who|when|where|why)(?: |$))"
)
_SUFFIX: Final = re.compile(
    f" (?:what (?:should|can|do|must|could|would) {_WHO} (?:have to |need to )?do|why or why not|"
    "in your opinion|according to you|(?:and )?if so how|and how(?: so)?|please|thanks|thank you)$"
)
_PURPOSE: Final = re.compile(f"(?:in order to|so as to|to|if {_WHO} (?:wants?|needs?|would like) to) ")
_PAST: Final = {"did", "was", "were", "had", "used"}
_MODALS: Final = {
    "can": "can",
    "could": "can",
    "possible": "can",
    "able": "can",
    "should": "should",
    "must": "must",
    "may": "may",
    "might": "may",
}
_OBJECTS: Final = {"me", "us", "them", "him"}  # sue me is not: I sue
_FUTURE: Final = {"will", "shall"}


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt, taken apart.

    Attributes:
        text: the prompt itself.
        words: all of its words.
        kinds: what its sentences ask, in their order: how, what, who, where, when, why, whether; "" where none shows.
        content: indices of the words that carry content, in their order.
        frame: indices of the words that only say how it is asked.
        persons: grammatical persons outside the frame.
        tenses: past or future where an auxiliary says so.
        modals: can, should, must, where they stand.
    """

    text: str
    words: tuple[Word, ...]
    kinds: tuple[str, ...]
    content: tuple[int, ...]
    frame: frozenset[int]
    persons: frozenset[str]
    tenses: frozenset[str]
    modals: frozenset[str]

    def texts(self) -> list[str]:
        return [word.text for word in self.words]


@lru_cache(maxsize=1024)  # one of 2,000 characters takes 70 KB
def question(text: str) -> Question:
    """Take a prompt apart; equal texts give equal results."""
    found = words(text)
    kinds: list[str] = []
    frame: set[int] = set()
    for start, end in _sentences(found):
        kind, framed = _framed(found, start, end)
        frame |= framed
        if len(framed) < end - start or (kind and end - start == len(found)):
            kinds.append(kind)
    outside = [word.text for i, word in enumerate(found) if i not in frame]
    persons = frozenset(PERSONS[text] for text in outside if text in PERSONS)
    # Where two persons meet, who is who matters: do you love me.
    carried = PERSONS.keys() if len(persons) > 1 or _OBJECTS.intersection(outside) else GENDERED.keys()
    content = tuple(
        i
        for i, word in enumerate(found)
        if i not in frame and (word.text in carried or _carries(word.text)) and not _expletive(found, i)
    )
    return Question(
        text=text,
        words=found,
        kinds=tuple(kinds),
        content=content,
        frame=frozenset(frame),
        persons=persons,
        tenses=_tenses(found),
        modals=frozenset(_MODALS[word.text] for word in found if word.text in _MODALS),
    )


def _sentences(found: tuple[Word, ...]) -> list[tuple[int, int]]:
    starts = [i for i, word in enumerate(found) if word.first]
    return list(pairwise([*starts, len(found)]))


def _framed(found: tuple[Word, ...], start: int, end: int) -> tuple[str, set[int]]:
    """What a sentence asks, and which of its words say so."""
    texts = [word.text for word in found[start:end]]
    joined = " ".join(texts)
    kind, spans = _frame(joined)
    framed, place = set(), 0
    for i, text in enumerate(texts):
        # A superlative way is content: the fastest way is not any way.
        superlative = kind == "how" and text.endswith("est") and text != "best"
        if not superlative and any(begin <= place < stop for begin, stop in spans):
            framed.add(start + i)
        place += len(text) + 1
    return kind, framed


def _frame(sentence: str) -> tuple[str, list[tuple[int, int]]]:
    """What a sentence asks, and the parts of it, in characters, that say so."""
    begin = 0
    while lead := _LEAD.match(sentence, begin):
        begin = lead.end()
    spans = [(0, begin)]
    if suffix := _SUFFIX.search(sentence, begin):
        asks = suffix[0].startswith(" what")
        purpose = _PURPOSE.match(sentence, begin)
        if purpose or not asks:
            spans.append((suffix.start(), len(sentence)))
        if purpose and asks:
            return "how", [*spans, (begin, purpose.end())]
    if fronted := _FRONTED.match(sentence, begin):
        begin = fronted.end()
    for kind, pattern in _FRAMES:
        if match := pattern.match(sentence, begin):
            return match[0] if kind == "how:" else kind, [*spans, match.span()]
    return "whether" if _OPINION.search(sentence[:begin]) else "", spans


def _expletive(found: tuple[Word, ...], place: int) -> bool:
    """How many are there: the word holds a place, and names none."""
    return found[place].text == "there" and place > 0 and found[place - 1].text in {"is", "are", "was", "were"}


def _carries(text: str) -> bool:
    return text in NEGATIONS or not (text in FUNCTION or text in FILLERS or text in PRONOUNS)


def _tenses(found: tuple[Word, ...]) -> frozenset[str]:
    texts = {word.text for word in found}
    return frozenset(name for name, marks in (("past", _PAST), ("future", _FUTURE)) if texts & marks)

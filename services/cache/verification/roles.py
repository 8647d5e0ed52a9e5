"""Who does what to whom: whether the same words in another order still say the same."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from services.cache.verification.alignment import Alignment
from services.cache.verification.lexicon import participle
from services.cache.verification.questions import Question
from services.cache.verification.words import NEGATIONS, PREPOSITIONS

_BE: Final = {"am", "is", "are", "was", "were", "be", "been", "being", "get", "gets", "got", "getting"}
_LISTS: Final = {"and", "or", "vs", "versus", "nor"}
_JUDGING: Final = {"best", "great", "favorite", "favourite"}
LONGEST_COMPOUND: Final = 3
LONGEST_PAIR: Final = 2
# Beyond this many words in another order nobody would find it harmless, and the search takes its square.
LONGEST_WINDOW: Final = 24
_COMPOUNDING: Final = {"of", "in", "a", "an", "the", "my", "your"}
# A glass of wine is no wine glass.
_CONTAINERS: Final = {
    *(
        "glass",
        "cup",
        "bottl",
        "box",
        "hous",
        "bag",
        "can",
        "jar",
        "bowl",
        "plat",
        "pot",
        "cas",
        "bed",
        "bucket",
        "pack",
    ),
}
_NEUTRAL: Final = {"a", "an", "the", "both", "either", "in", "of", "simultaneously"}
_DETERMINERS: Final = {"the", "a", "an", "my", "your", "his", "her", "their"}
# Relations that hold both ways: each takes a preposition, or none at all.
_MUTUAL: Final = {
    *("marry", "married", "engag", "friend", "sibling", "relat", "connect", "clos", "next", "similar"),
    *("differ", "same", "sam", "different", "acquaintanc", "equal", "neighbor", "neighbour", "partner"),
    *("cousin", "twin", "brother", "sister", "spous", "colleagu", "roommat", "classmat", "coworker"),
    *("identical", "equivalent", "adjacent", "attach", "link", "tie", "divorc", "separat", "involv"),
    *("bound", "unit", "join", "parallel", "opposit", "rival", "ally"),
}
_MUTUAL_BARE: Final = {"dat", "near", "marry", "resembl", "equal", "vs", "versus"}
_MUTUAL_PREPOSITIONS: Final = {"to", "with", "of", "from"}
# Of these it doesn't matter which end comes first: the distance from A to B.
_SPANS: Final = {"distanc", "compar", "comparison", "relationship", "differenc", "similarity"}


def reordered(a: Question, b: Question, alignment: Alignment) -> bool:
    """Whether the matched words have another order, or the same under another voice, that changes who does what."""
    loose = [(i, j) for i, j, _ in alignment.pairs if _loose(a, i) or _loose(b, j)]
    loose_a, loose_b = {i for i, _ in loose}, {j for _, j in loose}
    one, other = [i for i in _roles(a) if i not in loose_a], [j for j in _roles(b) if j not in loose_b]
    rank = {i: n for n, (i, _, _) in enumerate(alignment.pairs)}
    back = {j: rank[i] for i, j, _ in alignment.pairs}
    first = [rank[i] for i in one if i in rank]
    second = [back[j] for j in other if j in back]
    if first == second:
        return False
    return not _harmless(a, b, alignment, first, second)


def _run(q: Question, begin: int) -> list[int]:
    """The content words from a place on, up to the first other word that is not an article."""
    run = []
    for i in range(begin, len(q.words)):
        if i in q.content:
            run.append(i)
        elif q.words[i].text not in _DETERMINERS:
            break
    return run


def _loose(q: Question, place: int) -> bool:
    """Words whose place says nothing: $1000 and 1000$, the best one and which is best, legally before or after."""
    text = q.words[place].text
    return not text[0].isalnum() or text in _JUDGING or (text.endswith("ly") and q.kinds != ("whether",))


def _roles(q: Question) -> list[int]:
    """The content words with the agent of a passive before its verb: "was the land left by Ann" is Ann, leave, land."""
    order = list(q.content)
    texts = q.texts()
    for place, text in enumerate(texts):
        verb = place - 1
        if text == "to" and texts[verb] == "according":
            holder = _run(q, place + 1)
            return [*holder, *(i for i in order if i not in holder)]
        if text != "by" or verb not in order or not participle(texts[verb]):
            continue
        if not any(t in _BE for t in texts[max(0, verb - 8) : verb]):
            continue
        agent = _run(q, place + 1)
        if not agent:
            continue
        before, after = order[: order.index(verb)], order[order.index(agent[-1]) + 1 :]
        # What stands between the auxiliary and the verb is what it is done to.
        return [*agent, verb, *before, *after]
    return order


def _harmless(a: Question, b: Question, alignment: Alignment, first: Sequence[int], second: Sequence[int]) -> bool:
    head = 0
    while head < min(len(first), len(second)) and first[head] == second[head]:
        head += 1
    tail = 0
    while tail < min(len(first), len(second)) - head and first[-1 - tail] == second[-1 - tail]:
        tail += 1
    one, other = list(first[head : len(first) - tail]), list(second[head : len(second) - tail])
    if len(one) > LONGEST_WINDOW:
        return False
    places_a = [i for i, _, _ in alignment.pairs]
    places_b = [j for _, j, _ in alignment.pairs]
    for p in range(1, len(one)):
        for q in range(p, len(one)):
            block, middle, rest = one[:p], one[p:q], one[q:]
            if rest and rest + middle + block == other and _exchangeable(a, b, places_a, places_b, block, middle, rest):
                return True
    return (
        len(one) > LONGEST_PAIR
        and sorted(one) == sorted(other)
        and _listed(a, places_a, one)
        and _listed(b, places_b, other)
    )


def _exchangeable(
    a: Question,
    b: Question,
    places_a: Sequence[int],
    places_b: Sequence[int],
    block: list[int],
    middle: list[int],
    rest: list[int],
) -> bool:
    if _sentences_of(a, [places_a[n] for n in (*block, *middle, *rest)]) > 1:
        return False
    if any(a.words[places_a[n]].text in NEGATIONS for n in (*block, *middle, *rest)):
        return False
    if middle:
        return _mutual(a, [places_a[n] for n in middle]) and _mutual(b, [places_b[n] for n in middle])
    if _comparison(a, b):
        return True
    between_a, between_b = _between(a, places_a, block, rest), _between(b, places_b, rest, block)
    if _connected(between_a) and _connected(between_b) and between_a & _LISTS == between_b & _LISTS:
        return True
    if _spanned(a, places_a[block[0]], between_a) and _spanned(b, places_b[rest[0]], between_b):
        return True
    compound = bool(between_a) != bool(between_b) and between_a | between_b <= _COMPOUNDING
    held = {a.words[places_a[n]].lemma for n in (*block, *rest)} & _CONTAINERS
    if compound and not held and len(block) + len(rest) <= LONGEST_COMPOUND:  # website traffic, traffic of a website
        return _near(places_a, block, rest) and _near(places_b, rest, block)
    if (between_a | between_b) & _LISTS and len(block) == len(rest) == 1:  # a Russian actor, an actor and Russian
        gap_a = abs(places_a[rest[0]] - places_a[block[0]])
        gap_b = abs(places_b[rest[0]] - places_b[block[0]])
        return min(gap_a, gap_b) == 1 and max(gap_a, gap_b) <= LONGEST_COMPOUND and "or" not in between_a | between_b
    moved = [_moved(a, b, places_a[n], places_b[n]) for n in (block[0], rest[0])]
    return any(moved) and moved != ["to", "to"]  # live to eat, eat to live


def _sentences_of(q: Question, places: Sequence[int]) -> int:
    """How many sentences the words are of."""
    return 1 + sum(q.words[i].first for i in range(min(places) + 1, max(places) + 1))


def _mutual(q: Question, middle: Sequence[int]) -> bool:
    """Whether what stands between the two holds both ways: engaged to, an acquaintance of, dating."""
    if len(middle) != 1:
        return False
    word, after = q.words[middle[0]], q.words[middle[0] + 1].text if middle[0] + 1 < len(q.words) else ""
    return word.lemma in _MUTUAL_BARE or (word.lemma in _MUTUAL and after in _MUTUAL_PREPOSITIONS)


def _connected(between: set[str]) -> bool:
    return bool(between & _LISTS) and between <= _LISTS | _NEUTRAL


def _spanned(q: Question, begin: int, between: set[str]) -> bool:
    """Whether two ends of a distance, or the two sides of a comparison, begin here."""
    before = [q.words[i].lemma for i in q.content if i < begin][-1:]
    return bool(_SPANS.intersection(before)) and bool(between & {"to", "with", "from", "and"})


def _near(places: Sequence[int], block: list[int], rest: list[int]) -> bool:
    return places[rest[0]] - places[block[-1]] <= LONGEST_COMPOUND


def _comparison(a: Question, b: Question) -> bool:
    """Are cats louder than dogs, what is louder, dogs or cats; not two that both say than."""
    than_a, than_b = "than" in a.texts(), "than" in b.texts()
    return than_a != than_b and "or" in (b if than_a else a).texts()


def _between(q: Question, places: Sequence[int], block: list[int], rest: list[int]) -> set[str]:
    """The words that lie between two blocks."""
    start, end = places[block[-1]], places[rest[0]]
    return {word.text for word in q.words[start + 1 : end]} if start < end else set()


def _moved(a: Question, b: Question, i: int, j: int) -> str | None:
    """The preposition that what begins here goes with: in India, what is … and what is … in India."""
    one, other = _governor(a, i), _governor(b, j)
    return one if one == other else None


def _governor(q: Question, place: int) -> str | None:
    for i in range(place - 1, max(-1, place - 4), -1):
        text = q.words[i].text
        if text in PREPOSITIONS and text not in {"than", "as"}:
            return text
        if i in q.content:
            return None
    return None


def _listed(q: Question, places: Sequence[int], block: list[int]) -> bool:
    """Whether words stand in a list: between two of them is a comma, a stroke or a connector, and nothing else."""
    inside = sorted(places[n] for n in block)
    for one, other in pairwise(inside):
        between = {word.text for word in q.words[one + 1 : other]}
        gap = q.text[q.words[one].end : q.words[other].start]
        if not between <= _LISTS | _NEUTRAL or not (between & _LISTS or set(gap) & {",", "/", "&"}):
            return False
    return True

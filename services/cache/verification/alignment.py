"""Which word of one prompt stands for which of the other, and what is left over."""

from collections import defaultdict
from dataclasses import dataclass

from services.cache.verification.lexicon import lexicon
from services.cache.verification.questions import Question
from services.cache.verification.words import PERSONS, Word

# Where more is left over on both sides the prompts differ, whatever the dictionary says.
MOST_RELATED = 12
EXACT, KIN, SYNONYM = "exact", "kin", "synonym"


@dataclass(frozen=True, slots=True)
class Alignment:
    """Content words of two prompts, matched.

    Attributes:
        pairs: for each matched word of the first, in its order, the two places and how they match.
        left, right: places of the content words that have no match.
    """

    pairs: tuple[tuple[int, int, str], ...]
    left: tuple[int, ...]
    right: tuple[int, ...]


def align(a: Question, b: Question) -> Alignment:
    """Match the content words of two prompts: the same lemma first, then kin (arrive, arrival), then synonyms."""
    left, right = dict.fromkeys(a.content), dict.fromkeys(b.content)
    pairs: list[tuple[int, int, str]] = []

    def take(i: int, j: int, how: str) -> None:
        del left[i], right[j]
        pairs.append((i, j, how))

    places: defaultdict[str, list[int]] = defaultdict(list)
    for j in b.content:
        places[_key(b.words[j])].append(j)
    for i in a.content:
        same = places[_key(a.words[i])]
        found = next((j for j in same if not _final_e(a.words[i].text, b.words[j].text)), None)
        if found is not None:
            same.remove(found)
            take(i, found, EXACT)
    _join(a, b, left, right, pairs)
    _join(b, a, right, left, pairs, swapped=True)
    if min(len(left), len(right)) > MOST_RELATED:
        return Alignment(tuple(sorted(pairs)), tuple(left), tuple(right))
    known = lexicon()
    for how, related in ((KIN, known.akin), (SYNONYM, known.synonymous)):
        for i in tuple(left):
            for j in tuple(right):
                if related(a.words[i].lemma, b.words[j].lemma):
                    take(i, j, how)
                    break
    return Alignment(tuple(sorted(pairs)), tuple(left), tuple(right))


def _final_e(one: str, other: str) -> bool:
    """Stems lose their last e, but car and care, plan and plane are no forms of one word."""
    return one + "e" == other or other + "e" == one


def _key(word: Word) -> str:
    """What must be equal: I, me and my are one person."""
    return PERSONS.get(word.text, word.lemma)


def _join(
    a: Question,
    b: Question,
    left: dict[int, None],
    right: dict[int, None],
    pairs: list[tuple[int, int, str]],
    *,
    swapped: bool = False,
) -> None:
    """Mid west is midwest."""
    joined: defaultdict[str, list[int]] = defaultdict(list)
    for i in left:
        if i + 1 in left:
            joined[a.words[i].text + a.words[i + 1].text].append(i)
    for j in tuple(right):
        for i in joined.get(b.words[j].text, ()):
            if i in left and i + 1 in left:
                del left[i], left[i + 1], right[j]
                pairs.append((j, i, EXACT) if swapped else (i, j, EXACT))
                break

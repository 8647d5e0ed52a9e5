"""What words have to do with each other: opposites, synonyms, kin, irregular forms.

Most of it is derived from WordNet by infra.training.lexicon; its notice is in the file.
"""

import json
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any, Final

LEXICON: Final = Path(__file__).with_name("lexicon.json")
# What the dictionary has not, or has under rare senses only: directions, trades, tiers, things that exclude each other.
_OPPOSITES: Final = """
    before after | buy sell | buyer seller | long short | call put | bull bear | bullish bearish | up down | in out
    | on off | above below | over under | with without | into outof | inside outside | upstairs downstairs | left
    right | north south | east west | northern southern | eastern western | more less | more fewer | most least |
    many few | max min | maximum minimum | highest lowest | higher lower | high low | best worst | better worse |
    good bad | increase decrease | increase reduce | raise lower | gain lose | gain loss | profit loss | profit
    hedge | win lose | lend borrow | borrower lender | owe refund | debit credit | deposit withdraw | deposit
    withdrawal | pay charge | send receive | import export | importer exporter | push pull | open close | lock
    unlock | start stop | begin end | enable disable | install uninstall | allow forbid | allow ban | allow prevent
    | accept reject | accept refuse | agree disagree | approve deny | approve reject | connect disconnect | encrypt
    decrypt | encode decode | add remove | add subtract | multiply divide | create delete | create destroy | attach
    detach | hire fire | arrive depart | arrival departure | enter leave | enter exit | come go | marry divorce |
    love hate | like dislike | remember forget | male female | man woman | boy girl | husband wife | father mother |
    dad mom | son daughter | brother sister | uncle aunt | king queen | he she | boyfriend girlfriend | black white
    | hot cold | warm cool | wet dry | day night | morning evening | am pm | today tomorrow | today yesterday |
    yesterday tomorrow | monday sunday | summer winter | safe dangerous | safe unsafe | legal illegal | true false |
    possible impossible | easy hard | easy difficult | cheap expensive | fast slow | early late | young old | new
    old | rich poor | strong weak | light dark | light heavy | thick thin | fat thin | fat skinny | wide narrow |
    deep shallow | full empty | big small | large small | tall short | public private | internal external | indoor
    outdoor | domestic international | domestic foreign | inherit gift | optional mandatory | optional required |
    required forbidden | voluntary mandatory | synchronous asynchronous | upload download | input output | front
    back | top bottom | first last | previous next | past future | ancient modern | positive negative | plus minus |
    odd even | vertical horizontal | major minor | primary secondary | single married | alive dead | live die |
    birth death | born die | sick healthy | awake asleep | pregnant infertile | waive charge | guilty innocent |
    friend enemy | teacher student | doctor patient | employer employee | landlord tenant | parent child | vegan
    vegetarian | vegetarian carnivore | always never | always sometimes | often rarely | everyone nobody | all none
    | all some | all any | every some | only also | upper lower | ask answer | question answer | cause prevent |
    cause cure | cause treat | cause symptom | symptom treatment | symptom cause | advantage disadvantage | pro con
    | benefit risk | benefit drawback | strength weakness | success failure | succeed fail | attack defend | offense
    defense | freeze melt | freeze boil | boil melt | expand shrink | grow shrink | inhale exhale | wake sleep |
    laugh cry | inflation deflation | surplus deficit | asset liability | supply demand | gross net | fixed variable
    | stock bond | monday tuesday wednesday thursday friday saturday sunday | noon midnight | current former | january
    february march april june july august september october november december | gold silver bronze | adult infant |
    adult child | spring summer autumn winter | breakfast lunch dinner
    """
# Alike enough in a question that one may stand for the other; the dictionary has them apart or not at all.
_ALIKE: Final = """
    good best | best great | good great | best top | phone mobile | phone cellphone | mobile cellphone | favorite
    favourite | color colour | picture photo | photo photograph | picture image | photo image | film movie | kid
    child | mom mother | dad father | gf girlfriend | bf boyfriend | usa america | usa us | uk britain | big large |
    begin start | end finish | buy purchase | help assist | fix repair | quick fast | rapid fast | quickly fast |
    start begin | find locate | pc computer | laptop notebook | app application | info information | ad
    advertisement | bike bicycle | plane airplane | tv television | fridge refrigerator | exam examination | exam
    test | math mathematics | maths math | grey gray | ok okay | acceptable ok | travel visit | create make | build
    make | learn study | scary terrifying | famous popular | delete remove | stop quit | earn make | kind type |
    sort type | kind sort | wealthy rich | smart intelligent | clever intelligent | clever smart | courageous brave
    | sad unhappy | glad happy | scared afraid | afraid fearful | calm peaceful | polite courteous | humble modest |
    selfish egoistic | lazy idle | job work | way method | lose shed | difficulty trouble | freeze lock | lift raise
    | raise increase | advantage benefit | lower reduce | resolve fix | vaccine vaccination | autumn fall | large
    big | client customer | purpose goal | shop store | street road | mistake error | hike trek
    """
_UNCHANGED: Final = {"hit", "cut", "put", "set", "read", "hurt", "beat", "cost", "shut", "split", "spread", "cast"}
LONG_ENOUGH: Final = 6
SHORTEST_STEM: Final = 3
SHORTEST_INFLECTED: Final = 4
_PLURALS: Final = {
    *("alumni", "antennae", "beaux", "brethren", "children", "cola", "criteria", "feet", "fungi", "geese", "genera"),
    *(
        "media",
        "men",
        "mice",
        "millennia",
        "nuclei",
        "phenomena",
        "roma",
        "sera",
        "spectra",
        "stimuli",
        "taxa",
        "teeth",
    ),
    "women",
}
# Words of their own before they are forms of another.
_KEPT: Final = {"left", "found", "ground", "media", "might", "lives", "felt", "rose", "saw", "wedding", "his", "bit"}


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Relations between lemmas; each is symmetric."""

    antonyms: dict[str, frozenset[str]]
    synonyms: dict[str, frozenset[str]]
    kin: dict[str, frozenset[str]]

    def synonymous(self, one: str, other: str) -> bool:
        return other in self.synonyms.get(one, ()) and other not in self.antonyms.get(one, ())

    def akin(self, one: str, other: str) -> bool:
        return other in self.kin.get(one, ())


@cache
def lexicon() -> Lexicon:
    """The lexicon that is shipped, read once."""
    data = _data()
    return Lexicon(
        antonyms=_merged(data["antonyms"], _OPPOSITES),
        synonyms=_merged(data["synonyms"], _ALIKE),
        kin=_merged(data["kin"], ""),
    )


@cache
def _data() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(LEXICON.read_text(encoding="utf-8"))
    return loaded


def _merged(derived: dict[str, str], own: str) -> dict[str, frozenset[str]]:
    related: defaultdict[str, set[str]] = defaultdict(set)
    pairs = [pair for group in own.split("|") for pair in combinations(group.split(), 2)]
    pairs += [(word, other) for word, others in derived.items() for other in others.split()]
    for word, other in pairs:
        one, two = lemma(word), lemma(other)
        if one != two:
            related[one].add(two)
            related[two].add(one)
    return {word: frozenset(others) for word, others in related.items()}


@lru_cache(maxsize=65_536)
def lemma(word: str) -> str:
    """What the inflected forms of a word share; not always a word itself (making gives mak, as make does)."""
    if word in _KEPT:
        return word
    base = _american(_data()["lemmas"].get(word, word))
    return base if len(base) < SHORTEST_INFLECTED or not base.isalpha() else _stem(base)


def _american(word: str) -> str:
    """Centre as center, organise as organize, colour as color, counselling as counseling."""
    if len(word) < LONG_ENOUGH:
        return word
    word = re.sub(r"(?<=[a-z]{2})(?:ise|yse)(?=[sd]?$)", lambda found: found[0].replace("s", "z"), word)
    word = re.sub(r"is(?=(?:ing|ations?)$)", "iz", word)
    word = re.sub(r"(?<=[ct])re(?=s?$)", "er", word)
    word = re.sub(r"(?<=[bclnv])our(?=s?$|ed$|ing$|ites?$)", "or", word)
    return re.sub(r"(?<=[aeiou])ll(?=ing$|ed$|ers?$)", "l", word)


def _stem(word: str) -> str:
    if word.endswith(("ss", "us", "is", "ness")):
        return word
    if word.endswith("ies") and len(word) > SHORTEST_INFLECTED:
        word = word[:-3] + "y"
    elif word.endswith(("sses", "shes", "ches", "xes", "zes")):
        word = word[:-2]
    elif word.endswith("s"):
        word = word[:-1]
    if word.endswith("ied") and len(word) > SHORTEST_INFLECTED:
        return word[:-3] + "y"
    for ending in ("ing", "ed"):
        rest = word.removesuffix(ending)
        if rest != word and len(rest) >= SHORTEST_STEM and re.search("[aeiouy]", rest):
            doubled = len(rest) > SHORTEST_STEM and rest[-1] == rest[-2] and rest[-1] not in "lsz"
            word = rest[:-1] if doubled else rest
            break
    return word[:-1] if len(word) > SHORTEST_STEM and word.endswith("e") else word


def irregular(word: str) -> bool:
    """Whether a word is an irregular form of a verb, of the past as a rule: bought, ran, been."""
    changed = _data()["lemmas"].get(word, word) != word
    return changed and word not in _PLURALS and not word.endswith(("s", "ing"))


def participle(word: str) -> bool:
    """Whether a word may be the participle of a verb: bought, seized, kept."""
    return word.endswith("ed") or word in _KEPT or _data()["lemmas"].get(word, word) != word or word in _UNCHANGED


def degrees(lemma: str) -> tuple[str, ...]:
    """A lemma and, of a comparative or superlative, what it is a degree of: largest is large."""
    for ending in ("est", "er"):
        base = lemma.removesuffix(ending)
        if base != lemma and len(base) >= SHORTEST_STEM:
            undoubled = base[:-1] if base[-1] == base[-2] else base
            return lemma, base, undoubled, base[:-1] + "y" if base.endswith("i") else base
    return (lemma,)

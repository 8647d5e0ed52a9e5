"""What can be told of a prompt without having learned it: rules that decide by themselves.

A rule is named in the policy, which says what category it leads to. Its words are in ``lexicon.toml``, table
"decisive". Each says what made it speak, for the reason in the event.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

from services.router.freshness.reading import Found, Reading
from shared.policy.freshness import Rule

_CODE: Final = re.compile(
    r"```|Traceback \(|^[ \t]{0,8}(?:def|class|import|from|#include|SELECT|public|const|let|var) \w[^?\n]{0,80}[(;:{=]",
    re.MULTILINE,
)
_OPTIONS: Final = re.compile(r"(?<!\w)\(?A[.)] .{1,300}?(?<!\w)\(?B[.)] ", re.DOTALL)
# An exercise tells its own facts: so many words and so many numbers. A question has less (99 % of RecencyQA's).
EXERCISE_WORDS: Final = 25
EXERCISE_NUMBERS: Final = 3
# Words before what is wanted: "could you please translate".
_POLITE: Final = frozenset(
    """
    a and can could do favor favour hello help hey hi i id in just kindly like lets me my need now ok okay please thanks
    then to us want will would you
    """.split()  # noqa: SIM905  # as a list it takes a line for each
)
_CHANGING: Final = frozenset({"moment", "recent", "price", "weather", "score", "news"})
_ROLES: Final = frozenset({"act", "pretend", "imagine", "roleplay"})
_OF_THESE_DAYS: Final = re.compile(
    r"\b(?:today|tonight|yesterday|this (?:morning|evening|week|month|year))['’]s\b", re.IGNORECASE
)
_HANDS_OVER: Final = re.compile(r"[:\n\"“„«]")
_PERSONAL: Final = frozenset({"i", "im", "ive", "id", "we", "weve", "my", "our"})
# "Tell me the date of the battle": of something that was, or will be.
_OF_SOMETHING: Final = frozenset({"of", "for", "on", "when", "that", "which"})
# Without pounds, which are a weight as well, and won, which is a verb.
_CURRENCIES: Final = frozenset(
    """
    aud baht bitcoin bitcoins btc cad chf cny crowns dollar dollars eth ethereum eur euro euros forint franc francs gbp
    inr jpy krona kronor krone kroner krw lira liras peso pesos rand reais renminbi ringgit riyal riyals rouble
    roubles ruble rubles rupee rupees rupiah sek shekel shekels sterling usd yen yuan zloty
    """.split()  # noqa: SIM905
)
TWO: Final = 2
LEAD_WORDS: Final = 8
MADE_WITHIN: Final = 12
AHEAD_YEARS: Final = 1


def speaks(rule: Rule, reading: Reading, this_year: int) -> str | None:
    """What makes a rule speak, in the prompt's own words; None where it has nothing to say."""
    return _RULES[rule](reading, this_year)


def _task(reading: Reading, _: int) -> str | None:
    """The answer is made of what the prompt holds (translate, fix, an exercise) or invented (a poem, a program).

    "Write this week's weather report" holds nothing to work on, and "act as an adviser: what is the price of gold?"
    asks: what they are about has to be known.
    """
    if code := _CODE.search(reading.text):
        return code[0].strip()[:40]
    if not _CHANGING.isdisjoint(reading.about) and _asks_for_it(reading):
        return None
    return _worked_on(reading)


def _asks_for_it(reading: Reading) -> bool:
    """Whether a prompt that looks like a task wants something of these days, and hands nothing over."""
    if "?" in reading.text and not _ROLES.isdisjoint(reading.words[:LEAD_WORDS]):
        return True
    return bool(_OF_THESE_DAYS.search(reading.text)) and not _HANDS_OVER.search(reading.text)


def _worked_on(reading: Reading) -> str | None:
    if _OPTIONS.search(reading.text):
        return "A … B …"
    if len(reading.words) >= EXERCISE_WORDS and sum(word[0].isdigit() for word in reading.words) >= EXERCISE_NUMBERS:
        return "an exercise with its own numbers"
    about = reading.about
    place = next((i for i, word in enumerate(reading.words[:LEAD_WORDS]) if word not in _POLITE), 0)
    if (given := about.get("given")) and given.place == place:
        return given.phrase
    making, made = about.get("making"), about.get("made")
    if making and made and making.place == place and place < made.place <= place + MADE_WITHIN:
        return f"{making.phrase} … {made.phrase}"
    return None


def _moment(reading: Reading, _: int) -> str | None:
    """This moment, also where somebody asks for the time or the date for himself: "I must know the time"."""
    clock = reading.about.get("clock")
    if clock and "explaining" not in reading.about and _after(reading, clock) not in _OF_SOMETHING:
        return clock.phrase
    return _unless_personal(reading, reading.about.get("moment"))


def _recent(reading: Reading, _: int) -> str | None:
    return _unless_personal(reading, reading.about.get("recent"))


def _unless_personal(reading: Reading, found: Found | None) -> str | None:
    """Not where somebody tells of himself: "today I learned", "I was asked yesterday"."""
    if found is None:
        return None
    after = found.place + _length(found)
    if not _PERSONAL.isdisjoint(reading.words[max(0, found.place - 3) : after + 2]):
        return None
    return found.phrase


def _length(found: Found) -> int:
    return found.phrase.count(" ") + 1


def _after(reading: Reading, found: Found) -> str | None:
    """The word after what was found."""
    return next(iter(reading.words[found.place + _length(found) :]), None)


def _price(reading: Reading, this_year: int) -> str | None:
    """What something costs, or one currency in another."""
    if told := _PRICED(reading, this_year):
        return told
    named = [*dict.fromkeys(word for word in reading.words if word in _CURRENCIES)]
    if len(named) < TWO or "explaining" in reading.about or _long_past(reading, this_year):
        return None
    return f"{named[0]} … {named[1]}"


def _state_of(name: str) -> Callable[[Reading, int], str | None]:
    """A matter that stands otherwise every day, unless the prompt wants it explained or names a year long past."""

    def rule(reading: Reading, this_year: int) -> str | None:
        found = reading.about.get(name)
        if found is None or "explaining" in reading.about or _long_past(reading, this_year):
            return None
        return found.phrase

    return rule


def _office(reading: Reading, this_year: int) -> str | None:
    """Who holds an office: not who held it, nor who was the first to."""
    about = reading.about
    holder, office = about.get("holder"), about.get("office")
    if not holder or not office or "explaining" in about or "gone" in about or _long_past(reading, this_year):
        return None
    return f"{holder.phrase} … {office.phrase}" if holder.place < office.place else None


def _year(reading: Reading, this_year: int) -> str | None:
    named = [year for year in reading.years if this_year <= year <= this_year + AHEAD_YEARS]
    return f"the year {named[0]}" if named else None


def _long_past(reading: Reading, this_year: int) -> bool:
    return bool(reading.years) and max(reading.years) < this_year


_PRICED: Final = _state_of("price")
_RULES: Final[Mapping[Rule, Callable[[Reading, int], str | None]]] = {
    "task": _task,
    "moment": _moment,
    "recent": _recent,
    "price": _price,
    "weather": _state_of("weather"),
    "score": _state_of("score"),
    "news": _state_of("news"),
    "office": _office,
    "year": _year,
}

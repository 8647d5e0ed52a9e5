"""What findings teach, apart for each owner of answers: a tenant, or the pool that some share.

How often a near answer is wrong depends on what is asked and what is answered, so a tenant whose answers are all alike,
or never alike, must neither open nor close the cache for others. One with few findings stays at the policy's threshold.
"""

from collections import OrderedDict
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from random import Random
from statistics import fmean
from typing import Final

from services.cache.learning.sampling import FadingSample
from services.cache.learning.threshold import Audited, LearnedThreshold, Settings

# Owners whose lessons are kept, the last to be asked about; about 6 KB each.
MOST_OWNERS: Final = 2_000

Owner = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Overall:
    """All owners together, for metrics.

    Attributes:
        seen: audits so far.
        served_wrong: audits that found a wrong answer.
        false_hit_rate: share of wrong answers among near hits, by recent audits; its 95 % interval is low to high.
        threshold: cosine at which a candidate is served, everything else about it being as usual; the owners' mean.
        exact_only: owners whose hits by meaning are suspended.
    """

    seen: int
    served_wrong: int
    false_hit_rate: float
    low: float
    high: float
    threshold: float
    exact_only: int


class Lessons:
    """A learned threshold for each owner."""

    def __init__(self, settings: Settings, owner: Callable[[str], Owner], random: Random) -> None:
        """``owner`` says whose the answers to a tenant are."""
        self._settings = settings
        self._owner = owner
        self._random = random
        self._learned: OrderedDict[Owner, LearnedThreshold] = OrderedDict()
        self._audits = FadingSample()
        self._seen = self._served_wrong = 0

    def of(self, tenant: str) -> LearnedThreshold:
        """What was learned from the answers that a tenant may be given."""
        owner = self._owner(tenant)
        learned = self._learned.get(owner)
        if learned is None:
            learned = self._learned[owner] = LearnedThreshold(self._settings, self._random)
            self._make_room()
        self._learned.move_to_end(owner)
        return learned

    def _make_room(self) -> None:
        """Who was not asked about for the longest goes; not those that are suspended, who would begin anew."""
        if len(self._learned) > MOST_OWNERS:
            oldest = (owner for owner, learned in self._learned.items() if not learned.exact_only)
            del self._learned[next(oldest, next(iter(self._learned)))]

    def peek(self, tenant: str) -> LearnedThreshold:
        """The same to look at: deciding with it changes nothing."""
        learned = self._learned.get(self._owner(tenant))
        return copy(learned) if learned else LearnedThreshold(self._settings, self._random)

    def learn(self, tenant: str, label: Audited) -> None:
        """Take in a finding about an answer to a tenant."""
        self.of(tenant).learn(label)
        if label.served:
            self._seen += 1
            self._served_wrong += not label.same
            self._audits.add(wrong=not label.same, expected=0.0, sampled=label.sampled)

    def state(self) -> Overall:
        """What is known now."""
        states = [learned.state() for learned in self._learned.values()]
        low, high = self._audits.interval()
        return Overall(
            seen=self._seen,
            served_wrong=self._served_wrong,
            false_hit_rate=self._audits.rate,
            low=low,
            high=high,
            threshold=fmean(state.threshold for state in states) if states else self._settings.threshold,
            exact_only=sum(state.exact_only for state in states),
        )

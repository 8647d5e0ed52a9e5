"""What the other near entries say of a candidate: entries whose answers are known to be the same speak for each other.

An answer that was bought on a miss is compared with that of the nearest entry, which costs no call. So entries fall
into groups of one answer each, and a request that lies among five entries of one group is answered by it with more
right than one that lies between two groups at the same cosine. On CLINC150's stream this is worth more than anything a
single pair of prompts can tell: see tests/bench/cache_stream.py.
"""

import math
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Final

# Sharpness of the soft maximum: two entries at 0.80 weigh as much as one at 0.90. On CLINC150's stream (public half,
# mean of six orders) 7 gave 44.8 % hits and 10 gave 42.7, everything else being equal.
SHARPNESS: Final = 7.0
# What an empty neighbourhood counts as: unrelated prompts have about this cosine at the most.
BACKGROUND: Final = 0.4


class AnswerGroups:
    """Which entries give the same answer; holds the ``capacity`` entries that joined last.

    A group is named for the entry that began it. An entry joins once and groups never merge, so that a wrong label
    stays a local mistake instead of chaining two groups for good. Replaying the labels in their order gives the same
    groups again.
    """

    def __init__(self, capacity: int = 200_000) -> None:
        self._capacity = capacity
        self._group: OrderedDict[Hashable, Hashable] = OrderedDict()
        self._findings: OrderedDict[Hashable, tuple[int, int]] = OrderedDict()

    def of(self, entry: Hashable) -> Hashable:
        """The group of an entry; one that nobody compared is a group of its own."""
        return self._group.get(entry, entry)

    def findings(self, entry: Hashable) -> tuple[int, int]:
        """How often an answer of this entry's group was found to be right for another prompt, and how often wrong."""
        return self._findings.get(self.of(entry), (0, 0))

    def join(self, entry: Hashable, other: Hashable, *, same: bool) -> None:
        """Note how the answer of a new entry compares with that of an older one."""
        group = self.of(other)
        good, bad = self._findings.pop(group, (0, 0))
        self._findings[group] = (good + same, bad + (not same))
        if len(self._findings) > self._capacity:
            self._findings.popitem(last=False)
        if same and entry not in self._group:
            self._group[entry] = group
            if len(self._group) > self._capacity:
                self._group.popitem(last=False)


def weigh(groups: Sequence[Hashable], similarities: Sequence[float], chosen: int) -> tuple[float, float]:
    """How strongly the candidates speak for the answer of the chosen one, and how strongly for others.

    Both are soft maxima of cosine similarities: of the candidates in the chosen one's group, itself among them, and of
    those outside it. They grow with nearness and with number.
    """
    agreeing = [s for group, s in zip(groups, similarities, strict=True) if group == groups[chosen]]
    opposing = [s for group, s in zip(groups, similarities, strict=True) if group != groups[chosen]]
    return _soft_maximum(agreeing), _soft_maximum(opposing)


def _soft_maximum(similarities: Sequence[float]) -> float:
    weight = math.exp(SHARPNESS * BACKGROUND) + sum(math.exp(SHARPNESS * s) for s in similarities)
    return math.log(weight) / SHARPNESS

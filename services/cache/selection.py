"""Which entries a selector means, in memory; the same rules as ``forebay_selected`` in the database."""

import re
from collections import deque
from datetime import datetime, timedelta
from typing import Final

from services.cache.lookup import Entry
from services.cache.scope import normalised
from shared.clock import Clock
from shared.events import CacheInvalidate, Selector

# How long what was stored before an invalidation may still be on its way, or not yet gone from the table.
REMEMBERED: Final = timedelta(minutes=15)
_WORD: Final = re.compile(r"[^\W_]+")
_WORD_CHARS: Final = 100  # by which words are compared


class Forgotten:
    """The invalidations this replica heard lately, and with them the entries that must not be served any more."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._invalidations: deque[CacheInvalidate] = deque()

    def remember(self, invalidation: CacheInvalidate) -> CacheInvalidate:
        """Note one, and return it as it counts: one from the future would go on forgetting, so it counts from now."""
        now = self._clock.now()
        counted = invalidation.model_copy(update={"invalidated_at": min(invalidation.invalidated_at, now)})
        while self._invalidations and self._invalidations[0].invalidated_at < now - REMEMBERED:
            self._invalidations.popleft()
        self._invalidations.append(counted)
        return counted

    def __contains__(self, entry: Entry) -> bool:
        return any(concerns(each, entry) for each in self._invalidations)


def concerns(invalidation: CacheInvalidate, entry: Entry) -> bool:
    """Whether an entry is to be forgotten: it meets all conditions, and was stored before the invalidation."""
    at = invalidation.invalidated_at
    return entry.stored_at <= at and _selected(invalidation.selector, entry, at)


def _selected(selector: Selector, entry: Entry, at: datetime) -> bool:
    said = selector
    return (
        (said.entry_id is None or said.entry_id == entry.entry_id)
        and (said.scope is None or said.scope == entry.scope)
        and (said.tenant is None or said.tenant == entry.tenant)
        and (said.model is None or said.model in (entry.model, entry.tier))
        and (said.category is None or said.category == entry.category)
        and (said.older_than_s is None or (at - entry.stored_at).total_seconds() >= said.older_than_s)
        and (said.prompt is None or normalised(said.prompt) == entry.prompt)
        and (said.topic is None or _about(said.topic, entry.prompt))
    )


def _about(topic: str, prompt: str) -> bool:
    words = _words(normalised(topic))
    return bool(words) and words <= _words(prompt)


def _words(text: str) -> set[str]:
    return {word.lower()[:_WORD_CHARS] for word in _WORD.findall(text)}

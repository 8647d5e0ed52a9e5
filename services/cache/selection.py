"""Which entries a selector means, in memory; the same rules as ``forebay_selected`` in the database."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import chain
from typing import Final
from uuid import UUID

import structlog

from services.cache.lookup import Entry
from services.cache.scope import normalised
from shared.clock import Clock
from shared.events import CacheInvalidate, Selector

log = structlog.stdlib.get_logger(__name__)
# How long what was stored before an invalidation may still be on its way, or not yet gone from the table: as long as it
# stays on record, by which writers turn back what comes late.
REMEMBERED: Final = timedelta(days=1)
# Each takes about a kilobyte, and a microsecond for each entry of its tenant that is looked at.
MOST_REMEMBERED: Final = 10_000
_WORD: Final = re.compile(r"[^\W_]+")
_WORD_CHARS: Final = 100  # by which words are compared


class Read:
    """An entry as it is compared with many invalidations: its prompt is gone through once at the most."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry

    @cached_property
    def words(self) -> frozenset[str]:
        """The words of its prompt."""
        return _words(self.entry.prompt)

    @cached_property
    def digest(self) -> bytes:
        """Of its prompt."""
        return _digest(self.entry.prompt)


@dataclass(frozen=True, slots=True)
class Meant:
    """The entries an invalidation means.

    Attributes:
        said: its conditions, without those that are texts: a prompt may have half a megabyte.
        at: entries stored later stay.
        heard: when this replica heard of it, in seconds on the monotonic clock.
        prompt: digest of the very prompt.
        words: of the topic.
    """

    said: Selector
    at: datetime
    heard: float
    prompt: bytes | None = None
    words: frozenset[str] | None = None

    @classmethod
    def by(cls, invalidation: CacheInvalidate, clock: Clock) -> "Meant":
        """What one means; one from the future would go on forgetting, so it counts from now."""
        said = invalidation.selector
        return cls(
            said=said.model_copy(update={"prompt": None, "topic": None}),
            at=min(invalidation.invalidated_at, clock.now()),
            heard=clock.monotonic(),
            prompt=None if said.prompt is None else _digest(normalised(said.prompt)),
            words=None if said.topic is None else _words(normalised(said.topic)),
        )

    @property
    def group(self) -> UUID | str | None:
        """Which entries may be meant at all: the one of this id, those of this tenant, or any."""
        return self.said.entry_id or self.said.tenant

    def covers(self, read: Read) -> bool:
        """Whether an entry is to be forgotten: it meets all conditions, and was stored before the invalidation."""
        said, entry = self.said, read.entry
        return (
            entry.stored_at <= self.at
            and (said.entry_id is None or said.entry_id == entry.entry_id)
            and (said.scope is None or said.scope == entry.scope)
            and (said.tenant is None or said.tenant == entry.tenant)
            and (said.model is None or said.model in (entry.model, entry.tier))
            and (said.category is None or said.category == entry.category)
            and (said.older_than_s is None or (self.at - entry.stored_at).total_seconds() >= said.older_than_s)
            and (self.prompt is None or self.prompt == read.digest)
            and (self.words is None or (bool(self.words) and self.words <= read.words))
        )


def concerns(meant: Iterable[Meant], entry: Entry) -> bool:
    """Whether any of these covers an entry."""
    read = Read(entry)
    return any(each.covers(read) for each in meant)


class Forgotten:
    """The invalidations this replica knows of, and with them the entries that must not be served any more."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[UUID, Meant] = {}  # by the invalidation's id, in the order they were heard
        self._groups: dict[UUID | str | None, dict[UUID, Meant]] = {}  # the same, by which entries they are about
        self._latest = datetime.min.replace(tzinfo=UTC)

    def remember(self, invalidation: CacheInvalidate) -> list[Meant]:
        """Note one; what is to be forgotten now, which is more where too many are remembered."""
        oldest = self._clock.monotonic() - REMEMBERED.total_seconds()
        while self._known and next(iter(self._known.values())).heard < oldest:
            self._drop(next(iter(self._known)))
        known = self._known.get(invalidation.invalidation_id)
        if known is not None:
            return [known]
        meant = Meant.by(invalidation, self._clock)
        self._add(invalidation.invalidation_id, meant)
        return [meant, *self._room()]

    def __contains__(self, entry: Entry) -> bool:
        if entry.stored_at > self._latest:
            return False
        groups = (self._groups.get(key, {}).values() for key in (entry.entry_id, entry.tenant, None))
        return concerns(chain.from_iterable(groups), entry)

    def _room(self) -> list[Meant]:
        """Where too many are remembered: one for all older entries of the tenant that most are about."""
        if len(self._known) <= MOST_REMEMBERED:
            return []
        tenants = [key for key in self._groups if not isinstance(key, UUID)]
        tenant = max(tenants, key=lambda key: len(self._groups[key]), default=None)
        group = dict(self._groups.get(tenant, {}))
        if len(group) <= 1:  # they are about single entries, and what the oldest is about has been gone for long
            self._drop(next(iter(self._known)))
            return []
        log.warning("too many invalidations: all older entries are forgotten", tenant=tenant, invalidations=len(group))
        for each in group:
            self._drop(each)
        selector = Selector(everything=True) if tenant is None else Selector(tenant=tenant)
        meant = Meant(selector, max(each.at for each in group.values()), self._clock.monotonic())
        self._add(list(group)[-1], meant)
        return [meant]

    def _add(self, invalidation_id: UUID, meant: Meant) -> None:
        self._known[invalidation_id] = meant
        self._groups.setdefault(meant.group, {})[invalidation_id] = meant
        self._latest = max(self._latest, meant.at)

    def _drop(self, invalidation_id: UUID) -> None:
        meant = self._known.pop(invalidation_id)
        group = self._groups[meant.group]
        del group[invalidation_id]
        if not group:
            del self._groups[meant.group]


def _words(text: str) -> frozenset[str]:
    return frozenset(word.lower()[:_WORD_CHARS] for word in _WORD.findall(text))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()

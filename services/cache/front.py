"""The entries a replica keeps in memory, so that a prompt that is asked again and again costs no round trip."""

from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import Final
from uuid import UUID

from services.cache.lookup import Entry
from shared.clock import SYSTEM_CLOCK, Clock

# Seconds an entry is served from memory before it is read again: what an invalidation that never got here can cost.
LONGEST_S: Final = 60.0
# What an entry takes besides its texts: the objects of its fields, its place in the table (CPython 3.11, measured).
OVERHEAD_BYTES: Final = 1_000


class Front:
    """Entries by their exact key; those that were not asked for the longest go first.

    Attributes:
        bytes: about how much memory the entries take.
    """

    def __init__(self, *, max_entries: int, max_bytes: int, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: OrderedDict[UUID, tuple[Entry, float]] = OrderedDict()  # with the time of their end
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, entry: Entry) -> None:
        """Keep an entry, unless there is a newer answer to the same prompt already, or it has no room by itself."""
        kept, _ = self._entries.get(entry.exact, (None, 0.0))
        if kept is not None and kept.stored_at > entry.stored_at:
            return
        if kept is not None:
            self._drop(entry.exact)
        if (size := size_of(entry)) > self._max_bytes:
            return
        self._entries[entry.exact] = entry, self._clock.monotonic() + LONGEST_S
        self.bytes += size
        while len(self._entries) > self._max_entries or self.bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def get(self, exact: UUID, now: datetime) -> Entry | None:
        """The entry of a key that may still be kept at a time; one that may not be, or was for long, is dropped."""
        entry, until = self._entries.get(exact, (None, 0.0))
        if entry is None:
            return None
        if entry.keep_until <= now or until <= self._clock.monotonic():
            self._drop(exact)
            return None
        self._entries.move_to_end(exact)
        return entry

    def forget(self, concerned: Callable[[Entry], bool]) -> None:
        """Drop the entries that a predicate names."""
        for exact in [exact for exact, (entry, _) in self._entries.items() if concerned(entry)]:
            self._drop(exact)

    def clear(self) -> None:
        """Drop all."""
        self._entries.clear()
        self.bytes = 0

    def _drop(self, exact: UUID) -> None:
        entry, _ = self._entries.pop(exact)
        self.bytes -= size_of(entry)


def size_of(entry: Entry) -> int:
    """About the bytes an entry takes in memory; a character outside of Latin takes two to four."""
    texts = (entry.prompt, entry.answer)
    return OVERHEAD_BYTES + sum(len(text) if text.isascii() else 4 * len(text) for text in texts)

"""Whose turn it is: interactive requests before bulk ones, and among tenants one after the other.

A consumer knows only what it was handed. When all it may hold is held, and somebody has many waiting there, others may
stand behind them in the queue; so it can also say what should be set aside to let these come into view.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

INTERACTIVE: Final = "interactive"
BULK: Final = "bulk"
# One in so many is a bulk request, where some wait, however many interactive ones there are.
BULK_EVERY: Final = 10
T = TypeVar("T")


@dataclass(slots=True)
class _Line(Generic[T]):
    """One tenant's of one priority. What comes from the side is older than what comes from the queue."""

    aside: deque[T] = field(default_factory=deque)
    fresh: deque[T] = field(default_factory=deque)

    def pop(self) -> T:
        return (self.aside or self.fresh).popleft()

    def __len__(self) -> int:
        return len(self.aside) + len(self.fresh)


class Turns(Generic[T]):
    """What waits for its turn at one consumer."""

    def __init__(self) -> None:
        self._lines: dict[str, OrderedDict[str, _Line[T]]] = {INTERACTIVE: OrderedDict(), BULK: OrderedDict()}
        self._since_bulk = 0

    def add(self, item: T, priority: str, tenant: str, *, aside: bool) -> None:
        """One more; ``aside`` if it was set aside before."""
        line = self._lines[priority].setdefault(tenant, _Line())
        (line.aside if aside else line.fresh).append(item)

    def __len__(self) -> int:
        return sum(len(line) for lines in self._lines.values() for line in lines.values())

    def next(self) -> T | None:
        """Whose turn it is; None where nobody waits."""
        bulk, interactive = self._lines[BULK], self._lines[INTERACTIVE]
        if bulk and (not interactive or self._since_bulk >= BULK_EVERY - 1):
            self._since_bulk = 0
            return _first(bulk)
        if not interactive:
            return None
        self._since_bulk += bool(bulk)
        return _first(interactive)

    def excess(self, most: int) -> Sequence[tuple[T, str, str]]:
        """Take out those who keep others out, each with priority and tenant, in their order: a tenant's interactive
        requests where more than ``most`` of them wait, or some were set aside before; and the bulk requests of all
        tenants together likewise. What was set aside before is not taken.
        """
        found = []
        for tenant, line in self._lines[INTERACTIVE].items():
            if line.aside or len(line.fresh) > most:
                found += [(item, INTERACTIVE, tenant) for item in _emptied(line.fresh)]
        bulk = self._lines[BULK]
        if any(line.aside for line in bulk.values()) or sum(len(line.fresh) for line in bulk.values()) > most:
            for tenant, line in bulk.items():
                found += [(item, BULK, tenant) for item in _emptied(line.fresh)]
        for lines in self._lines.values():
            for tenant in [tenant for tenant, line in lines.items() if not line]:
                del lines[tenant]
        return found

    def drain(self) -> Iterator[T]:
        """Take out all that are left."""
        for lines in self._lines.values():
            while lines:
                yield _first(lines)


def _first(lines: OrderedDict[str, _Line[T]]) -> T:
    """The first of the tenant whose turn it is, who is then the last."""
    tenant = next(iter(lines))
    line = lines[tenant]
    item = line.pop()
    if line:
        lines.move_to_end(tenant)
    else:
        del lines[tenant]
    return item


def _emptied(items: deque[T]) -> Sequence[T]:
    taken = tuple(items)
    items.clear()
    return taken

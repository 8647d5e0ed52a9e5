"""Which deliveries are to be acknowledged, in as few frames as it goes.

Tags rise, and deliveries are done in any order. One frame acknowledges all up to a tag (``multiple``), so it may be
sent up to where nothing older is under way; what is done beyond that is acknowledged one by one.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence


class Tags:
    """The delivery tags of one channel that are under way, and those that are done and not told yet.

    What is told is forgotten, however long an older delivery takes: no more are here than the broker hands out.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[int, None] = OrderedDict()
        self._done: list[int] = []

    def __len__(self) -> int:
        return len(self._open) + len(self._done)

    def came(self, tag: int) -> None:
        """A delivery, newer than all before it."""
        self._open[tag] = None

    def done(self, tags: Iterable[int]) -> None:
        """These are to be acknowledged."""
        self._done += self._removed(tags)

    def returned(self, tags: Iterable[int]) -> Sequence[int]:
        """These are handed back, which is their answer; returns those that have none yet."""
        return self._removed(tags)

    def to_ack(self) -> tuple[int | None, Sequence[int]]:
        """The newest tag up to which all can be acknowledged in one frame, and those beyond it that are done.

        What was settled before is not harmed by an acknowledgement of all up to a tag.
        """
        oldest = next(iter(self._open), None)
        done, self._done = sorted(self._done), []
        older = done if oldest is None else [tag for tag in done if tag < oldest]
        return (older[-1] if older else None), done[len(older) :]

    def _removed(self, tags: Iterable[int]) -> list[int]:
        """Those of some that were under way: the broker closes the channel over an answer that it has already."""
        removed = []
        for tag in tags:
            if tag in self._open:
                del self._open[tag]
                removed.append(tag)
        return removed

"""Which deliveries are to be acknowledged, in as few frames as it goes.

Tags rise, and deliveries are done in any order. One frame acknowledges all up to a tag (``multiple``), so it may be
sent up to where nothing older is under way; what is done beyond that is acknowledged one by one.
"""

from collections import deque
from collections.abc import Iterable, Sequence


class Tags:
    """The delivery tags of one channel that the broker has no answer to yet."""

    def __init__(self) -> None:
        self._open: deque[int] = deque()
        self._settled: set[int] = set()  # of the open ones, because an older one is not
        self._done: set[int] = set()  # of the open ones, and not told yet

    def came(self, tag: int) -> None:
        """A delivery, newer than all before it."""
        self._open.append(tag)

    def done(self, tags: Iterable[int]) -> None:
        """These are to be acknowledged."""
        self._done.update(tags)

    def returned(self, tags: Iterable[int]) -> None:
        """These were handed back: the broker has its answer."""
        self._settled.update(tags)

    def to_ack(self) -> tuple[int | None, Sequence[int]]:
        """The newest tag up to which all can be acknowledged in one frame, and those beyond it that are done.

        What was settled before is not harmed by an acknowledgement of all up to a tag.
        """
        upto = None
        while self._open and (self._open[0] in self._done or self._open[0] in self._settled):
            tag = self._open.popleft()
            if tag in self._done:
                self._done.discard(tag)
                upto = tag
            self._settled.discard(tag)
        single = sorted(self._done)
        self._settled.update(single)
        self._done.clear()
        return upto, single

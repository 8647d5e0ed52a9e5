"""The head in a running router: taken up from its file, and anew whenever the file changes."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from services.router.learning.head import Head, InvalidHead
from services.router.scoring import Scored
from services.router.vectors import Embedding
from shared.clock import Clock
from shared.embedding import weights
from shared.policy.caching import EmbedderPolicy
from shared.policy.routing import HeadPolicy
from shared.telemetry import metrics

log = structlog.stdlib.get_logger(__name__)
# Between two looks at the file; a look is one call of the operating system.
LOOK_S: Final = 5.0

Mark = tuple[int, int, int]


class WatchedHead:
    """A ``choice.Learned``: the head of a file, which may be replaced while the router runs."""

    def __init__(self, policy: HeadPolicy, embedder: EmbedderPolicy, clock: Clock) -> None:
        """Loads the file.

        Raises:
            InvalidHead: it can't be used.
        """
        self._file = policy.file
        self._threshold = policy.threshold
        self._embedder = embedder
        self._clock = clock
        self._foreigners: set[str] = set()
        self._mark = _mark(self._file)
        self._head = load(self._file, embedder)
        self._told()

    @property
    def head(self) -> Head:
        """The one that decides now."""
        return self._head

    def score(self, prompt: str, embedding: Embedding | None) -> Scored | None:
        """The head's score, with its threshold or the policy's; None where another embedder than its own was at work.

        That of the policy it may be, and yet another revision of it, which shows only here. A prompt that nobody has
        embedded is scored: the head was fitted for these as well.
        """
        if embedding is not None and embedding.embedder != self._head.embedder:
            self._foreign(embedding.embedder)
            return None
        scored = self._head.score(prompt, None if embedding is None else embedding.vector)
        return replace(scored, threshold=self._head.threshold if self._threshold is None else self._threshold)

    async def watch(self) -> None:
        """Look at the file again and again; never returns."""
        while True:
            await self._clock.sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Take up the file if it has changed. One that can't be used is logged, once, and the head stays."""
        mark = await asyncio.to_thread(_mark, self._file)
        if mark == self._mark:
            return
        self._mark = mark
        try:
            self._head = await asyncio.to_thread(load, self._file, self._embedder)
        except InvalidHead as error:
            metrics.HEAD_LOADS.labels("refused").inc()
            log.warning("the new head can't be used; the old one stays", error=str(error), head=self._head.version)
        else:
            self._told()

    def _foreign(self, embedder: str) -> None:
        if embedder not in self._foreigners:
            self._foreigners.add(embedder)
            log.warning(
                "the head is for another embedder than the cache's: the rules decide; train it anew",
                head=self._head.version,
                trained_with=self._head.embedder,
                embedder=embedder,
            )

    def _told(self) -> None:
        self._foreigners.clear()
        metrics.HEAD_LOADS.labels("loaded").inc()
        record = self._head.record
        log.info("learned head", head=self._head.version, trained_at=str(record.trained_at), rows=record.rows)


def load(file: Path, embedder: EmbedderPolicy) -> Head:
    """A head that fits the policy's embedder.

    Raises:
        InvalidHead: the file can't be used, or its head was made for another embedder.
    """
    head = Head.load(file)
    # The built-in model's version goes on with the weights' own, which only those who embed can tell: see
    # WatchedHead.score.
    expected = f"{weights.MODEL}/" if embedder.builtin else f"{embedder.model}/{embedder.length}"
    if not head.embedder.startswith(expected) or head.dimensions != embedder.length:
        raise InvalidHead(
            f"{file}: made for the embedder {head.embedder}, and the policy's cache.embedder.model is "
            f"{embedder.model!r}: train it anew"
        )
    return head


def _mark(file: Path) -> Mark | None:
    """Changes when the file does; None while there is none."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino

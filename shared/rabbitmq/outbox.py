"""What is to be written on one connection, gathered: all of one turn of the event loop goes out in one write.

A hundred confirms that come together wake a hundred handlers, and each has an acknowledgement or a message to send. One
write for all of them spares both sides: this one the calls of the operating system, the broker the same again and a
commit to its log for every few messages. Nothing is kept back for it: what was given in a turn leaves at its end.
"""

import asyncio
from collections.abc import Callable

import aiormq
from aiormq.abc import ChannelFrame

Frames = Callable[[], bytes]


class Outbox:
    """The frames of one connection that leave at the end of this turn."""

    def __init__(self, connection: aiormq.abc.AbstractConnection) -> None:
        self._queue = connection.write_queue
        self._loop = asyncio.get_running_loop()
        self._parts: list[bytes] = []
        self._later: list[Frames] = []
        self._scheduled = False
        self._waiting: asyncio.Task[None] | None = None
        self._closed = False
        connection.closing.add_done_callback(self._close)

    def send(self, frames: bytes) -> None:
        """Write these whole frames, after those that were given before."""
        self._parts.append(frames)
        self._schedule()

    def send_later(self, frames: Frames) -> None:
        """Write what this says when the turn ends."""
        self._later.append(frames)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled and self._waiting is None:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._waiting is not None:
            return
        parts, self._parts = self._parts, []
        later, self._later = self._later, []
        payload = b"".join([*parts, *(frames() for frames in later)])
        if self._closed or not payload:
            return
        frame = ChannelFrame(payload=payload, should_close=False)
        try:
            self._queue.put_nowait(frame)
        except asyncio.QueueFull:  # of a connection that is dying nobody empties it: wait, don't ask again and again
            self._waiting = asyncio.create_task(self._queue.put(frame), name="write to RabbitMQ")
            self._waiting.add_done_callback(self._go_on)

    def _go_on(self, _: object) -> None:
        self._waiting = None
        self._flush()

    def _close(self, _: object) -> None:
        self._closed = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def flushed(self) -> None:
        """Return when all that was given is on its way: before a channel is closed."""
        while self._parts or self._later or self._waiting:
            self._flush()
            await (asyncio.wait([self._waiting]) if self._waiting else asyncio.sleep(0))

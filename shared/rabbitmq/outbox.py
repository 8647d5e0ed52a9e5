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

    def send(self, frames: bytes) -> None:
        """Write these whole frames, after those that were given before."""
        self._parts.append(frames)
        self._schedule()

    def send_later(self, frames: Frames) -> None:
        """Write what this says when the turn ends."""
        self._later.append(frames)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        later, self._later = self._later, []
        self._parts += [frames() for frames in later]
        payload = b"".join(self._parts)
        if not payload:
            return
        try:
            self._queue.put_nowait(ChannelFrame(payload=payload, should_close=False))
        except asyncio.QueueFull:  # ten writes wait for the connection's writer, which will be on soon
            self._parts = [payload]
            self._schedule()
        else:
            self._parts = []

    async def flushed(self) -> None:
        """Return when all that was given is on its way: before a channel is closed."""
        while self._parts or self._later:
            self._flush()
            await asyncio.sleep(0)

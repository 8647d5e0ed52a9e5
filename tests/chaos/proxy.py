"""A TCP proxy on loopback whose connections can be cut, slowed down, or left half-open."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from shared.clock import SYSTEM_CLOCK, Clock

LOOPBACK: Final = "127.0.0.1"
CHUNK: Final = 65_536

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(eq=False, slots=True)
class _Connection:
    """A client, its server, and what passes bytes on between them."""

    task: "asyncio.Task[object]"
    hushed: bool
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def reset(self) -> None:
        """End it without another byte."""
        for writer in self.writers:
            writer.transport.abort()
        self.task.cancel()


class Proxy:
    """Passes bytes on between clients and servers.

    Attributes:
        delay_s: how long each piece is kept, in either direction.
        opened: connections that were passed on so far.
    """

    def __init__(self, upstreams: Sequence[int], *, clock: Clock = SYSTEM_CLOCK) -> None:
        """``upstreams`` are ports on loopback; connections go to them in turn, past those that don't listen."""
        self.delay_s = 0.0
        self.opened = 0
        self._upstreams = tuple(upstreams)
        self._turn = count()
        self._clock = clock
        self._silent = False
        self._connections: set[_Connection] = set()

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[int]:
        """Listen while the block runs, and give the port; 0 takes a free one."""
        server = await asyncio.start_server(self._accepted, LOOPBACK, port)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            ending = [connection.task for connection in self._connections]
            self.cut()
            await asyncio.gather(*ending, return_exceptions=True)
            await server.wait_closed()

    def cut(self) -> int:
        """Reset every connection; returns how many there were."""
        connections = tuple(self._connections)
        for connection in connections:
            connection.reset()
        return len(connections)

    def hush(self) -> None:
        """Pass nothing on any more, and take what comes as if it arrived: nobody is told that the other side is gone.

        New connections are opened, and as silent.
        """
        self._silent = True
        for connection in self._connections:
            connection.hushed = True

    def heal(self) -> None:
        """Pass on again. Connections that were hushed have lost bytes, so they are reset."""
        self._silent = False
        for connection in tuple(self._connections):
            if connection.hushed:
                connection.reset()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connection = _Connection(task, self._silent, [writer])
        self._connections.add(connection)
        try:
            if (upstream := await self._connected()) is not None:
                connection.writers.append(upstream[1])
                self.opened += 1
                await self._both_ways(connection, (reader, writer), upstream)
        except asyncio.CancelledError:
            pass  # it was reset
        finally:
            self._connections.discard(connection)
            for end in connection.writers:
                end.close()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """A connection to the next server that listens."""
        first = next(self._turn)
        for place in range(len(self._upstreams)):
            with suppress(OSError):
                return await asyncio.open_connection(LOOPBACK, self._upstreams[(first + place) % len(self._upstreams)])
        return None

    async def _both_ways(self, connection: _Connection, client: Ends, server: Ends) -> None:
        there = asyncio.create_task(self._passed_on(connection, client[0], server[1]))
        back = asyncio.create_task(self._passed_on(connection, server[0], client[1]))
        try:
            await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
        finally:
            there.cancel()
            back.cancel()
            await asyncio.wait((there, back))

    async def _passed_on(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while piece := await reader.read(CHUNK):
                if self.delay_s:
                    await self._clock.sleep(self.delay_s)
                if not connection.hushed:
                    writer.write(piece)
                    await writer.drain()
        if connection.hushed:
            await asyncio.Event().wait()  # that one side has left is not told to the other either

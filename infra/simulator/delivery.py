"""Bringing a reply to a client: at its pace, to its end or to the point where the connection breaks."""

import asyncio
import socket
import struct

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from infra.simulator.engine import Ongoing, Simulator

# SO_LINGER on, for 0 seconds: what closes then is reset.
_RESET = struct.pack("ii", 1, 0)


class Delivery(Response):
    """Sends the reply of a call and tells the simulator how it ended.

    The server puts its transport into the state of each request: nothing in ASGI can break a connection.
    """

    def __init__(self, simulator: Simulator, ongoing: Ongoing) -> None:
        reply = ongoing.reply
        super().__init__(status_code=reply.status, headers=dict(reply.headers), media_type=reply.media_type)
        length = str(sum(map(len, reply.pieces)))
        if reply.media_type == "text/event-stream":
            del self.headers["content-length"]
        else:
            self.headers["content-length"] = length
        self._simulator = simulator
        self._ongoing = ongoing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        delivered = False
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            delivered = await self._deliver(send, gone)
            if not delivered and not gone.done():
                _break(scope["state"]["transport"])
                await gone  # the server complains of an answer without an end before it knows that nobody waits
        finally:
            gone.cancel()
            self._simulator.end(self._ongoing, delivered=delivered)

    async def _deliver(self, send: Send, gone: asyncio.Future[None]) -> bool:
        """Whether all of it was sent."""
        reply = self._ongoing.reply
        if reply.course == "hang":
            await gone
        if reply.course == "reset" or not await self._still_there(gone, reply.wait_s):
            return False
        await send({"type": "http.response.start", "status": reply.status, "headers": self.raw_headers})
        for place, piece in enumerate(reply.pieces):
            if place and not await self._still_there(gone, reply.pause_s):
                return False
            if reply.course == "cut" and place >= len(reply.pieces) // 2:
                return False
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return True

    async def _still_there(self, gone: asyncio.Future[None], simulated_s: float) -> bool:
        """Whether the client waited for so long."""
        if simulated_s > 0:
            passing = asyncio.ensure_future(self._simulator.time.sleep(simulated_s))
            try:
                await asyncio.wait((gone, passing), return_when=asyncio.FIRST_COMPLETED)
            finally:
                passing.cancel()
        return not gone.done()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _break(transport: asyncio.Transport) -> None:
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()

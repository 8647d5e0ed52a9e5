"""A simulated provider on a port of the loopback interface."""

import asyncio
import socket
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from infra.simulator.application import application
from infra.simulator.engine import Simulator
from shared.errors import StartupError

LOOPBACK: Final = "127.0.0.1"


@asynccontextmanager
async def serving(simulator: Simulator, *, port: int = 0) -> AsyncIterator[str]:
    """Serve while the block runs, and give the address; calls that are under way at its end are broken off.

    Args:
        simulator: what answers.
        port: 0 takes a free one.

    Raises:
        StartupError: the port is in use.
    """
    try:
        listening = socket.create_server((LOOPBACK, port))
    except OSError as error:
        raise StartupError(f"cannot listen on {LOOPBACK}:{port}: {error.strerror}; choose another port") from None
    with listening:
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as in shared/service.py
        config = uvicorn.Config(
            application(simulator), http=_Breakable, log_config=None, access_log=False, lifespan="off", ws="none"
        )
        server = _Server(config)
        task = asyncio.create_task(server.serve([listening]), name="simulator")
        try:
            yield f"http://{LOOPBACK}:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            for connection in list(server.server_state.connections):
                connection.transport.abort()
            await task


class _Breakable(H11Protocol):
    """HTTP over a connection that the application can break: its transport is in the state of each request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class _Server(uvicorn.Server):
    """Leaves the signals to whoever serves."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Capture none."""
        yield

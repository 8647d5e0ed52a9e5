"""The life of a service process: settings, broker, consumers, probes; and an orderly end.

On SIGTERM a service stops taking, finishes what it has or hands it back, and exits 0 within ``shutdown_s`` seconds.
"""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, TypeVar

import structlog
import uvicorn
from starlette.applications import Starlette

from shared import envelope, loop, probes, settings
from shared.broker import Message
from shared.clock import SYSTEM_CLOCK, Clock
from shared.consumer import BatchConsumer, BatchHandler, Consumer, Decode, Handler, Subscribed
from shared.errors import StartupError
from shared.policy import Policy, load_policy
from shared.rabbitmq import RabbitBroker
from shared.settings import Settings
from shared.telemetry import logs
from shared.topology import Queue, topology

log = structlog.stdlib.get_logger(__name__)
T = TypeVar("T")
Wire = Callable[["Service"], Awaitable[None]]


class Service:
    """What ``__main__`` wires: it says what to consume and what to serve, and this runs it."""

    def __init__(self, name: str, settings: Settings, policy: Policy, broker: RabbitBroker) -> None:
        self.name = name
        self.settings = settings
        self.policy = policy
        self.broker = broker
        self.topology = topology(policy.tiers)
        self.clock: Clock = SYSTEM_CLOCK
        self.app = Starlette()
        self.stopping = asyncio.Event()
        self._resources = AsyncExitStack()
        self._consumers: list[Consumer[Any] | BatchConsumer] = []

    async def enter(self, resource: AbstractAsyncContextManager[T]) -> T:
        """Open something that is closed when the service ends, after the consumers."""
        return await self._resources.enter_async_context(resource)

    def consume(
        self,
        queue: Queue,
        handler: Handler[T],
        *,
        concurrency: int | None = None,
        decode: Decode[T] = envelope.decode,  # type: ignore[assignment]  # the handler says which event its queue has
        subscribed: Subscribed | None = None,
    ) -> Consumer[T]:
        """Call ``handler`` for every event of a queue, ``concurrency`` (default: the prefetch) of them at a time.

        ``subscribed`` is called before the first of them, and again before the first after a lost connection.
        """
        consumer = Consumer(
            self.broker,
            queue,
            handler,
            source=self.name,
            decode=decode,
            concurrency=concurrency or self.settings.prefetch,
            subscribed=subscribed,
            clock=self.clock,
        )
        self._consumers.append(consumer)
        return consumer

    def consume_batches(
        self, limits: Mapping[Queue, int], handler: BatchHandler, *, tick_s: float, rest_s: float = 0.0
    ) -> None:
        """Call ``handler`` once per tick with what has arrived, at most ``limits[queue]`` events of each queue."""
        self._consumers.append(
            BatchConsumer(
                self.broker,
                limits,
                handler,
                source=self.name,
                tick_s=tick_s,
                rest_s=rest_s,
                tick_bytes=self.settings.tick_bytes,
                prefetch=self.settings.prefetch,
                clock=self.clock,
            )
        )

    async def run(self, wire: Wire) -> None:
        """Connect, declare, wire, consume and serve until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.stopping.set)
        async with self.broker, self._resources:
            await wire(self)
            self.app.router.routes.extend(probes.routes(self.broker))
            async with _serving(self.app, self.settings), asyncio.TaskGroup() as tasks:
                await self._connected()
                watching = tasks.create_task(self.broker.watch())
                running = [tasks.create_task(consumer.run()) for consumer in self._consumers]
                log.info("ready", queues=len(running))
                await self.stopping.wait()
                log.info("stopping")
                await self._drain(running)
                watching.cancel()
        log.info("stopped")

    async def _connected(self) -> None:
        if not self.broker.connected:
            log.info("connecting to RabbitMQ", address=self.broker.address, setting="FOREBAY_AMQP_URL")
        waits = [asyncio.create_task(self.broker.wait_connected()), asyncio.create_task(self.stopping.wait())]
        done, late = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in late:
            wait.cancel()
        for wait in done:
            wait.result()

    async def _drain(self, running: list[asyncio.Task[None]]) -> None:
        stops = [asyncio.create_task(consumer.stop()) for consumer in self._consumers]
        if not running:
            return
        _, late = await asyncio.wait([*stops, *running], timeout=self.settings.shutdown_s)
        for task in late:
            log.warning("unfinished work goes back to the broker")
            task.cancel()


@asynccontextmanager
async def _serving(app: Starlette, settings: Settings) -> AsyncIterator[None]:
    """Serve HTTP while the block runs; a port in use raises StartupError."""
    config = uvicorn.Config(
        app,
        host=settings.http_host,
        port=settings.http_port,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=max(1, int(settings.shutdown_s)),
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve([_listening(config)]), name="http")
    try:
        yield
    finally:
        server.should_exit = True
        await task


def _listening(config: uvicorn.Config) -> socket.socket:
    try:
        listening = config.bind_socket()
    except SystemExit:
        where = f"{config.host}:{config.port}"
        raise StartupError(f"cannot listen on {where}: set FOREBAY_HTTP_PORT to a free port") from None
    # Connections inherit it. asyncio sets it for sockets it makes itself, not for this one; then the second write of an
    # answer (head, then body) waits for the client's delayed acknowledgement of the first, 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


class _Server(uvicorn.Server):
    """Leaves the signals to us: the end of a service has an order."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Capture none."""
        yield


def undecoded(message: Message) -> Message:
    """For handlers that want messages as they came."""
    return message


def run(name: str, wire: Wire) -> None:
    """Run a service until it is told to stop; exits 2 with one clear line when it cannot start."""
    try:
        config = settings.load()
        logs.configure(name, form=config.log_format, level=config.log_level)
        policy = load_policy(config.policy_file, named_by=f"{settings.PREFIX}POLICY_FILE")
        loop.run(_run(name, config, policy, wire))
    except StartupError as error:
        print(f"forebay {name}: {error}", file=sys.stderr)
        sys.exit(2)
    except BaseExceptionGroup as group:
        startup, _ = group.split(StartupError)
        if startup is None:
            raise
        print(f"forebay {name}: {startup.exceptions[0]}", file=sys.stderr)
        sys.exit(2)


async def _run(name: str, config: Settings, policy: Policy, wire: Wire) -> None:
    broker = RabbitBroker(
        config.amqp_url,
        name=f"forebay {name}",
        publish_timeout_s=config.publish_timeout_s,
        delivery_limit=config.delivery_limit,
        topology=topology(policy.tiers),
    )
    await Service(name, config, policy, broker).run(wire)

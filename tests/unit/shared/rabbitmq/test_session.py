"""A connection from its opening to its end, and what an alarm of the broker does to what waits on it."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import aio_pika
import pytest
from aio_pika.exceptions import ChannelClosed

from shared.rabbitmq.session import Session


@pytest.fixture
async def session() -> Session:
    underlay = SimpleNamespace(write_queue=asyncio.Queue(), closing=asyncio.get_running_loop().create_future())
    return Session(cast("Any", SimpleNamespace(transport=SimpleNamespace(connection=underlay))))


async def test_an_alarm_ends_what_waits_soon(session: Session) -> None:
    async def wait() -> None:
        async with session.deadline(3600):
            await asyncio.Event().wait()

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    session._on_alarm("memory")
    async with asyncio.timeout(10):
        with pytest.raises(TimeoutError):
            await waiting


async def test_an_alarm_leaves_alone_what_is_over_and_not_yet_at_its_end(session: Session) -> None:
    over, end = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        async with session.deadline(0):
            try:
                await asyncio.Event().wait()
            finally:  # as a channel that is closed meanwhile
                over.set()
                await end.wait()

    waiting = asyncio.create_task(wait())
    await over.wait()
    session._on_alarm("memory")
    end.set()
    with pytest.raises(TimeoutError):
        await waiting


class Refusing:
    """A connection of aio-pika that opens no channel."""

    def __init__(self) -> None:
        async def hear(_: object) -> None:
            """Aiormq's handler of an alarm."""

        handlers = {f"_Connection__handle_connection_{what}": hear for what in ("blocked", "unblocked")}
        closing = asyncio.get_running_loop().create_future()
        self.transport = SimpleNamespace(
            connection=SimpleNamespace(write_queue=asyncio.Queue(), closing=closing, **handlers)
        )
        self.close_callbacks: set[object] = set()
        self.closed = False

    async def channel(self, **_: object) -> None:
        raise ChannelClosed(530, "no channel")

    async def close(self) -> None:
        self.closed = True


async def test_a_connection_without_its_channels_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = Refusing()

    async def connect(*_: object, **__: object) -> Refusing:
        return refusing

    monkeypatch.setattr(aio_pika, "connect", connect)
    with pytest.raises(ChannelClosed):
        await Session.open("amqp://nobody/", "test")
    assert refusing.closed

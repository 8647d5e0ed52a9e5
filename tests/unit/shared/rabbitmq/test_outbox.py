"""What is written when, and what becomes of it where nobody writes any more."""

import asyncio
from typing import Any, cast

import pytest

from shared.rabbitmq.outbox import Outbox


class Written(asyncio.Queue[Any]):
    """A connection's queue that counts how often somebody tries to put something into it."""

    tries = 0

    def put_nowait(self, item: Any) -> None:
        self.tries += 1
        super().put_nowait(item)


class Connection:
    """As much of aiormq's as an outbox has to do with; nobody writes what is put into its queue."""

    def __init__(self) -> None:
        self.write_queue = Written(maxsize=2)
        self.closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def written(self) -> list[bytes]:
        return [self.write_queue.get_nowait().payload for _ in range(self.write_queue.qsize())]


@pytest.fixture
async def connection() -> Connection:
    return Connection()


@pytest.fixture
async def outbox(connection: Connection) -> Outbox:
    return Outbox(cast("Any", connection))


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def fill(outbox: Outbox) -> None:
    """The queue is full, and one write more waits for room."""
    for text in (b"1", b"2", b"3"):
        outbox.send(text)
        await turns(1)


async def test_what_is_given_in_one_turn_is_one_write(connection: Connection, outbox: Outbox) -> None:
    outbox.send_later(lambda: b"c")
    outbox.send(b"a")
    outbox.send(b"b")
    await turns()
    assert connection.written() == [b"abc"]


async def test_while_the_queue_is_full_it_is_not_asked_again_in_every_turn(
    connection: Connection, outbox: Outbox
) -> None:
    await fill(outbox)
    await turns()
    tries = connection.write_queue.tries
    await turns()
    assert connection.write_queue.tries == tries


async def test_when_there_is_room_all_goes_out_in_its_order(connection: Connection, outbox: Outbox) -> None:
    await fill(outbox)
    outbox.send(b"4")
    outbox.send_later(lambda: b"5")
    written = connection.written()
    await outbox.flushed()
    assert written + connection.written() == [b"1", b"2", b"3", b"45"]


async def test_on_a_closed_connection_nothing_waits(connection: Connection, outbox: Outbox) -> None:
    await fill(outbox)
    connection.closing.set_result(None)
    async with asyncio.timeout(1):
        await outbox.flushed()
        outbox.send(b"late")
        await outbox.flushed()
    assert connection.written() == [b"1", b"2"]

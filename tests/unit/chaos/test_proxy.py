"""The proxy that breaks connections."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress

from tests.chaos.proxy import LOOPBACK, Proxy
from tests.support.clock import ManualClock, settled

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def echo(prefix: bytes = b"") -> AsyncIterator[int]:
    """A server that sends back what it gets."""

    tasks: set[asyncio.Task[None] | None] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        with suppress(ConnectionError):
            while piece := await reader.read(1024):
                writer.write(prefix + piece)
        writer.close()

    server = await asyncio.start_server(answer, LOOPBACK, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
    await asyncio.gather(*filter(None, tasks))


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Ends]:
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await settled()


async def said(ends: Ends, text: bytes) -> bytes:
    """What comes back."""
    ends[1].write(text)
    return await ends[0].read(1024)


async def ended(answer: Awaitable[bytes]) -> bool:
    """Whether the connection is gone: where nothing was under way a reset looks like an end."""
    try:
        return await answer == b""
    except ConnectionError:
        return True


async def test_bytes_pass_both_ways_and_an_end_is_passed_on() -> None:
    async with echo() as server, Proxy([server]).serving() as port, connected(port) as client:
        assert await said(client, b"hello") == b"hello"
        client[1].write_eof()
        assert await client[0].read() == b""


async def test_a_cut_resets_what_is_there_and_lets_new_ones_in() -> None:
    async with echo() as server:
        proxy = Proxy([server])
        async with proxy.serving() as port:
            async with connected(port) as client:
                assert await said(client, b"one") == b"one"
                assert proxy.cut() == 1
                assert await ended(said(client, b"two"))
            async with connected(port) as client:
                assert await said(client, b"three") == b"three"
        assert proxy.opened == 2


async def test_delayed_bytes_arrive_when_their_time_has_come() -> None:
    clock = ManualClock()
    async with echo() as server:
        proxy = Proxy([server], clock=clock)
        proxy.delay_s = 2.0
        async with proxy.serving() as port, connected(port) as client:
            answer = asyncio.create_task(said(client, b"slow"))
            for _ in ("there", "back"):
                await clock.sleeper()
                assert not answer.done()
                await clock.advance(2.0)
            assert await answer == b"slow"
        assert clock.slept == [2.0, 2.0]


async def test_a_half_open_connection_says_nothing_until_it_is_healed() -> None:
    async with echo() as server:
        proxy = Proxy([server])
        async with proxy.serving() as port, connected(port) as client:
            assert await said(client, b"one") == b"one"
            proxy.hush()
            answer = asyncio.create_task(said(client, b"two"))
            async with connected(port) as late:
                unanswered = asyncio.create_task(said(late, b"three"))
                assert await asyncio.wait((answer, unanswered), timeout=0.05) == (set(), {answer, unanswered})
                proxy.heal()
                assert [await ended(each) for each in (answer, unanswered)] == [True, True]
            async with connected(port) as client_after:
                assert await said(client_after, b"four") == b"four"


async def test_servers_are_taken_in_turn_and_those_that_are_away_are_passed_over() -> None:
    async with echo(b"a:") as first, echo(b"b:") as second:
        async with Proxy([first, second]).serving() as port:
            answers = []
            for _ in range(4):
                async with connected(port) as client:
                    answers.append(await said(client, b"x"))
            assert answers == [b"a:x", b"b:x", b"a:x", b"b:x"]
        nobody = first
    async with echo(b"c:") as third, Proxy([nobody, third]).serving() as port, connected(port) as client:
        assert await said(client, b"x") == b"c:x"


async def test_where_no_server_listens_the_connection_ends() -> None:
    async with echo() as gone:
        pass
    async with Proxy([gone]).serving() as port, connected(port) as client:
        assert await client[0].read() == b""

"""Deadlines of what waits for an answer, when the broker raises an alarm."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

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

"""A RabbitMQ that is short of memory, on demand."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from infra.local import ports, rabbitmq
from infra.local.home import Home

PATIENCE_S = 60
ENOUGH = ("absolute", "1GB")


async def watermark(home: Path, *share: str) -> None:
    """Set the memory from which the node raises its alarm."""
    place = Home.at(home)
    env = rabbitmq.environment(place.rabbitmq, ports.remembered(place))
    ctl = rabbitmq.server_script().with_name("rabbitmqctl")
    command = [str(ctl), "-n", env["RABBITMQ_NODENAME"], "set_vm_memory_high_watermark", *share]
    await asyncio.to_thread(subprocess.run, command, env=env, check=True, capture_output=True, timeout=PATIENCE_S)


@asynccontextmanager
async def short_of_memory(home: Path) -> AsyncIterator[None]:
    await watermark(home, "0.00001")
    try:
        yield
    finally:
        await watermark(home, *ENOUGH)

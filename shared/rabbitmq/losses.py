"""How aio-pika and aiormq say that a connection or channel is gone, or goes while it is being used."""

import asyncio
from typing import Final

from aio_pika.exceptions import AMQPError

LOST: Final = (AMQPError, OSError, RuntimeError, asyncio.InvalidStateError)

"""Hearing that RabbitMQ has raised an alarm.

Short of memory or disk, the broker reads nothing more from a connection that publishes, and says so once:
``connection.blocked`` with the reason, and ``connection.unblocked`` when it is over (RabbitMQ, "Connection blocked
notifications"). Whoever publishes meanwhile waits for a confirm that can't come. aiormq takes these frames for itself
and tells nobody, so here its two handlers are wrapped.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from aio_pika import abc

# Names that aiormq's own calls look up on the connection.
_BLOCKED: Final = "_Connection__handle_connection_blocked"
_UNBLOCKED: Final = "_Connection__handle_connection_unblocked"
Alarm = Callable[[str | None], None]


def follow(connection: abc.AbstractConnection, alarm: Alarm) -> None:
    """Call ``alarm`` with the reason when the broker blocks a connection, and with None when it blocks it no more."""
    assert connection.transport is not None  # it was connected a moment ago
    underlay = connection.transport.connection
    _wrap(underlay, _BLOCKED, lambda frame: alarm(frame.reason or "no reason given"))
    _wrap(underlay, _UNBLOCKED, lambda _: alarm(None))


def _wrap(underlay: object, name: str, before: Callable[[Any], None]) -> None:
    handler: Callable[[Any], Awaitable[None]] = getattr(underlay, name)

    async def told(frame: Any) -> None:
        before(frame)
        await handler(frame)

    setattr(underlay, name, told)

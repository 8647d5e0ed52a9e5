"""What lies in the queues of dead letters, for people to read; among it what belongs to no request at all.

It is read over AMQP, with basic.get and a channel that is closed without an acknowledgement, so that no management
plugin and no other account is needed. A queue that was read may give its letters in another order the next time.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from shared import envelope
from shared.broker import Message
from shared.consumer import CODE_HEADER, REASON_HEADER
from shared.errors import InvalidRequest
from shared.topology import Queue, Topology

# Looked through for the copies of requests that are replayed or dropped: letters of one queue.
MOST_SOUGHT: Final = 1000
# Requests whose letters are sought together; the queues are looked through once for so many.
MOST_REMEMBERED: Final = 10_000
SUFFIX: Final = ".dead"


class Shelf(Protocol):
    """What is asked of the broker; every method raises BrokerUnavailable."""

    async def waiting(self, queue: Queue) -> int: ...

    async def browse(self, queue: Queue, limit: int) -> Sequence[Message]: ...

    async def remove(self, queue: Queue, limit: int, unwanted: Callable[[Message], bool]) -> int: ...

    async def purge(self, queue: Queue) -> int: ...


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter.

    Attributes:
        code: what it died of; None where the broker gave up on it, after it was handed out too often.
        request_id: the request it names as its subject, if it names any.
    """

    code: str | None
    reason: str | None
    request_id: UUID | None
    message: Message


class Letters:
    """Reads the queues of dead letters of a topology."""

    def __init__(self, shelf: Shelf, topology: Topology) -> None:
        self._shelf = shelf
        self._queues = {queue.name: queue for queue in topology.queues if queue.dead_letters}
        self._seen_to: set[UUID] = set()

    async def counts(self) -> dict[str, int]:
        """How many letters each queue has."""
        return {name: await self._shelf.waiting(queue) for name, queue in self._queues.items()}

    async def read(self, name: str, limit: int) -> Sequence[Letter]:
        """Some letters of a queue, which stay there; raises InvalidRequest for a queue there is none of."""
        return [_letter(message) for message in await self._shelf.browse(self._queue(name), limit)]

    async def purge(self, name: str) -> int:
        """Delete all letters of a queue; how many there were. Raises as :meth:`read`."""
        return await self._shelf.purge(self._queue(name))

    async def forget(self, request_ids: Collection[UUID], *, more: bool = False) -> None:
        """Delete the letters of some requests, as far as they are among the first of their queues.

        With ``more`` to come the queues are looked through for these later, together with the others. A replica that
        ends before leaves letters behind, which do no harm.
        """
        self._seen_to.update(request_ids)
        if not self._seen_to or (more and len(self._seen_to) < MOST_REMEMBERED):
            return
        seen_to, self._seen_to = self._seen_to, set()

        def theirs(message: Message) -> bool:
            return _letter(message).request_id in seen_to

        for queue in self._queues.values():
            if await self._shelf.waiting(queue):
                await self._shelf.remove(queue, MOST_SOUGHT, theirs)

    def _queue(self, name: str) -> Queue:
        queue = self._queues.get(name) or self._queues.get(name + SUFFIX)
        if queue is None:
            raise InvalidRequest(f"no queue of dead letters is called {name!r}; there are {', '.join(self._queues)}")
        return queue


def _letter(message: Message) -> Letter:
    try:
        request_id = UUID(envelope.attribute(message, "subject"))
    except (TypeError, ValueError):
        request_id = None
    return Letter(_text(message, CODE_HEADER), _text(message, REASON_HEADER), request_id, message)


def _text(message: Message, header: str) -> str | None:
    value = message.headers.get(header)
    return value if isinstance(value, str) else None

"""Publishing on a channel of its own, and knowing what of it is confirmed.

aiormq's own publish takes a task, a lock and a wait for the socket per message. Here a message is written with all
others of its turn (shared/rabbitmq/outbox.py), and what is waited for is the broker's confirm alone. The table of
confirms is aiormq's: it numbers, resolves and rejects them, and puts what is returned in its place.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from aiormq.channel import Channel
from aiormq.exceptions import ChannelInvalidStateError

from shared.broker import Message
from shared.errors import BrokerUnavailable
from shared.rabbitmq import wire
from shared.rabbitmq.outbox import Outbox

# Nothing else bounds what a broker that is slow, but neither silent nor in alarm, lets pile up on its way to it.
MOST_UNCONFIRMED_BYTES: Final = 64 * 1024 * 1024
# Exchange, routing key and id of a message.
_Name = tuple[str, str, str]
Confirm = asyncio.Future[object]


class Publisher:
    """The only one who publishes on a channel that has confirms."""

    def __init__(self, channel: Channel, outbox: Outbox) -> None:
        self._channel = channel
        self._outbox = outbox
        self._due: dict[_Name, tuple[Message, Confirm]] = {}
        self._last: dict[str, Confirm] = {}  # by message id
        self._unconfirmed_bytes = 0

    def publish(self, message: Message) -> Confirm:
        """Write a message; the future is done when the broker has confirmed it, whether anybody waits or not.

        For an equal message whose confirm is due it is the one under way: a broker that is slow to confirm would have
        all the more to do with every copy, and so would all who consume them. Two that have no id are two. Another
        message of the same id is written when that one is confirmed: what is returned is known by its id alone.

        The future's error is aiormq's: PublishError where no queue takes it, DeliveryError where one refuses it,
        another of its errors where the channel is gone; or ValueError or TypeError where AMQP can't carry it. It is
        BrokerUnavailable where too much is unconfirmed already.
        """
        if not message.message_id:
            return self._write(message)
        name = (message.exchange, message.routing_key, message.message_id)
        under_way = self._due.get(name)
        if under_way is not None and under_way[0] == message:
            return under_way[1]
        confirm = self._in_turn(message)
        self._due[name] = (message, confirm)
        self._last[message.message_id] = confirm
        confirm.add_done_callback(self._forgetting(name))
        return confirm

    def _in_turn(self, message: Message) -> Confirm:
        """Write a message once the last of its id is done."""
        last = self._last.get(wire.id_of(message))
        if last is None:
            return self._write(message)
        confirm: Confirm = asyncio.get_running_loop().create_future()
        last.add_done_callback(lambda _: _pass_on(self._write(message), confirm))
        return confirm

    def _write(self, message: Message) -> Confirm:
        channel, message_id = self._channel, wire.id_of(message)
        if channel.is_closed:
            return _failed(ChannelInvalidStateError("the channel is closed"))
        if self._unconfirmed_bytes >= MOST_UNCONFIRMED_BYTES:
            return _failed(BrokerUnavailable(f"{self._unconfirmed_bytes} bytes are not confirmed yet"))
        try:
            frames = wire.frames(
                message, message_id, channel=channel.number, frame_max=channel.connection.connection_tune.frame_max
            )
        except Exception as error:
            return _failed(error)
        channel.delivery_tag += 1
        confirm: Confirm = channel.create_future()
        channel.confirmations[channel.delivery_tag] = confirm
        channel.message_id_delivery_tag[message_id] = tag = channel.delivery_tag
        confirm.add_done_callback(lambda _: self._settled(message_id, tag, len(frames)))
        self._unconfirmed_bytes += len(frames)
        self._outbox.send(frames)
        return confirm

    def _settled(self, message_id: str, tag: int, size: int) -> None:
        self._unconfirmed_bytes -= size
        if self._channel.message_id_delivery_tag.get(message_id) == tag:
            del self._channel.message_id_delivery_tag[message_id]

    def _forgetting(self, name: _Name) -> Callable[[Confirm], None]:
        def forget(confirm: Confirm) -> None:
            if name in self._due and self._due[name][1] is confirm:
                del self._due[name]
            if self._last.get(name[2]) is confirm:
                del self._last[name[2]]

        return forget


def _pass_on(source: Confirm, target: Confirm) -> None:
    """Give one future the end of another."""

    def end(done: Confirm) -> None:
        if target.done():
            return
        if done.cancelled():
            target.cancel()
        elif (error := done.exception()) is not None:
            _fail(target, error)
        else:
            target.set_result(done.result())

    source.add_done_callback(end)


def _failed(error: Exception) -> Confirm:
    future: Confirm = asyncio.get_running_loop().create_future()
    _fail(future, error)
    return future


def _fail(future: Confirm, error: BaseException) -> None:
    future.set_exception(error)
    future.exception()  # looked at, also where nobody waits for it

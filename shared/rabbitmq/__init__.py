"""RabbitMQ through aio-pika, behind the :class:`shared.broker.Broker` interface.

- ``broker``: one connection after the other, and all that the interface asks for.
- ``session``: a connection for as long as it lasts; ``losses``: how it is told that it is gone.
- ``declaring``: queues and their arguments.
- ``publisher``, ``subscription``: the two directions; ``wire``: messages as AMQP has them.
- ``outbox``: what both write, in as few writes as it goes; ``tags``: which deliveries are acknowledged in one frame.

aio-pika connects, declares and closes. What is done for each message goes to aiormq's channel, which is the one below.
"""

from shared.rabbitmq.broker import RabbitBroker

__all__ = ["RabbitBroker"]

"""Publishing events: encoded, handed to the broker, counted; what handlers return and what is said beside alike."""

from collections.abc import Sequence
from datetime import datetime

from shared import envelope
from shared.broker import Broker
from shared.errors import Unpublishable
from shared.events import Event
from shared.telemetry import metrics


async def publish(broker: Broker, events: Sequence[Event], *, source: str, now: datetime) -> None:
    """Publish events of a service; returns when those that are mandatory are confirmed.

    Raises:
        Unpublishable: one of them cannot be encoded.
        BrokerError: see ``Broker.publish``.
    """
    try:
        messages = envelope.encode_all(events, source=source, now=now)
    except ValueError as error:
        raise Unpublishable(f"an event that cannot be encoded: {error}") from error
    if messages:
        await broker.publish(messages)
    for event in events:
        metrics.PUBLISHED.labels(event.TYPE).inc()

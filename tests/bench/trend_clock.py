"""How the benches of trends drive the service's code: a clock that is set, and handing events over without a loop."""

from datetime import UTC, datetime, timedelta
from typing import Final

from services.trends.watch import Watch
from shared.events import TopicCounted

START: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Hands:
    """A clock that is set."""

    def __init__(self) -> None:
        self.elapsed = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.elapsed)

    def monotonic(self) -> float:
        return self.elapsed

    async def sleep(self, seconds: float) -> None:
        self.elapsed += seconds


def hear(watch: Watch, event: TopicCounted) -> None:
    """Hand over an event; the handler never waits for anything."""
    try:
        watch.heard(event).send(None)
    except StopIteration:
        return
    raise AssertionError("the handler waited")

"""What ingest tells of the queues, and what it makes of what is told."""

from uuid import UUID

from services.ingest.surge import EVERY_S, Surge
from shared import envelope
from shared.background import background
from shared.events import QueueAged, QueueReport, QueueReported
from tests.support import make
from tests.support.broker import WatchedBroker
from tests.support.brownout import LADDER, aged
from tests.support.clock import ManualClock

INFERENCE = UUID(int=7)


class It:
    """One replica of ingest, which hears what it tells."""

    def __init__(self, broker: WatchedBroker) -> None:
        self.clock, self.broker = ManualClock(), broker
        self.surge = Surge(make.policy(brownout=LADDER), broker, self.clock, replica=UUID(int=1))

    @classmethod
    async def ready(cls) -> "It":
        return cls(await WatchedBroker.ready())

    async def reported(self, **tiers: QueueReport) -> None:
        await self.surge.heard(QueueReported(report_id=make.new_id(), replica=INFERENCE, tiers=tiers))

    def told(self) -> list[dict[str, float]]:
        events = [envelope.decode(message) for message in self.broker.published]
        return [dict(event.ages) for event in events if isinstance(event, QueueAged)]


async def test_ages_are_told_every_second_while_there_are_any_and_their_end_once() -> None:
    it = await It.ready()
    async with background(it.surge.tell, name="surge", clock=it.clock):
        await it.clock.advance(3 * EVERY_S)
        await it.reported(light=QueueReport(started=4, waited_s=12.0, waiting=9))
        await it.clock.advance(2 * EVERY_S)
        await it.reported()
        await it.clock.advance(3 * EVERY_S)
    assert it.told() == [{"light": 12.0}, {"light": 12.0}, {}]


async def test_an_outage_is_told_by_the_looks_alone() -> None:
    it = await It.ready()
    async with background(it.surge.tell, name="surge", clock=it.clock):
        for _ in range(40):
            it.surge.looked({"light": 0.0, "premium": 100.0})
            await it.clock.advance(EVERY_S)
    assert it.told()[-1] == {"premium": 40.0}


async def test_while_the_broker_is_away_telling_goes_on_later() -> None:
    it = await It.ready()
    async with background(it.surge.tell, name="surge", clock=it.clock):
        it.broker.connected = False
        await it.reported(light=QueueReport(started=4, waited_s=12.0, waiting=9))
        await it.clock.advance(EVERY_S)
        it.broker.connected = True
        await it.clock.advance(EVERY_S)
    assert it.told() == [{"light": 12.0}]


async def test_of_requests_that_name_no_tier_a_step_touches_those_that_mostly_meet_it() -> None:
    it = await It.ready()
    await it.surge.heard(aged(premium=150.0))
    shares = {"light": 0.7, "premium": 0.3}
    assert it.surge.notes(shares) == []
    assert it.surge.notes({"premium": 1.0})[0].step == "cheaper_tier"
    await it.surge.heard(aged(premium=150.0, light=31.0))
    assert [(note.step, note.tier) for note in it.surge.notes(shares)] == [
        ("cheaper_tier", "premium"),
        ("stale_answers", "premium"),
    ]
    await it.surge.heard(aged(premium=1.0, light=31.0))
    assert [(note.step, note.tier, note.age_s) for note in it.surge.notes(shares)] == [
        ("cheaper_tier", "light", 31.0),
        ("stale_answers", "light", 31.0),
    ]

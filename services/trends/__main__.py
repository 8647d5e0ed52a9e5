"""Wiring of trends."""

from services.trends.admin import Admin
from services.trends.announcing import Announcing
from services.trends.counting import MOST_PER_TICK, TICK_S, Counting
from services.trends.watch import Watch
from shared import service, topology
from shared.background import background


async def wire(it: service.Service) -> None:
    rules = it.policy.trends
    counting, watch = Counting(rules, it.clock), Watch(rules, it.clock)
    it.consume(topology.TOPIC_EVENTS, watch.heard, subscribed=watch.subscribed)
    if rules.enabled:
        it.consume_batches({topology.COUNTED: MOST_PER_TICK}, counting.accepted, tick_s=TICK_S)
    announcing = Announcing(counting, watch, it.broker, it.clock)
    await it.enter(background(announcing.run, name="announcing", clock=it.clock))
    it.app.router.routes.extend(Admin(rules, watch).routes())


if __name__ == "__main__":
    service.run("trends", wire)

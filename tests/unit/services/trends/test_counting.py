"""What one replica counts and tells."""

import pytest

from services.trends import counting as module
from services.trends.counting import Counting
from shared.consumer import Done
from shared.events import TopicCounted
from shared.policy.trends import TrendsPolicy
from shared.topology import COUNTED
from tests.support import make
from tests.support.clock import START, ManualClock


def counting(**policy: bool) -> Counting:
    return Counting(TrendsPolicy.model_validate(policy), ManualClock())


def told(events: list[TopicCounted]) -> dict[str, tuple[int, dict[str, int]]]:
    """Requests and keys by tenant."""
    found: dict[str, tuple[int, dict[str, int]]] = {}
    for event in events:
        for part in event.counts:
            requests, keys = found.get(part.tenant, (0, {}))
            found[part.tenant] = (requests + part.requests, keys | part.keys)
    return found


async def test_it_counts_what_each_request_is_about_once_and_tells_it_once() -> None:
    it = counting()
    events = [make.accepted(input="An earthquake, an earthquake in Tokyo!"), make.accepted(input="Tokyo?")]
    outcomes = await it.accepted([(COUNTED, event) for event in (*events, make.accepted(tenant="beta", input="Why?"))])
    assert outcomes == [Done()] * 3
    taken = it.taken()
    assert told(taken) == {
        "acme": (2, {"earthquake": 1, "tokyo": 2, "earthquake tokyo": 1}),
        "beta": (1, {}),
    }
    assert {event.counted_at for event in taken} == {START}
    assert len({event.batch_id for event in taken}) == len(taken)
    assert it.taken() == []


async def test_who_asked_once_is_counted_once_however_often_it_is_run() -> None:
    it = counting()
    await it.accepted([(COUNTED, make.accepted(replay=1))])
    assert it.taken() == []


async def test_the_last_turn_of_a_conversation_is_what_it_is_about() -> None:
    it = counting()
    turns = [{"role": "user", "content": "Cats?"}, {"role": "assistant", "content": "Cats."}]
    await it.accepted([(COUNTED, make.accepted(input=[*turns, {"role": "user", "content": "Dogs?"}]))])
    assert told(it.taken()) == {"acme": (1, {"dog": 1})}


async def test_what_is_no_request_is_passed_over() -> None:
    it = counting()
    assert await it.accepted([(COUNTED, make.missed())]) == [Done()]
    assert it.taken() == []


async def test_all_tenants_may_be_counted_together() -> None:
    it = counting(across_tenants=True)
    it.count("acme", ["tea"])
    it.count("beta", ["tea"])
    assert told(it.taken()) == {"": (2, {"tea": 2})}


async def test_what_waits_and_what_is_told_at_once_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 7)
    monkeypatch.setattr(module, "MOST_TOLD", 3)
    it = counting()
    for n in range(20):
        it.count("acme", [f"tea{n}", "coffee"])
    taken = it.taken()
    assert [len(part.keys) for event in taken for part in event.counts] == [3, 3, 1]
    requests, keys = told(taken)["acme"]
    assert (requests, keys["coffee"], len(keys)) == (20, 20, 7)
    it.count("acme", ["fresh"])
    assert told(it.taken()) == {"acme": (1, {"fresh": 1})}

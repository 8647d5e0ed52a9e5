"""The scenarios that ship do what their comments say."""

from collections import Counter
from itertools import pairwise

import pytest

from infra.simulator.engine import Ongoing, Simulator
from infra.simulator.openai import ChatBody
from infra.simulator.scenario import load_scenario
from tests.support.clock import ManualClock

CHAT = ChatBody.model_validate({"model": "any", "messages": [{"role": "user", "content": "Hello."}]})


def playing(name: str) -> tuple[Simulator, ManualClock]:
    clock = ManualClock()
    return Simulator(load_scenario(name), clock), clock


def call(simulator: Simulator, key: str = "one") -> Ongoing:
    ongoing = simulator.begin(CHAT, key=key)
    simulator.end(ongoing, delivered=True)
    return ongoing


def useful_in_each_second(simulator: Simulator, clock: ManualClock, seconds: int, key: str = "one") -> list[int]:
    """Answers to a caller that asks 50 times a second, whatever it is told."""
    useful = []
    for _ in range(seconds):
        statuses: Counter[int] = Counter()
        for _ in range(50):
            clock.skip(0.02)
            statuses[call(simulator, key).reply.status] += 1
        useful.append(statuses[200])
    return useful


def test_steady_is_ten_a_second_and_never_more_than_twenty() -> None:
    simulator, clock = playing("steady")
    useful = useful_in_each_second(simulator, clock, 60)
    assert sum(useful) == pytest.approx(600 + 10, abs=1)
    assert max(first + second for first, second in pairwise([*useful, 0])) <= 30
    assert max(useful) <= 20
    assert sum(useful_in_each_second(simulator, clock, 60, key="small")) == pytest.approx(60 + 15, abs=1)


def test_the_outage_lasts_from_the_first_to_the_second_minute() -> None:
    simulator, clock = playing("outage")
    courses = []
    for wait_s in (59.9, 0.2, 59.8, 0.2):
        clock.skip(wait_s)
        courses.append(call(simulator).reply.course)
    assert courses == ["whole", "reset", "reset", "whole"]


def test_the_limit_doubles_and_halves_again_and_no_header_tells() -> None:
    simulator, clock = playing("doubled")
    useful = useful_in_each_second(simulator, clock, 300)
    per_minute = [sum(useful[minute * 60 : minute * 60 + 60]) for minute in range(5)]
    assert per_minute == [pytest.approx(expected, abs=11) for expected in (300, 300, 600, 600, 300)]
    refused = next(ongoing for ongoing in iter(lambda: call(simulator), None) if ongoing.reply.status == 429)
    assert {name.lower() for name in refused.reply.headers} == {"retry-after", "retry-after-ms"}


def test_of_garbage_one_call_in_five_goes_wrong() -> None:
    simulator, _ = playing("garbage")
    for _ in range(2000):
        call(simulator)
    tally = simulator.counts.keys["one"]
    assert sum(tally.faults.values()) / tally.calls == pytest.approx(0.2, abs=0.03)
    assert len(tally.faults) == 8


def test_slow_takes_a_minute_or_so() -> None:
    simulator, _ = playing("slow")
    waits = sorted(call(simulator).reply.wait_s for _ in range(1001))
    assert waits[500] == pytest.approx(60, rel=0.2)

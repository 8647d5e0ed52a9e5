"""Estimates, against a queue whose workers are simulated."""

import heapq
import random
from collections import deque
from datetime import timedelta
from statistics import median
from typing import Final

import pytest

from services.ingest.forecast import FIRST_GUESS_S, Forecast, Wait
from shared.events import Request
from tests.support import make
from tests.support.clock import START, ManualClock

SERVICE_S: Final = 2.0


class Tier:
    """So many workers, each of which takes about two seconds for an answer."""

    def __init__(self, workers: int, seed: int = 1) -> None:
        self.clock = ManualClock()
        self.forecast = Forecast(("light", "premium"), self.clock, usual="light")
        self.workers = workers
        self.queue: deque[tuple[Request, Wait]] = deque()
        self.ends: list[tuple[float, int, Request, Wait]] = []
        self.random = random.Random(seed)
        self.errors: list[tuple[float, float]] = []
        """Of each answer: what it was promised, and what it took."""

    def arrive(self) -> None:
        request = make.request(accepted_at=self.clock.now())
        promised = self.forecast.wait(None)
        self.forecast.took(None)
        self.queue.append((request, promised))
        self._start()

    def _start(self) -> None:
        while self.queue and len(self.ends) < self.workers:
            request, promised = self.queue.popleft()
            end = self.clock.monotonic() + self.random.uniform(0.8, 1.2) * SERVICE_S
            heapq.heappush(self.ends, (end, request.id.int, request, promised))

    async def second(self, arrivals: int) -> None:
        """One second with so many requests, spread over it."""
        for _ in range(10):
            for _ in range(arrivals // 10):
                self.arrive()
            await self.clock.advance(0.1)
            while self.ends and self.ends[0][0] <= self.clock.monotonic():
                end, _, request, promised = heapq.heappop(self.ends)
                done = START + timedelta(seconds=end)
                answer = make.completed(request, completed_at=done)
                self.forecast.heard(answer, promised)
                self.errors.append((promised.total_s, answer.latency_ms / 1000))
                self._start()
        self.forecast.looked(0, {"light": len(self.queue), "premium": 0})


def relative_error(errors: list[tuple[float, float]]) -> float:
    return median(abs(promised - actual) / actual for promised, actual in errors)


async def test_at_usual_load_the_estimate_is_what_an_answer_takes() -> None:
    tier = Tier(workers=40)
    for _ in range(60):
        await tier.second(arrivals=10)  # half of what it can do
    assert relative_error(tier.errors[100:]) < 0.15


async def test_a_surge_of_twentyfive_times_the_traffic_is_told_how_long_it_will_take() -> None:
    tier = Tier(workers=40)
    for _ in range(30):
        await tier.second(arrivals=10)
    calm = len(tier.errors)
    for _ in range(20):
        await tier.second(arrivals=250)
    while tier.queue or tier.ends:
        await tier.second(arrivals=0)
    surge = tier.errors[calm:]
    assert max(actual for _, actual in surge) > 200
    # Those of the first seconds come before anybody has seen what the workers can do at most.
    assert relative_error(surge[500:]) < 0.15


async def test_when_a_provider_gets_slower_the_estimate_follows() -> None:
    tier = Tier(workers=40)
    for _ in range(10):
        await tier.second(arrivals=100)
    tier.workers = 10
    for _ in range(120):
        await tier.second(arrivals=0)
    before = len(tier.errors)
    while len(tier.queue) < 400:
        tier.arrive()
    promised = tier.queue[-1][1].total_s
    while tier.queue or tier.ends:
        await tier.second(arrivals=0)
    assert len(tier.errors) > before
    assert promised == pytest.approx(tier.errors[-1][1], rel=0.25)


def forecast() -> Forecast:
    return Forecast(("light", "premium"), ManualClock(), usual="light")


def test_before_anything_is_known_there_is_a_guess() -> None:
    assert forecast().wait(None).total_s == FIRST_GUESS_S


def test_a_request_that_names_its_tier_waits_for_that_one() -> None:
    one = forecast()
    for seconds, tier in ((1, "light"), (9, "premium")):
        done = START + timedelta(seconds=seconds)
        one.heard(make.completed(route=make.route(tier), completed_at=done), Wait(0, 1))
    assert one.wait("light").service_s == pytest.approx(1)
    assert one.wait("premium").service_s == pytest.approx(9)
    assert 1 < one.wait(None).service_s < 9


async def test_requests_that_the_cache_answers_are_not_ahead_of_anybody() -> None:
    clock = ManualClock()
    one = Forecast(("light", "premium"), clock, usual="light")
    one.looked(0, {"light": 10, "premium": 0})
    for _ in range(200):
        one.heard(make.completed(source="cache"), None)
    for _ in range(60):
        await clock.advance(1)
        one.heard(make.completed(), Wait(0, 1))
        one.heard(make.completed(source="cache"), None)
        one.looked(0, {"light": 10, "premium": 0})
    before = one.wait("light").queued_s
    for _ in range(10):
        one.took("light")
    assert one.wait("light").queued_s < before + 10


def test_how_long_a_replay_lay_dead_is_no_estimate() -> None:
    one = forecast()
    one.heard(make.completed(replay=1, completed_at="2026-01-03T03:04:05Z"), None)
    assert one.wait(None).service_s == FIRST_GUESS_S


async def test_a_surge_out_of_nothing_is_not_taken_for_a_slow_model() -> None:
    tier = Tier(workers=10)
    for _ in range(1000):
        tier.arrive()
    while tier.queue or tier.ends:
        await tier.second(arrivals=0)
    assert tier.forecast.wait("light").service_s == pytest.approx(SERVICE_S, rel=0.25)

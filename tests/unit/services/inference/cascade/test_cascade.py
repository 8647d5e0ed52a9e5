"""Cheaper tiers first: which requests, how many calls, what passes, and what it costs."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, Final

import pytest
import tenacity
from prometheus_client import REGISTRY
from structlog.typing import EventDict

from services.inference.assembly import Replica
from services.inference.cascade.cascade import warn_of_prices
from services.inference.completion import Completion
from services.inference.errors import ProviderAuth, ProviderError, ProviderFault, RateLimited
from services.inference.finished import Arrived
from shared.errors import Park, StartupError
from shared.events import Request, RequestRouted, ResponseCompleted, ResponseFailed, Usage
from shared.memory import MemoryBroker
from shared.policy.tiers import Lane, Tier
from shared.topology import topology
from tests.support import make
from tests.support.clock import START, HurriedClock, ManualClock, settled
from tests.support.pool import FakePool

USAGE: Final = Usage(input_tokens=9, output_tokens=2)
# US dollars of a call, by model.
COST: Final[Mapping[str, float]] = {"local/tiny": 0.25, "local/other": 0.5, "local/large": 8.0}
OTHER: Final = {"model": "local/other"}
JSON: Final = {"format": {"type": "json_object"}}
Said = str | Exception | Completion


class FakeProvider:
    """Says what the test scripted for each model, in order; each call takes as long as the test says."""

    def __init__(self, clock: ManualClock, *, call_s: Mapping[str, float] | None = None, **script: Said) -> None:
        self.script = {f"local/{model}": [said] for model, said in script.items()}
        self.clock = clock
        self.call_s = call_s or {}
        self.asked: list[tuple[str, Request]] = []

    def then(self, model: str, *said: Said) -> "FakeProvider":
        self.script.setdefault(f"local/{model}", []).extend(said)
        return self

    @property
    def models(self) -> list[str]:
        return [model.removeprefix("local/") for model, _ in self.asked]

    async def complete(self, request: Request, tier: Tier, lane: Lane, *, timeout_s: float) -> Completion:
        self.asked.append((lane.model, request))
        await self.clock.sleep(self.call_s.get(lane.model.removeprefix("local/"), 0))
        said = self.script[lane.model].pop(0)
        if isinstance(said, Exception):
            raise said
        return said if isinstance(said, Completion) else Completion(said, USAGE, "stop", COST[lane.model])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> HurriedClock:
    hurried = HurriedClock()
    monkeypatch.setattr(asyncio, "sleep", hurried.sleep)
    monkeypatch.setattr(tenacity, "time", SimpleNamespace(monotonic=hurried.monotonic))
    return hurried


def replica(provider: FakeProvider, **cascade: Any) -> Replica:
    policy = make.policy(tiers__other=OTHER, tiers__premium__cascade={"first": "light"} | cascade)
    return Replica.assemble(policy, provider, FakePool().as_pool, MemoryBroker(), provider.clock)


def premium(**request: Any) -> RequestRouted:
    """A short answer is asked for."""
    return make.routed(make.request(**{"max_output_tokens": 8} | request), route=make.route("premium"))


async def run(provider: FakeProvider, event: RequestRouted | None = None, **cascade: Any) -> ResponseCompleted:
    (outcome,) = await replica(provider, **cascade).inference.routed(Arrived(event or premium(), again=False))
    assert isinstance(outcome, ResponseCompleted)
    return outcome


def counted(verdict: str) -> float:
    return REGISTRY.get_sample_value("forebay_cascades_total", {"tier": "premium", "verdict": verdict}) or 0.0


async def test_two_cheap_answers_that_say_the_same_are_the_answer(clock: HurriedClock) -> None:
    before = counted("agreed")
    provider = FakeProvider(clock).then("tiny", "Paris.", "paris")
    event = premium()
    outcome = await run(provider, event)
    assert provider.models == ["tiny", "tiny"]
    assert (outcome.output_text, outcome.source, outcome.tier, outcome.model) == (
        "Paris.",
        "light",
        "light",
        "local/tiny",
    )
    assert (outcome.cost_usd, outcome.usage, outcome.attempts, outcome.failures) == (0.5, USAGE, 1, ())
    assert outcome.cascade is not None
    assert outcome.cascade.model_dump() == {"first": ("light",), "verdict": "agreed", "calls": 2, "cost_usd": 0.5}
    assert (outcome.route, outcome.key) == (event.route, event.key)
    assert counted("agreed") - before == 1


async def test_where_they_differ_its_own_tier_answers(clock: HurriedClock) -> None:
    before = counted("differed")
    provider = FakeProvider(clock, large="Paris.").then("tiny", "Rome", "Paris")
    outcome = await run(provider)
    assert provider.models == ["tiny", "tiny", "large"]
    assert (outcome.output_text, outcome.source, outcome.model) == ("Paris.", "premium", "local/large")
    assert (outcome.cost_usd, outcome.attempts) == (8.5, 1)
    assert outcome.cascade is not None
    assert (outcome.cascade.verdict, outcome.cascade.calls, outcome.cascade.cost_usd) == ("differed", 2, 0.5)
    assert counted("differed") - before == 1


@pytest.mark.parametrize(("asked", "sent"), [(None, 0.7), (0.0, 0.7), (0.2, 0.2)])
async def test_one_model_is_sampled_and_the_own_tier_is_asked_as_the_request_says(
    clock: HurriedClock, asked: float | None, sent: float
) -> None:
    provider = FakeProvider(clock, large="a").then("tiny", "b", "c")
    await run(provider, premium(temperature=asked))
    assert [request.temperature for _, request in provider.asked] == [sent, sent, asked]


async def test_two_models_are_asked_once_each_as_the_request_says(clock: HurriedClock) -> None:
    provider = FakeProvider(clock, tiny="7", other="7.0")
    outcome = await run(provider, premium(temperature=0), first=["light", "other"])
    assert sorted(provider.models) == ["other", "tiny"]
    assert [request.temperature for _, request in provider.asked] == [0, 0]
    assert (outcome.cost_usd, outcome.source) == (0.75, "light")
    assert outcome.cascade is not None
    assert outcome.cascade.first == ("light", "other")


@pytest.mark.parametrize(
    ("answers", "said", "calls", "verdict"),
    [
        (3, ["a", "a"], 2, "agreed"),
        (3, ["a", "b", "a"], 3, "agreed"),
        (3, ["a", "b", "c"], 3, "differed"),
        (3, [ProviderFault("500"), "a", "a"], 3, "agreed"),
        (3, [ProviderFault("500"), ProviderFault("500")], 2, "failed"),
        (4, ["a", "a", "b"], 4, "agreed"),
        (4, ["a", "b", "c"], 3, "differed"),
        (5, ["a", "b", "a", "b", "b"], 5, "agreed"),
        (5, ["a", "b", "c"], 5, "differed"),
    ],
)
async def test_more_than_half_must_agree_and_no_more_are_asked_than_it_takes(
    clock: HurriedClock, answers: int, said: Sequence[Said], calls: int, verdict: str
) -> None:
    fill = ["a"] if verdict == "agreed" else ["d", "e"]
    provider = FakeProvider(clock, large="z").then("tiny", *said, *fill)
    outcome = await run(provider, answers=answers)
    assert outcome.cascade is not None
    assert (outcome.cascade.calls, outcome.cascade.verdict) == (calls, verdict)
    assert (outcome.source == "light") is (verdict == "agreed")


async def test_the_answers_are_asked_for_at_the_same_time() -> None:
    clock = ManualClock()
    provider = FakeProvider(clock, call_s={"tiny": 2}).then("tiny", "a", "a")
    it = replica(provider)
    task = asyncio.create_task(it.inference.routed(Arrived(premium(), again=False)))
    await settled()
    assert provider.models == ["tiny", "tiny"]
    await clock.advance(2)
    await task


LONG: Final = {"max_output_tokens": None}
CHOICE: Final = "Which is it?\nA. one\nB. two"


@pytest.mark.parametrize(
    ("request_", "cascade", "tried"),
    [
        ({"max_output_tokens": 64}, {}, True),
        ({"max_output_tokens": 65}, {}, False),
        ({"max_output_tokens": 65}, {"most_output_tokens": 65}, True),
        (LONG, {}, False),
        (LONG, {"most_output_tokens": 200}, True),
        (LONG | {"text": JSON}, {}, True),
        (LONG | {"input": CHOICE}, {}, True),
        (LONG | {"input": CHOICE}, {"check": "json"}, False),
        ({}, {"check": "json"}, False),
        (LONG | {"text": JSON}, {"check": "json"}, True),
        ({}, {"check": "tests.support.validators:says_yes"}, True),
        (LONG | {"input": CHOICE}, {"check": "tests.support.validators:says_yes"}, False),
        ({"model": "premium"}, {}, False),
        ({"model": "large"}, {}, False),
    ],
)
async def test_only_what_can_be_checked_and_what_names_no_model_is_tried(
    clock: HurriedClock, request_: dict[str, Any], cascade: dict[str, Any], tried: bool
) -> None:
    provider = FakeProvider(clock, large="yes").then("tiny", "no", "yes")
    outcome = await run(provider, premium(**request_), **cascade)
    assert ("tiny" in provider.models) is tried
    assert (outcome.cascade is not None) is tried


async def test_a_tier_without_a_cascade_runs_as_ever(clock: HurriedClock) -> None:
    provider = FakeProvider(clock, tiny="Paris.")
    event = make.routed(make.request(max_output_tokens=8))
    assert (await run(provider, event)).cascade is None
    assert provider.models == ["tiny"]


@pytest.mark.parametrize(("said", "verdict", "source"), [("yes", "valid", "light"), ("no", "invalid", "premium")])
async def test_a_function_may_decide(clock: HurriedClock, said: str, verdict: str, source: str) -> None:
    provider = FakeProvider(clock, tiny=said, large="yes")
    outcome = await run(provider, check="tests.support.validators:says_yes")
    assert outcome.cascade is not None
    assert (outcome.cascade.verdict, outcome.cascade.calls, outcome.source) == (verdict, 1, source)
    assert outcome.cost_usd == (0.25 if verdict == "valid" else 8.25)


async def test_a_function_that_is_not_there_keeps_the_service_from_starting(clock: HurriedClock) -> None:
    with pytest.raises(StartupError, match=r"tiers\.premium\.cascade\.check: 'tests\.support\.validators:none'"):
        replica(FakeProvider(clock), check="tests.support.validators:none")


@pytest.mark.parametrize("check", ["agreement", "tests.support.validators:says_yes"])
async def test_an_answer_that_was_cut_short_does_not_pass(clock: HurriedClock, check: str) -> None:
    cut = Completion("yes", USAGE, "length", 0.25)
    provider = FakeProvider(clock, large="Paris.").then("tiny", cut, cut)
    outcome = await run(provider, check=check)
    assert outcome.source == "premium"


@pytest.mark.parametrize("error", [ProviderFault("500"), RateLimited("429"), ProviderAuth("401")], ids=lambda e: e.code)
async def test_whatever_fails_there_its_own_tier_answers_and_nothing_is_held_against_it(
    clock: HurriedClock, error: ProviderError
) -> None:
    provider = FakeProvider(clock, large="Paris.").then("tiny", error, "Paris.")
    outcome = await run(provider)
    assert provider.models == ["tiny", "tiny", "large"]
    assert outcome.cascade is not None
    assert (outcome.cascade.verdict, outcome.cascade.calls, outcome.cascade.cost_usd) == ("failed", 2, 0.25)
    assert (outcome.attempts, outcome.failures, outcome.cost_usd) == (1, (), 8.25)


async def test_a_tier_that_is_unwell_is_not_waited_for(clock: HurriedClock) -> None:
    provider = FakeProvider(clock, large="Paris.").then("tiny", ProviderAuth("401"), ProviderAuth("401"))
    it = replica(provider)
    await it.inference.routed(Arrived(premium(), again=False))
    provider.asked.clear()
    provider.then("large", "Paris.")
    began_s = clock.monotonic()
    (outcome,) = await it.inference.routed(Arrived(premium(), again=False))
    assert isinstance(outcome, ResponseCompleted)
    assert provider.models == ["large"]
    assert clock.monotonic() - began_s < 0.1
    assert outcome.cascade is not None
    assert (outcome.cascade.verdict, outcome.cascade.calls) == ("failed", 0)


async def test_a_bug_is_left_to_the_runner(clock: HurriedClock) -> None:
    provider = FakeProvider(clock).then("tiny", ZeroDivisionError("a bug"), "Paris.")
    with pytest.raises(ZeroDivisionError):
        await run(provider)


async def test_half_the_time_is_kept_for_its_own_tier() -> None:
    clock = ManualClock()
    provider = FakeProvider(clock, call_s={"tiny": 9}, large="Paris.").then("tiny", "a", "a")
    it = replica(provider)
    event = premium(deadline=START + timedelta(seconds=10))
    task = asyncio.create_task(it.inference.routed(Arrived(event, again=False)))
    await clock.advance(4.9)
    assert provider.models == ["tiny", "tiny"]
    await clock.advance(0.1)
    assert provider.models == ["tiny", "tiny", "large"]
    (outcome,) = await task
    assert isinstance(outcome, ResponseCompleted)
    assert outcome.cascade is not None
    assert (outcome.cascade.verdict, outcome.cascade.calls, outcome.cost_usd) == ("failed", 2, 8.0)
    await clock.advance(10)


async def test_a_slow_function_leaves_its_own_tier_half_the_time_too() -> None:
    clock = ManualClock()
    provider = FakeProvider(clock, call_s={"tiny": 1}, tiny="yes", large="Paris.")
    it = replica(provider, check="tests.support.validators:never_says")
    event = premium(deadline=START + timedelta(seconds=8))
    task = asyncio.create_task(it.inference.routed(Arrived(event, again=False)))
    await clock.advance(3.9)
    assert provider.models == ["tiny"]
    await clock.advance(0.1)
    assert provider.models == ["tiny", "large"]
    (outcome,) = await task
    assert isinstance(outcome, ResponseCompleted)
    assert outcome.cascade is not None
    assert outcome.cascade.verdict == "invalid"


async def test_an_answer_that_comes_too_late_to_be_checked_is_not_kept_for_others() -> None:
    clock = ManualClock()
    provider = FakeProvider(clock, call_s={"tiny": 9}, large="Paris.").then("tiny", "a", "a")
    policy = make.policy(tiers__premium__cascade={"first": "light"})
    broker = MemoryBroker(clock=clock)
    await broker.declare(topology(policy.tiers))
    it = Replica.assemble(policy, provider, FakePool().as_pool, broker, clock)
    event = premium(deadline=START + timedelta(seconds=10))
    task = asyncio.create_task(it.inference.routed(Arrived(event, again=False)))
    late = REGISTRY.get_sample_value("forebay_late_answers_total", {"outcome": "ok"}) or 0.0
    await clock.advance(5)
    await task
    await clock.advance(10)
    assert REGISTRY.get_sample_value("forebay_late_answers_total", {"outcome": "ok"}) == late + 2
    assert [each.routing_key for each in broker.published] == ["response.late"] * 2


async def test_after_its_deadline_nothing_is_tried(clock: HurriedClock) -> None:
    provider = FakeProvider(clock)
    event = premium(deadline=START - timedelta(seconds=1))
    (outcome,) = await replica(provider).inference.routed(Arrived(event, again=False))
    assert isinstance(outcome, ResponseFailed)
    assert (outcome.code, provider.asked) == ("deadline_exceeded", [])


async def test_what_was_put_aside_does_not_try_again_and_pays_for_what_it_tried(clock: HurriedClock) -> None:
    provider = FakeProvider(clock).then("tiny", "a", "b").then("large", RateLimited("429", retry_after_s=100))
    with pytest.raises(Park) as parked:
        await run(provider)
    again = parked.value.instead
    assert isinstance(again, RequestRouted)
    outcome = await run(FakeProvider(clock, large="Paris."), again)
    assert (outcome.cost_usd, outcome.attempts) == (8.5, 2)
    assert outcome.cascade is not None
    assert outcome.cascade.verdict == "differed"


@pytest.mark.parametrize(("output", "warned"), [(20.0, True), (30.0, True), (35.0, False)])
def test_a_cascade_that_hardly_pays_is_told_at_the_start(output: float, warned: bool, logged: list[EventDict]) -> None:
    prices = {"local/tiny": {"input": 1.0, "output": 2.0}, "local/large": {"input": 10.0, "output": output}}
    policy = make.policy(tiers__premium__cascade={"first": "light"}, prices=prices)

    def price(model: str, usage: Usage) -> float | None:
        listed = policy.prices.get(model)
        return (
            None if listed is None else (listed.input * usage.input_tokens + listed.output * usage.output_tokens) / 1e6
        )

    warn_of_prices(policy, price)
    assert [each["event"].startswith("a cascade hardly pays") for each in logged] == [True] * warned


def test_of_unknown_prices_nothing_is_told(logged: list[EventDict]) -> None:
    warn_of_prices(make.policy(tiers__premium__cascade={"first": "light"}), lambda model, usage: None)
    assert logged == []

"""One request at inference: how often it calls, how long it waits, what it tells in the end."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, Final

import pytest
import tenacity

from services.inference.assembly import Replica
from services.inference.attempts import IN_PLACE_S, IN_PLACE_TIMES
from services.inference.completion import Completion
from services.inference.errors import (
    ContextWindowExceeded,
    ProviderAuth,
    ProviderError,
    ProviderFault,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnreachable,
    RateLimited,
)
from services.inference.finished import Arrived
from services.inference.lanes.gate import SPREAD
from shared.errors import Park
from shared.events import (
    Attempt,
    CacheVerdict,
    Event,
    ReplyAddress,
    Request,
    RequestRouted,
    ResponseCompleted,
    ResponseFailed,
    Usage,
)
from shared.memory import MemoryBroker
from shared.policy.tiers import Lane, Tier
from tests.support import make
from tests.support.clock import START, HurriedClock
from tests.support.pool import FakePool

ANSWER = Completion("Paris.", Usage(input_tokens=9, output_tokens=2), "stop", 0.25)


class FakeProvider:
    """Fails as scripted, then answers; each call takes as long as the test says."""

    def __init__(self, clock: HurriedClock, *script: ProviderError, call_s: float = 0) -> None:
        self.script = list(script)
        self.clock = clock
        self.call_s = call_s
        self.timeouts: list[float] = []
        self.called_at: list[float] = []
        self.lanes: list[str] = []

    async def complete(self, request: Request, tier: Tier, lane: Lane, *, timeout_s: float) -> Completion:
        self.called_at.append(self.clock.monotonic())
        self.timeouts.append(timeout_s)
        self.lanes.append(lane.name)
        self.clock.skip(self.call_s)
        if self.script:
            raise self.script.pop(0)
        return ANSWER


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> HurriedClock:
    """Time for the code and for the retry library: each sleep is over at once, and has taken its time."""
    hurried = HurriedClock()
    monkeypatch.setattr(asyncio, "sleep", hurried.sleep)
    monkeypatch.setattr(tenacity, "time", SimpleNamespace(monotonic=hurried.monotonic))
    monkeypatch.setattr("random.uniform", lambda least, most: most)
    return hurried


def replica(provider: FakeProvider, pool: FakePool | None = None, **policy: Any) -> Replica:
    rules = make.policy(**{f"tiers__light__{name}": value for name, value in policy.items()})
    return Replica.assemble(rules, provider, (pool or FakePool()).as_pool, MemoryBroker(), provider.clock)


async def run(provider: FakeProvider, event: RequestRouted | None = None, **policy: Any) -> Event:
    """The only event that follows."""
    arrived = Arrived(event or make.routed(), again=False)
    (outcome,) = await replica(provider, **policy).inference.routed(arrived)
    return outcome


async def completed(provider: FakeProvider, event: RequestRouted | None = None, **policy: Any) -> ResponseCompleted:
    outcome = await run(provider, event, **policy)
    assert isinstance(outcome, ResponseCompleted)
    return outcome


async def failed(provider: FakeProvider, event: RequestRouted | None = None, **policy: Any) -> ResponseFailed:
    outcome = await run(provider, event, **policy)
    assert isinstance(outcome, ResponseFailed)
    return outcome


async def aside(
    provider: FakeProvider, event: RequestRouted | None = None, **policy: Any
) -> tuple[Park, RequestRouted]:
    """How a request was put aside, and as what it comes again."""
    with pytest.raises(Park) as parked:
        await run(provider, event, **policy)
    assert isinstance(parked.value.instead, RequestRouted)
    return parked.value, parked.value.instead


def until(seconds: float) -> RequestRouted:
    """A request whose answer is of no use after some seconds."""
    return make.routed(make.request(deadline=START + timedelta(seconds=seconds)))


async def test_an_answer_carries_all_that_belongs_to_it(clock: HurriedClock) -> None:
    request = make.request(metadata={"k": "v"}, reply=ReplyAddress(queue="q"))
    verdict = CacheVerdict(tier="miss", reason="negation", similarity=0.96)
    event = make.routed(request, verdict=verdict)
    outcome = await completed(FakeProvider(clock), event)
    assert outcome.verdict == verdict
    assert outcome.routing_key == "response.completed.light"
    assert (outcome.request_id, outcome.tenant, outcome.accepted_at) == (request.id, "acme", START)
    assert (outcome.output_text, outcome.usage, outcome.finish_reason) == ("Paris.", ANSWER.usage, "stop")
    assert (outcome.cost_usd, outcome.attempts, outcome.failures) == (0.25, 1, ())
    assert (outcome.tier, outcome.lane, outcome.model) == ("light", "local/tiny", "local/tiny")
    assert (outcome.route, outcome.freshness, outcome.key) == (event.route, event.freshness, event.key)
    assert (outcome.reply, outcome.metadata) == (request.reply, {"k": "v"})
    assert outcome.completed_at == clock.now()


async def test_what_passes_is_tried_again_and_every_call_is_told_of(clock: HurriedClock) -> None:
    provider = FakeProvider(clock, RateLimited("429"), ProviderFault("500"))
    outcome = await completed(provider)
    assert outcome.attempts == len(provider.called_at) == 3
    assert [(each.lane, each.code, each.message) for each in outcome.failures] == [
        ("local/tiny", "rate_limited", "429"),
        ("local/tiny", "provider_fault", "500"),
    ]


async def test_between_calls_it_waits_longer_and_longer_and_then_no_more_in_place(clock: HurriedClock) -> None:
    provider = FakeProvider(clock, *[ProviderFault("500")] * 8)
    parked, again = await aside(provider, attempts=20, give_up_after_s=1000)
    assert clock.slept == [1.0, 2.0, 4.0]
    assert len(clock.slept) == IN_PLACE_TIMES
    assert max(clock.slept) <= IN_PLACE_S < parked.after_s == 10.0
    assert (again.calls, len(again.attempts)) == (4, 4)


async def test_a_request_that_was_put_aside_goes_on_where_it_was(clock: HurriedClock) -> None:
    _, again = await aside(FakeProvider(clock, *[ProviderFault("500")] * 4), attempts=5)
    outcome = await failed(FakeProvider(clock, ProviderFault("the fifth")), again, attempts=5)
    assert (outcome.attempts, outcome.message, len(outcome.failures)) == (5, "the fifth", 5)


async def test_its_history_does_not_grow_for_ever(clock: HurriedClock) -> None:
    first = Attempt(lane="local/tiny", code="rate_limited", message="429", at=START)
    many = tuple(first.model_copy(update={"message": str(number)}) for number in range(40))
    outcome = await completed(FakeProvider(clock), make.routed(attempts=many, calls=40))
    assert outcome.attempts == 41
    assert [each.message for each in outcome.failures] == ["0", *map(str, range(21, 40))]


@pytest.mark.parametrize("attempts", [1, 3])
async def test_when_all_attempts_are_used_up_the_last_failure_is_the_result(clock: HurriedClock, attempts: int) -> None:
    provider = FakeProvider(clock, *[ProviderFault("500")] * 9)
    event = make.routed(make.request(metadata={"k": "v"}, reply=ReplyAddress(queue="q")))
    outcome = await failed(provider, event, attempts=attempts)
    assert outcome.routing_key == "response.failed.provider_fault"
    assert (outcome.attempts, outcome.message, outcome.tier) == (attempts, "500", "light")
    assert (outcome.reply, outcome.metadata) == (event.request.reply, {"k": "v"})
    assert event.key is not None
    assert outcome.exact == event.key.exact


async def test_a_provider_that_refuses_is_no_reason_to_give_up(clock: HurriedClock) -> None:
    provider = FakeProvider(clock, *[RateLimited("429", retry_after_s=0.5)] * 4)
    assert (await completed(provider, attempts=3)).attempts == 5


@pytest.mark.parametrize(
    "error", [ProviderRefused("400"), ProviderAuth("401"), ContextWindowExceeded("too long")], ids=lambda e: e.code
)
async def test_what_does_not_pass_is_not_tried_again(clock: HurriedClock, error: ProviderError) -> None:
    provider = FakeProvider(clock, error)
    outcome = await failed(provider)
    assert (outcome.code, outcome.attempts, len(provider.called_at)) == (error.code, 1, 1)
    assert outcome.prompt_at_fault == error.prompt_at_fault


async def test_a_request_that_is_not_cached_fails_without_a_key(clock: HurriedClock) -> None:
    assert (await failed(FakeProvider(clock, ProviderRefused("400")), make.routed(key=None))).exact is None


async def test_a_failure_nobody_knows_is_left_to_the_runner(clock: HurriedClock) -> None:
    provider = FakeProvider(clock)
    provider.script = [ZeroDivisionError("a bug")]  # type: ignore[list-item]  # what a provider never raises
    with pytest.raises(ZeroDivisionError):
        await run(provider)


async def test_who_is_told_when_to_come_back_comes_then_and_not_with_all_the_others(clock: HurriedClock) -> None:
    provider = FakeProvider(clock, RateLimited("429", retry_after_s=2.0))
    await completed(provider)
    assert 2.0 * (1 + SPREAD) <= provider.called_at[1] - provider.called_at[0] < 2.0 * (1 + SPREAD) + 0.01


async def test_who_is_told_to_come_back_much_later_is_put_aside_for_so_long(clock: HurriedClock) -> None:
    parked, again = await aside(FakeProvider(clock, RateLimited("429", retry_after_s=45)), give_up_after_s=500)
    assert parked.after_s == 60
    assert again.calls == 1


async def test_who_is_told_to_come_back_after_the_time_to_give_up_gives_up(clock: HurriedClock) -> None:
    outcome = await failed(FakeProvider(clock, RateLimited("429", retry_after_s=100)), give_up_after_s=60)
    assert (outcome.code, outcome.attempts) == ("rate_limited", 1)


async def test_who_is_told_to_come_back_after_the_deadline_gives_up(clock: HurriedClock) -> None:
    outcome = await failed(FakeProvider(clock, RateLimited("429", retry_after_s=11)), until(10))
    assert (outcome.code, outcome.attempts) == ("deadline_exceeded", 1)


async def test_after_some_time_no_further_attempt_is_started(clock: HurriedClock) -> None:
    provider = FakeProvider(clock, *[ProviderFault("500")] * 50, call_s=7)
    outcome = await failed(provider, attempts=50, give_up_after_s=10)
    assert outcome.code == "provider_fault"
    assert outcome.attempts < 4


async def test_nor_when_it_comes_back_too_late(clock: HurriedClock) -> None:
    _, again = await aside(FakeProvider(clock, *[ProviderFault("500")] * 9), attempts=50, give_up_after_s=20)
    clock.skip(60)
    provider = FakeProvider(clock)
    outcome = await failed(provider, again, attempts=50, give_up_after_s=20)
    assert (outcome.code, provider.called_at) == ("provider_fault", [])
    assert "no further attempt after 20 s" in outcome.message


@pytest.mark.parametrize("seconds", [-5, 0])
async def test_after_its_deadline_a_request_costs_nothing(clock: HurriedClock, seconds: float) -> None:
    provider = FakeProvider(clock)
    outcome = await failed(provider, until(seconds))
    assert (outcome.code, outcome.attempts, provider.called_at) == ("deadline_exceeded", 0, [])


async def test_the_tier_says_how_long_a_call_may_take(clock: HurriedClock) -> None:
    provider = FakeProvider(clock)
    await completed(provider, timeout_s=5)
    assert provider.timeouts == [5]


async def test_a_deadline_that_passes_while_it_waits_is_told_as_such(clock: HurriedClock) -> None:
    provider = FakeProvider(clock, ProviderFault("500"))
    outcome = await failed(provider, until(0.4))
    assert (outcome.code, outcome.attempts, len(provider.called_at)) == ("deadline_exceeded", 1, 1)


async def test_a_slow_call_without_a_deadline_is_tried_again(clock: HurriedClock) -> None:
    assert (await completed(FakeProvider(clock, ProviderTimeout("slow"), call_s=3))).attempts == 2


TWO: Final = [{"name": "first", "model": "local/tiny"}, {"name": "second", "model": "local/tiny", "order": 1}]


async def test_what_fails_on_one_lane_runs_on_the_next_at_once(clock: HurriedClock) -> None:
    provider = FakeProvider(clock, ProviderUnreachable("no route"))
    outcome = await completed(provider, model=None, lanes=TWO)
    assert provider.lanes == ["first", "second"]
    assert provider.called_at[1] - provider.called_at[0] < 0.001
    assert (outcome.lane, [each.lane for each in outcome.failures]) == ("second", ["first"])


async def test_a_wrong_key_is_the_fault_of_its_lane(clock: HurriedClock) -> None:
    it = replica(provider := FakeProvider(clock, ProviderAuth("401")), model=None, lanes=TWO)
    for _ in range(3):
        await it.inference.routed(Arrived(make.routed(), again=False))
    assert provider.lanes == ["first", "second", "second", "second"]


async def test_a_prompt_that_no_model_takes_is_not_offered_to_the_next_lane(clock: HurriedClock) -> None:
    provider = FakeProvider(clock, ContextWindowExceeded("too long"))
    await failed(provider, model=None, lanes=TWO)
    assert provider.lanes == ["first"]


async def test_where_no_lane_of_a_tier_is_well_the_tier_it_falls_back_on_is_taken(clock: HurriedClock) -> None:
    it = replica(provider := FakeProvider(clock, ProviderAuth("401")), fall_back="premium")
    (outcome,) = await it.inference.routed(Arrived(make.routed(), again=False))
    assert isinstance(outcome, ResponseCompleted)
    assert provider.lanes == ["local/tiny", "local/large"]
    assert (outcome.tier, outcome.source, outcome.lane) == ("premium", "premium", "local/large")
    assert outcome.route is not None
    assert outcome.route.tier == "light"


async def test_a_request_may_ask_for_a_lane(clock: HurriedClock) -> None:
    provider = FakeProvider(clock)
    event = make.routed(make.request(model="second"))
    await completed(provider, event, model=None, lanes=TWO)
    assert provider.lanes == ["second"]


@pytest.mark.parametrize("status", ["completed", "failed"])
async def test_what_has_its_result_is_not_bought_again(clock: HurriedClock, status: str) -> None:
    event = make.routed()
    result = make.completed(event.request) if status == "completed" else make.failed(event.request)
    pool = FakePool({"status": status, "body": result.model_dump_json()})
    it = replica(provider := FakeProvider(clock), pool)
    (said,) = await it.inference.routed(Arrived(event, again=True))
    assert said.model_dump(exclude={"exact"}) == result.model_dump(exclude={"exact"})
    assert (provider.called_at, pool.asked) == ([], [(event.request.id, 0)])


async def test_what_was_heard_is_said_again_as_hearing_is_no_proof_that_it_is_kept(clock: HurriedClock) -> None:
    event = make.routed(make.request(reply=ReplyAddress(queue="q")))
    it = replica(provider := FakeProvider(clock), pool := FakePool())
    result = make.completed(event.request)
    await it.finished.heard(result)
    assert await it.inference.routed(Arrived(event, again=True)) == (result,)
    assert (provider.called_at, pool.asked) == ([], [])


async def test_a_row_does_not_know_who_wants_to_be_told_but_the_request_does(clock: HurriedClock) -> None:
    event = make.routed(make.request(reply=ReplyAddress(queue="q")))
    row = make.completed(event.request).model_dump_json(exclude={"reply", "key"})
    it = replica(FakeProvider(clock), FakePool({"status": "completed", "body": row}))
    (said,) = await it.inference.routed(Arrived(event, again=True))
    assert isinstance(said, ResponseCompleted)
    assert (said.reply, said.key) == (event.request.reply, event.key)


async def test_what_the_provider_says_of_keys_and_addresses_is_not_told(clock: HurriedClock) -> None:
    outcome = await failed(FakeProvider(clock, ProviderAuth("Incorrect API key provided: sk-secret")))
    assert "sk-secret" not in outcome.model_dump_json()


async def test_a_pause_of_a_moment_sends_nobody_to_the_tier_that_is_fallen_back_on(clock: HurriedClock) -> None:
    provider = FakeProvider(clock, RateLimited("429", retry_after_s=0.3))
    await completed(provider, fall_back="premium")
    assert provider.lanes == ["local/tiny", "local/tiny"]


async def test_who_wants_a_lane_that_is_away_keeps_no_worker_from_its_neighbours(clock: HurriedClock) -> None:
    it = replica(provider := FakeProvider(clock, ProviderAuth("401")), model=None, lanes=TWO)
    await it.inference.routed(Arrived(make.routed(), again=False))
    before = clock.monotonic()
    with pytest.raises(Park):
        await it.inference.routed(Arrived(make.routed(make.request(model="first")), again=False))
    assert clock.monotonic() - before < 0.1
    assert provider.lanes == ["first", "second"]


async def test_where_nobody_knows_of_a_result_it_is_run(clock: HurriedClock) -> None:
    pool = FakePool()
    for error in (None, OSError("away")):
        pool.error = error
        it = replica(provider := FakeProvider(clock), pool)
        (outcome,) = await it.inference.routed(Arrived(make.routed(), again=True))
        assert isinstance(outcome, ResponseCompleted)
        assert len(provider.called_at) == 1

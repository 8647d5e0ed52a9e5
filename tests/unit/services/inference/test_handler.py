"""One request at inference: how often it calls, how long it waits, what it tells in the end."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import tenacity

from services.inference.completion import Completion
from services.inference.errors import (
    ContentFiltered,
    ContextWindowExceeded,
    ProviderAuth,
    ProviderError,
    ProviderFault,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnreachable,
    RateLimited,
)
from services.inference.handler import LONGEST_WAIT_S, RETRY_AFTER_SPREAD, Inference
from shared.events import (
    CacheVerdict,
    Event,
    LaneThrottled,
    ReplyAddress,
    Request,
    RequestRouted,
    ResponseCompleted,
    ResponseFailed,
    Usage,
)
from shared.policy.tiers import Tier
from tests.support import make
from tests.support.clock import START, HurriedClock

ANSWER = Completion("Paris.", Usage(input_tokens=9, output_tokens=2), "stop", 0.25)


class FakeProvider:
    """Fails as scripted, then answers; each call takes as long as the test says."""

    def __init__(self, clock: HurriedClock, *script: ProviderError, call_s: float = 0) -> None:
        self.script = list(script)
        self.clock = clock
        self.call_s = call_s
        self.timeouts: list[float] = []
        self.called_at: list[float] = []
        self.before: Callable[[], None] = lambda: None

    async def complete(self, request: Request, tier: Tier, *, timeout_s: float) -> Completion:
        self.called_at.append(self.clock.monotonic())
        self.timeouts.append(timeout_s)
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
    return hurried


async def run(provider: FakeProvider, event: RequestRouted | None = None, **policy: Any) -> Event:
    """The only event that follows."""
    rules = make.policy(**{f"tiers__light__{name}": value for name, value in policy.items()})
    outcome, *_ = await Inference(rules, provider, provider.clock).routed(event or make.routed())
    return outcome


async def completed(provider: FakeProvider, event: RequestRouted | None = None, **policy: Any) -> ResponseCompleted:
    outcome = await run(provider, event, **policy)
    assert isinstance(outcome, ResponseCompleted)
    return outcome


async def failed(provider: FakeProvider, event: RequestRouted | None = None, **policy: Any) -> ResponseFailed:
    outcome = await run(provider, event, **policy)
    assert isinstance(outcome, ResponseFailed)
    return outcome


async def throttled(error: ProviderError) -> Sequence[Event]:
    """What follows a failure beside it."""
    clock = HurriedClock()
    provider = FakeProvider(clock, *[error] * 3)
    _, *others = await Inference(make.policy(), provider, clock).routed(make.routed())
    return others


async def test_a_provider_in_trouble_is_told_of_unless_a_prompt_alone_can_have_brought_it_about() -> None:
    for error in (RateLimited("429", retry_after_s=1), ProviderUnreachable("no route")):
        (signal,) = await throttled(error)
        assert isinstance(signal, LaneThrottled)
        assert (signal.lane, signal.reason) == ("local/tiny", error.code)
    for other in (ContentFiltered("no"), ProviderFault("the answer is empty"), ProviderTimeout("too long a prompt")):
        assert not await throttled(other)


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
    assert (outcome.cost_usd, outcome.attempts) == (0.25, 1)
    assert (outcome.route, outcome.freshness, outcome.key) == (event.route, event.freshness, event.key)
    assert (outcome.reply, outcome.metadata) == (request.reply, {"k": "v"})
    assert outcome.completed_at == clock.now()


async def test_what_passes_is_tried_again_and_every_call_is_counted(clock: HurriedClock) -> None:
    provider = FakeProvider(clock, RateLimited("429"), ProviderFault("500"))
    assert (await completed(provider)).attempts == 3
    assert len(provider.called_at) == 3


async def test_between_calls_it_waits_longer_and_longer_up_to_a_limit(
    clock: HurriedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.inference.handler.JITTER_S", 0)
    provider = FakeProvider(clock, *[ProviderFault("500")] * 8)
    await completed(provider, attempts=9, give_up_after_s=1000)
    assert clock.slept == sorted(clock.slept)
    assert clock.slept[0] == pytest.approx(0.5)
    assert clock.slept[1] == pytest.approx(1.0)
    assert clock.slept[-1] == LONGEST_WAIT_S


async def test_not_all_wait_equally_long(clock: HurriedClock) -> None:
    for _ in range(8):
        await completed(FakeProvider(clock, ProviderFault("500")))
    assert len(set(clock.slept)) > 1


@pytest.mark.parametrize("attempts", [1, 3])
async def test_when_all_attempts_are_used_up_the_last_failure_is_the_result(clock: HurriedClock, attempts: int) -> None:
    provider = FakeProvider(clock, *[ProviderFault("500")] * (attempts - 1), *[RateLimited("429")] * 5)
    event = make.routed(make.request(metadata={"k": "v"}, reply=ReplyAddress(queue="q")))
    outcome = await failed(provider, event, attempts=attempts)
    assert outcome.routing_key == "response.failed.rate_limited"
    assert (outcome.attempts, outcome.message, outcome.tier) == (attempts, "429", "light")
    assert (outcome.reply, outcome.metadata) == (event.request.reply, {"k": "v"})
    assert event.key is not None
    assert outcome.exact == event.key.exact


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
    for _ in range(8):
        await completed(FakeProvider(clock, RateLimited("429", retry_after_s=8.0)))
    assert all(8.0 <= slept <= 8.0 * (1 + RETRY_AFTER_SPREAD) for slept in clock.slept)
    assert len(set(clock.slept)) > 1


async def test_who_is_told_to_come_back_too_late_gives_up_at_once(clock: HurriedClock) -> None:
    outcome = await failed(FakeProvider(clock, RateLimited("429", retry_after_s=121)), give_up_after_s=120)
    assert (outcome.code, outcome.attempts, clock.slept) == ("rate_limited", 1, [])


async def test_who_is_told_to_come_back_after_the_deadline_gives_up_at_once(clock: HurriedClock) -> None:
    outcome = await failed(FakeProvider(clock, RateLimited("429", retry_after_s=11)), until(10))
    assert (outcome.code, outcome.attempts, clock.slept) == ("rate_limited", 1, [])


async def test_after_some_time_no_further_attempt_is_started(clock: HurriedClock) -> None:
    provider = FakeProvider(clock, *[ProviderFault("500")] * 50, call_s=7)
    outcome = await failed(provider, attempts=50, give_up_after_s=20)
    assert outcome.code == "provider_fault"
    assert outcome.attempts < 4


@pytest.mark.parametrize("retry_after_s", [None, 90])
async def test_no_attempt_is_started_after_the_time_to_give_up(
    clock: HurriedClock, retry_after_s: float | None
) -> None:
    errors = [ProviderFault("500", retry_after_s=retry_after_s) for _ in range(50)]
    provider = FakeProvider(clock, *errors, call_s=99.8)
    await failed(provider, attempts=50, give_up_after_s=100)
    assert max(provider.called_at) <= 100


@pytest.mark.parametrize("seconds", [-5, 0])
async def test_after_its_deadline_a_request_costs_nothing(clock: HurriedClock, seconds: float) -> None:
    provider = FakeProvider(clock)
    outcome = await failed(provider, until(seconds))
    assert (outcome.code, outcome.attempts, provider.called_at) == ("deadline_exceeded", 0, [])


async def test_a_deadline_that_has_passed_is_nothing_to_warn_of(clock: HurriedClock) -> None:
    assert (await failed(FakeProvider(clock), until(-5))).code == "deadline_exceeded"


async def test_a_call_may_take_no_longer_than_is_left(clock: HurriedClock) -> None:
    provider = FakeProvider(clock, ProviderFault("500"))
    await completed(provider, until(4.5), timeout_s=5)
    assert provider.timeouts[0] == pytest.approx(4.5)
    assert provider.timeouts[1] == pytest.approx(4.5 - clock.monotonic())


async def test_without_a_deadline_the_tier_says_how_long_a_call_may_take(clock: HurriedClock) -> None:
    provider = FakeProvider(clock)
    await completed(provider, timeout_s=5)
    assert provider.timeouts == [5]


async def test_a_deadline_that_passes_during_a_call_is_told_as_such(clock: HurriedClock) -> None:
    provider = FakeProvider(clock, ProviderTimeout("slow"), call_s=3)
    outcome = await failed(provider, until(3))
    assert (outcome.code, outcome.attempts) == ("deadline_exceeded", 1)


async def test_a_deadline_that_passes_while_it_waits_is_told_as_such(clock: HurriedClock) -> None:
    provider = FakeProvider(clock, ProviderFault("500"))
    outcome = await failed(provider, until(0.4))
    assert (outcome.code, outcome.attempts, len(provider.called_at)) == ("deadline_exceeded", 1, 1)


async def test_a_slow_call_without_a_deadline_is_tried_again(clock: HurriedClock) -> None:
    assert (await completed(FakeProvider(clock, ProviderTimeout("slow"), call_s=3))).attempts == 2

"""What a simulated provider does with a call, on a clock that the test holds."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.simulator.control import told
from infra.simulator.engine import Ongoing, Ordered, Simulator
from infra.simulator.openai import ChatBody, EmbeddingsBody
from infra.simulator.scenario import OF_THE_ANSWER, changed, parse_scenario
from tests.support.clock import ManualClock


def simulating(**scenario: Any) -> tuple[Simulator, ManualClock]:
    clock = ManualClock()
    return Simulator(parse_scenario(scenario), clock), clock


def chat(prompt: str = "Hello.", **fields: Any) -> ChatBody:
    return ChatBody.model_validate({"model": "any", "messages": [{"role": "user", "content": prompt}], **fields})


def call(simulator: Simulator, prompt: str = "Hello.", *, key: str = "one", delivered: bool = True) -> Ongoing:
    ongoing = simulator.begin(chat(prompt), key=key)
    simulator.end(ongoing, delivered=delivered)
    return ongoing


def statuses(calls: Sequence[Ongoing]) -> list[int]:
    return [ongoing.reply.status for ongoing in calls]


def body(ongoing: Ongoing) -> Any:
    return json.loads(b"".join(ongoing.reply.pieces))


def test_beyond_the_limit_is_429_with_all_that_helps() -> None:
    simulator, clock = simulating(limits=[{"requests_per_minute": 120, "burst": 1}])
    assert statuses([call(simulator) for _ in range(3)]) == [200, 200, 429]
    clock.skip(0.25)
    refused = call(simulator)
    assert refused.reply.headers == {
        "x-ratelimit-limit-requests": "120",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "750ms",
        "Retry-After": "1",
        "retry-after-ms": "250",
    }
    assert body(refused)["error"] == {
        "message": "Rate limit reached for this key on requests per min (RPM): Limit 120, Requested 1. "
        "Please try again in 250ms.",
        "type": "requests",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    clock.skip(0.25)
    assert call(simulator).reply.status == 200


@pytest.mark.parametrize(("ratelimit", "retry_after"), [(False, True), (True, False), (False, False)])
def test_headers_can_be_left_out(ratelimit: bool, retry_after: bool) -> None:
    simulator, _ = simulating(
        limits=[{"requests_per_minute": 60, "burst": 1}], headers={"ratelimit": ratelimit, "retry_after": retry_after}
    )
    _, refused = call(simulator), call(simulator)
    names = set(refused.reply.headers)
    assert refused.reply.status == 429
    assert ("x-ratelimit-limit-requests" in names) is ratelimit
    assert ("Retry-After" in names) is ("retry-after-ms" in names) is retry_after


def test_each_key_is_a_lane_of_its_own() -> None:
    simulator, _ = simulating(limits=[{"requests_per_minute": 60, "burst": 1}, {"key": "big", "concurrency": 9}])
    assert statuses([call(simulator, key=key) for key in ("one", "two", "one", "big", "big")]) == [
        200,
        200,
        429,
        200,
        200,
    ]


def test_tokens_are_charged_before_they_are_used() -> None:
    simulator, _ = simulating(limits=[{"tokens_per_minute": 100}])
    simulator.begin(chat("x" * 40, max_tokens=60))
    refused = simulator.begin(chat("x" * 40, max_tokens=60))
    assert refused.reply.headers["x-ratelimit-remaining-tokens"] == "30"
    assert refused.reply.headers["retry-after-ms"] == "24000"
    too_large = simulator.begin(chat("x" * 40, max_completion_tokens=91))
    assert "Retry-After" not in too_large.reply.headers
    assert "Request too large" in body(too_large)["error"]["message"]
    embedding = EmbeddingsBody(model="any", input=["x" * 40, "x" * 80])
    assert simulator.begin(embedding).reply.status == 200


def test_a_call_under_way_holds_its_place_until_it_ends() -> None:
    simulator, _ = simulating(limits=[{"concurrency": 1}])
    first = simulator.begin(chat(), key="one")
    refused = call(simulator)
    assert refused.reply.status == 429
    assert "Retry-After" not in refused.reply.headers
    simulator.end(first, delivered=False)
    assert call(simulator).reply.status == 200
    assert told(simulator.counts)["keys"]["one"] | {"series": None} == {
        "calls": 3,
        "useful": 1,
        "abandoned": 1,
        "refused": {"concurrency": 1},
        "faults": {},
        "input_tokens": 2,
        "output_tokens": 20,
        "peak_per_s": 3,
        "series": None,
    }


def test_a_limit_doubles_when_the_schedule_says() -> None:
    limits = [{"requests_per_minute": 60, "burst": 1}, {"from": 10, "requests_per_minute": 120, "burst": 1}]
    simulator, clock = simulating(limits=limits)
    useful = []
    for _ in range(20):
        clock.skip(1)
        useful.append(statuses([call(simulator) for _ in range(5)]).count(200))
    assert useful == [1] * 9 + [1] + [2] * 10
    rows = told(simulator.counts)["keys"]["one"]["series"]
    assert [row["limit_per_s"] for row in rows] == [1.0] * 9 + [2.0] * 11


def test_a_window_holds_while_it_is_open_for_its_key_and_charges_nothing() -> None:
    simulator, clock = simulating(
        limits=[{"requests_per_minute": 60, "burst": 1}],
        faults=[{"kind": "status", "status": 503, "retry_after": 7, "key": "one", "from": 1, "to": 2}],
    )
    clock.skip(1)
    down = [call(simulator) for _ in range(5)]
    assert statuses(down) == [503] * 5
    assert down[0].reply.headers["Retry-After"] == "7"
    assert call(simulator, key="two").reply.status == 200
    clock.skip(1)
    assert statuses([call(simulator), call(simulator)]) == [200, 429]
    assert told(simulator.counts)["keys"]["one"]["faults"] == {"503": 5}


def test_what_is_ordered_comes_first_in_its_order_and_as_often_as_it_says() -> None:
    simulator, _ = simulating(faults=[{"kind": "status", "status": 500}])
    simulator.order(Ordered(kind="status", status=401, times=2))
    simulator.order(Ordered(kind="status", status=403, key="two"))
    calls = [call(simulator, key=key) for key in ("one", "two", "one", "two", "one")]
    assert statuses(calls) == [401, 401, 500, 403, 500]


@pytest.mark.parametrize("kind", sorted(OF_THE_ANSWER))
def test_a_spoiled_answer_was_paid_for_and_only_a_slow_one_is_useful(kind: str) -> None:
    simulator, _ = simulating(limits=[{"requests_per_minute": 60, "burst": 1}])
    simulator.order(Ordered.model_validate({"kind": kind}))
    spoiled = call(simulator, delivered=kind != "cut")
    assert spoiled.reply.status == 200
    assert call(simulator).reply.status == 429
    seen = told(simulator.counts)["keys"]["one"]
    assert (seen["faults"], seen["useful"], seen["abandoned"]) == ({kind: 1}, int(kind == "drip"), 0)


def test_what_spoiled_answers_look_like() -> None:
    simulator, _ = simulating(answer={"drip": 3})

    def spoiled(kind: str, **fields: Any) -> Ongoing:
        simulator.order(Ordered.model_validate({"kind": kind}))
        return simulator.begin(chat(**fields))

    whole = b"".join(simulator.begin(chat()).reply.pieces)
    drip = spoiled("drip").reply
    assert b"".join(drip.pieces) == whole
    assert (drip.pause_s, {len(piece) for piece in drip.pieces}) == (3, {1})
    cut = spoiled("cut").reply
    assert (b"".join(cut.pieces), len(cut.pieces), cut.course) == (whole, 2, "cut")
    for stream in (False, True):
        with pytest.raises(ValueError, match=r"JSON|control character|Expecting|Unterminated"):
            json.loads(b"".join(spoiled("malformed", stream=stream).reply.pieces).removeprefix(b"data: "))
    assert body(spoiled("empty_choices"))["choices"] == []
    assert body(spoiled("content_filter"))["choices"][0]["finish_reason"] == "content_filter"


@given(st.permutations(["one"] * 6 + ["two"] * 6))
def test_what_a_key_meets_does_not_depend_on_others(order: list[str]) -> None:
    scenario = {
        "latency": {"kind": "lognormal"},
        "faults": [
            {"kind": "status", "status": 500, "probability": 0.4},
            {"kind": "malformed", "probability": 0.4},
        ],
    }

    def met(keys: Sequence[str]) -> list[tuple[int, float, int]]:
        simulator, _ = simulating(**scenario)
        calls = [(key, simulator.begin(chat(), key=key).reply) for key in keys]
        return [(reply.status, reply.wait_s, len(b"".join(reply.pieces))) for key, reply in calls if key == "one"]

    assert met(order) == met(["one"] * 6)


def test_about_as_many_calls_meet_a_fault_as_its_probability_says() -> None:
    simulator, _ = simulating(faults=[{"kind": "status", "status": 500, "probability": 0.3}])
    assert statuses([call(simulator) for _ in range(1000)]).count(500) == pytest.approx(300, abs=50)


def test_ten_times_as_fast_is_told_as_the_client_sees_it() -> None:
    simulator, clock = simulating(
        time_scale=10, limits=[{"requests_per_minute": 60, "burst": 1}], latency={"kind": "constant", "value": 5}
    )
    first, refused = call(simulator), call(simulator)
    assert first.reply.wait_s == 5
    assert refused.reply.headers["retry-after-ms"] == "100"
    assert refused.reply.headers["x-ratelimit-limit-requests"] == "600"
    assert "Limit 600" in body(refused)["error"]["message"]
    clock.skip(0.1)
    assert call(simulator).reply.status == 200


async def test_a_change_goes_on_from_where_it_was_and_another_scenario_from_the_beginning() -> None:
    simulator, clock = simulating(limits=[{"requests_per_minute": 60, "burst": 1}])
    call(simulator)
    clock.skip(4)
    simulator.change(changed(simulator.scenario, {"time_scale": 2}))
    assert simulator.time.now_s() == 4
    clock.skip(3)
    assert simulator.time.now_s() == 10
    assert told(simulator.counts)["keys"]["one"]["calls"] == 1
    simulator.play(simulator.scenario)
    assert simulator.time.now_s() == 0
    assert told(simulator.counts)["keys"] == {}
    assert call(simulator).reply.status == 200


def test_calls_are_counted_over_time() -> None:
    simulator, clock = simulating(slice=2)
    for wait_s in (0, 0.5, 0.6, 3.0, 0.1):
        clock.skip(wait_s)
        call(simulator)
    seen = told(simulator.counts)["keys"]["one"]
    assert seen["peak_per_s"] == 2
    assert [(row["at_s"], row["calls"], row["useful"]) for row in seen["series"]] == [(0, 3, 3), (2, 0, 0), (4, 2, 2)]


def test_a_prompt_that_was_bought_twice_is_told() -> None:
    simulator, _ = simulating()
    call(simulator, "Once.")
    call(simulator, "Lost.", delivered=False)
    call(simulator, "Lost.")
    for _ in range(3):
        call(simulator, "Thrice.")
    for _ in range(2):
        ongoing = simulator.begin(chat("With an id."), request_id="r1")
        simulator.end(ongoing, delivered=False)
    twice = told(simulator.counts)["bought_twice"]
    assert list(twice["prompts"].values()) == [3]
    assert twice["request_ids"] == {}
    (seen,) = simulator.counts.request_ids.values()
    assert (seen.calls, seen.useful) == (2, 0)
    assert len(simulator.counts.prompts) == 4


def test_answers_tell_prompts_apart_and_have_the_tokens_they_were_allowed() -> None:
    simulator, _ = simulating(answer={"tokens": 6})
    first, second = body(simulator.begin(chat("One."))), body(simulator.begin(chat("Two.")))
    assert first["choices"][0]["message"]["content"] != second["choices"][0]["message"]["content"]
    assert first["usage"] == {"prompt_tokens": 1, "completion_tokens": 6, "total_tokens": 7}
    assert first == body(simulator.begin(chat("One.")))
    cut = body(simulator.begin(chat("One.", max_tokens=2)))
    assert (cut["usage"]["completion_tokens"], cut["choices"][0]["finish_reason"]) == (2, "length")

"""The figures of the surge bench, from what clients, PostgreSQL and the provider have seen."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from infra.simulator import openai
from infra.simulator.openai import ChatBody, Turn
from infra.simulator.scenario import parse_scenario
from shared.policy import parse_policy
from tests.bench.limit_replicas import toml
from tests.bench.surge_clients import Entry, request, status_of, text_of
from tests.bench.surge_course import MODEL, QUICK, Asked, Course
from tests.bench.surge_designs import forebay_policy
from tests.bench.surge_figures import End, Outcome, Prices, named, per_second
from tests.bench.surge_watch import Seen, Used

COURSE = Course(warm_s=2, surge_s=10, calm_s=20, end_s=24, settle_s=1, patience_s=5)


def answered_text(prompt: str) -> str:
    """What the simulated provider answers."""
    turns: list[Any] = [Turn(role="user", content=prompt)]
    return openai.completed(ChatBody(model=MODEL, messages=turns), 20).text


def asked(at_s: float, prompt: str = "Tell me.", meaning: str = "it") -> Asked:
    return Asked(at_s, "north", prompt, meaning)


def taken(at_s: float, *, after_s: float = 0.01, ended_s: float | None = None, text: str | None = None) -> Entry:
    """A request that was taken, under an id that says when."""
    return Entry(at_s, at_s + after_s, 202, f"id {at_s:g}", ended_s, text)


def outcome(
    log: Sequence[tuple[Asked, Entry]],
    *,
    rows: Mapping[str, End] | None = None,
    seen: Seen | None = None,
    counts: Mapping[str, Any] | None = None,
    queued: bool = True,
) -> Outcome:
    none = {"useful": 0, "abandoned": 0, "refused": {}, "input_tokens": 0, "output_tokens": 0}
    return Outcome(
        "one",
        "One",
        queued,
        COURSE,
        [one for one, _ in log],
        [entry for _, entry in log],
        seen or Seen(),
        rows,
        none | dict(counts or {}),
        Prices(input=1.0, output=2.0),
    )


def test_the_same_seed_asks_the_same_and_another_something_else() -> None:
    assert COURSE.asked(1) == COURSE.asked(1)
    assert COURSE.asked(1) != COURSE.asked(2)


def test_there_are_as_many_more_requests_in_the_surge_as_there_are_users() -> None:
    course = Course(users=40, pause_s=1, surge_s=50, calm_s=100, end_s=150)
    moments = [one.at_s for one in course.asked(3)]
    surge = [at_s for at_s in moments if course.phase(at_s) == "surge"]
    assert moments == sorted(moments)
    assert moments[-1] < course.end_s
    assert len(surge) == pytest.approx(50 * 40 * course.factor, rel=0.02)
    assert len(moments) - len(surge) == pytest.approx(100 * 40, rel=0.05)


@pytest.mark.parametrize("course", [Course(), QUICK])
def test_the_provider_takes_what_the_course_says_by_the_clock_on_the_wall(course: Course) -> None:
    scenario = parse_scenario(course.scenario())
    per_simulated_minute = scenario.limits[0].requests_per_minute
    assert per_simulated_minute is not None
    assert per_simulated_minute / 60 * scenario.time_scale == course.calls_per_s


def test_an_answer_names_the_prompt_it_answers() -> None:
    one = asked(0, "Tell me about part 7.")
    assert named(answered_text(one.prompt)) == one.digest
    assert named("Sorry.") != one.digest


def test_forebays_policy_is_one_and_has_one_tier() -> None:
    policy = parse_policy(tomllib.loads(toml(forebay_policy("http://127.0.0.1:1/v1"))))
    assert list(policy.tiers) == ["light"]


def test_every_request_has_one_fate() -> None:
    text = answered_text("Tell me.")
    one = outcome(
        [
            (asked(1), taken(1, ended_s=4, text=text)),
            (asked(2), taken(2, ended_s=8, text=text)),
            (asked(3), taken(3, ended_s=4)),
            (asked(4), taken(4)),
            (asked(11), Entry(11, 12, 429)),
            (asked(12), Entry(12, 13, 503)),
            (asked(13), Entry(13, 14, 500)),
            (asked(14), Entry(14)),
        ]
    )
    assert one.fates() == {"in time": [1], "late": [2], "shed": [11, 12], "failed": [3, 4, 13, 14]}
    assert (one.shed, one.failed) == (2, 3)  # the fourth is not over yet: whether it is lost its row says
    assert len(one.accepted()) == 4
    assert (one.sent("surge"), len(one.accepted("surge")), one.in_time("warm")) == (4, 0, 1)


def test_what_was_taken_and_has_no_row_is_lost() -> None:
    log = [(asked(1), taken(1)), (asked(2), taken(2)), (asked(3), Entry(3, 4, 429))]
    assert outcome(log, rows={"id 1": End("failed", 1.5)}).lost == 1
    assert math.isnan(outcome(log, rows=None).lost)


def test_an_answer_to_another_question_is_wrong_and_one_to_the_same_in_other_words_is_not() -> None:
    log = [
        (asked(1, "Tell me.", "it"), taken(1, ended_s=2, text=answered_text("Tell me."))),
        (asked(2, "Please tell me.", "it"), taken(2, ended_s=3, text=answered_text("Tell me."))),
        (asked(3, "Tell me more.", "more"), taken(3, ended_s=4, text=answered_text("Tell me."))),
        (asked(4), taken(4, ended_s=5, text="Whatever.")),
    ]
    assert outcome(log).wrong == 2


def test_latencies_are_those_of_a_phase() -> None:
    log = [(asked(at_s), taken(at_s, after_s=after_s)) for at_s, after_s in ((1, 9), (3, 0.01), (11, 0.03), (12, 0.03))]
    one = outcome(log)
    assert one.accept_ms(50, "base") == pytest.approx(10)
    assert one.accept_ratio == pytest.approx(3)
    assert math.isnan(one.accept_ms(50, "after"))


def test_drained_is_when_the_last_request_of_the_surge_is_over() -> None:
    log = [(asked(11), taken(11, ended_s=29)), (asked(19), taken(19, ended_s=40)), (asked(21), taken(21, ended_s=60))]
    rows = {"id 11": End("completed", 24.0), "id 19": End("completed", 26.0), "id 21": End("completed", 50.0)}
    assert outcome(log, rows=rows).drained_s == pytest.approx(6)
    assert math.isnan(outcome(log, rows={"id 11": End("completed", 24.0)}).drained_s)


def test_who_waited_in_vain_is_over_when_the_patience_is() -> None:
    assert outcome([(asked(19), Entry(19))], rows={}, queued=False).drained_s == pytest.approx(4)


def test_calls_whose_client_had_left_are_paid_for_too() -> None:
    counts = {"useful": 4, "abandoned": 1, "input_tokens": 40, "output_tokens": 80, "refused": {"requests": 7}}
    text = answered_text("Tell me.")
    one = outcome([(asked(1), taken(1, ended_s=2, text=text)), (asked(2), Entry(2))], counts=counts)
    assert (one.calls, one.refused) == (5, 7)
    assert one.spent_usd == pytest.approx(5 * (10 * 1.0 + 20 * 2.0))
    assert one.spent_per_thousand_usd == pytest.approx(1000 * one.spent_usd)


def test_writes_are_counted_between_two_times() -> None:
    seen = Seen(database=[(at_s, 2 * at_s + (10 if at_s >= 15 else 0), at_s % 3) for at_s in range(30)])
    one = outcome([(asked(1), taken(1))], rows={}, seen=seen)
    assert one.usual_writes_per_s == pytest.approx(2)
    assert one.surge_writes_per_s == pytest.approx((2 * 9 + 10) / 9)
    assert one.most_writes_per_s == pytest.approx(12)
    assert one.connections == 2
    assert math.isnan(outcome([], rows=None, seen=seen).surge_writes_per_s)


def test_what_processes_used_is_by_a_thousand_requests() -> None:
    seen = Seen(used=[(0.0, {"design": Used(5.0, 10_000_000)}), (9.0, {"design": Used(7.0, 30_000_000)})])
    one = outcome([(asked(1), taken(1)), (asked(2), taken(2))], seen=seen)
    assert one.cpu_per_thousand_s("design") == pytest.approx(1000)
    assert (one.most_rss_mb, one.rss_per_thousand_mb) == pytest.approx((30, 10_000))


def test_moments_are_counted_by_whole_seconds_up_to_the_end() -> None:
    assert per_second([0.0, 0.9, 1.0, 2.5, 3.0, -1.0], 3) == [2, 1, 1]


@pytest.mark.parametrize("protocol", ["answers", "chat", "tickets", "forebay"])
def test_a_request_has_its_prompt_in_its_body(protocol: Any) -> None:
    _, body, _ = request(protocol, asked(0, "Tell me."), "key")
    assert "Tell me." in str(body)


def test_an_answer_is_found_in_either_form() -> None:
    openais = {"id": "x", "choices": [{"message": {"content": "Yes."}}]}
    ours = {"id": "x", "status": "completed", "output_text": "Yes."}
    assert [(status_of(shown), text_of(shown)) for shown in (openais, ours)] == [("completed", "Yes.")] * 2
    assert status_of({"id": "x", "status": "queued"}) == "queued"

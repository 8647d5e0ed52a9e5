"""Names, bindings, dead letters."""

import pytest

from shared.events import EVENTS, Event, RequestCancelled
from shared.examples import example
from shared.memory import matches
from shared.topology import (
    ACCEPTED,
    ALL_EVENTS,
    CACHE_EVENTS,
    CANCELLATIONS,
    COUNTED,
    DEAD,
    LANE_EVENTS,
    MISSED,
    QUEUE_EVENTS,
    RECORDS,
    SUBMITTED,
    TERMINAL_EVENTS,
    TOPIC_EVENTS,
    Queue,
    entries,
    obituaries,
    routed,
    router_events,
    run_events,
    topology,
)
from tests.support import make

TIERS = ("light", "premium")
WHOLE = topology(TIERS)
KINDS = sorted(EVENTS.values(), key=lambda kind: kind.TYPE)


def takers(event: Event, *others: Queue) -> set[str]:
    return {
        queue.name
        for queue in (*WHOLE.queues, *others)
        for binding in queue.bindings
        if binding.exchange == event.EXCHANGE and matches(binding.pattern, event.routing_key)
    }


def test_every_name_is_given_once() -> None:
    names = [queue.name for queue in WHOLE.queues]
    assert len(set(names)) == len(names)
    assert "" not in names
    assert len({exchange.name for exchange in WHOLE.exchanges}) == len(WHOLE.exchanges)


def test_every_work_queue_has_a_place_for_what_it_gave_up_on() -> None:
    work = [queue for queue in WHOLE.queues if not queue.dead_letters and not queue.returns and not queue.side_of]
    assert work
    for queue in work:
        dead = WHOLE.queue(f"{queue.name}.dead")
        assert dead.dead_letters
        assert [(b.exchange, b.pattern) for b in dead.bindings] == [(DEAD, queue.name)]


def test_what_can_be_parked_has_a_queue_to_wait_in_and_comes_back_from_it() -> None:
    waiting = {queue.name: queue for queue in WHOLE.queues if queue.returns}
    assert set(waiting) == {f"{queue.name}.parked.{s:g}s" for queue in WHOLE.queues for s in queue.delays}
    assert ACCEPTED.parked() == waiting["cache.accepted.parked.2s"]
    for name, queue in waiting.items():
        assert queue.returns
        assert queue.returns.after_s in WHOLE.queue(queue.returns.queue).delays
        assert name.startswith(f"{queue.returns.queue}.parked.")
        assert queue.parked() is None
        assert queue.bindings == ()
    assert MISSED.parked() is None


def test_a_delay_is_at_least_what_was_asked_for_as_far_as_there_is_one() -> None:
    queue = Queue("work", (), delays=(2.0, 10.0, 0.5e3))
    names = {after_s: queue.parked(after_s) for after_s in (0.0, 2.0, 2.1, 10.0, 11.0, 1e6, float("inf"))}
    assert [place.name for place in names.values() if place] == [
        *("work.parked.2s", "work.parked.2s", "work.parked.10s", "work.parked.10s"),
        *("work.parked.500s", "work.parked.500s", "work.parked.500s"),
    ]


def test_every_binding_is_to_an_exchange_that_is_declared() -> None:
    for queue in (*WHOLE.queues, TERMINAL_EVENTS, CACHE_EVENTS, TOPIC_EVENTS, ALL_EVENTS):
        assert {binding.exchange for binding in queue.bindings} <= set(WHOLE.exchanges)


@pytest.mark.parametrize("kind", KINDS)
def test_every_event_is_kept_by_a_durable_queue_unless_it_is_for_those_who_are_there(kind: type[Event]) -> None:
    event = example(kind)
    if event.routing_key.startswith("topic."):  # to each replica's own queue, where it is away it has missed little
        assert takers(event, TOPIC_EVENTS) == {""}
    elif event.routing_key == "lane.reported":  # to the other replicas of inference
        assert takers(event, LANE_EVENTS) == {""}
    elif event.routing_key == "queue.reported":  # to ingest
        assert takers(event, QUEUE_EVENTS) == {""}
    elif kind is RequestCancelled:
        assert takers(event, CANCELLATIONS) == {""}
    elif not kind.MANDATORY:
        assert takers(event, router_events(("light", "premium"))) == {""}
    else:
        assert takers(event)


def test_what_is_counted_is_split_among_replicas_and_waits_for_nobody() -> None:
    assert "trends.accepted" in takers(make.accepted())
    assert COUNTED.fleeting is not None
    assert COUNTED.fleeting.seconds < 60


@pytest.mark.parametrize("kind", KINDS)
def test_every_event_is_published_with_a_key_of_its_pattern(kind: type[Event]) -> None:
    assert matches(kind.PATTERN, example(kind).routing_key)


@pytest.mark.parametrize("source", ["cache", "coalesced", *TIERS])
def test_every_answer_is_recorded_and_only_bought_ones_become_cache_entries(source: str) -> None:
    expected = {"persistence.records"} | ({"persistence.entries"} if source in TIERS else set())
    assert takers(make.completed(source=source)) == expected


@pytest.mark.parametrize("tier", TIERS)
def test_each_tier_has_its_own_queue(tier: str) -> None:
    assert takers(make.routed(route=make.route(tier))) == {f"inference.{tier}"}


@pytest.mark.parametrize("priority", ["interactive", "bulk"])
def test_an_accepted_request_is_recorded_counted_and_goes_to_the_cache(priority: str) -> None:
    assert takers(make.accepted(priority=priority)) == {"cache.accepted", "persistence.records", "trends.accepted"}


@pytest.mark.parametrize(
    "key",
    ["request.submitted", "request.submitted.bulk", "request.submitted.interactive.acme", "request.submitted.a.b.c"],
)
def test_whatever_is_said_after_submitted_reaches_the_door(key: str) -> None:
    assert matches(SUBMITTED.bindings[0].pattern, key)


def test_the_dead_of_the_path_get_an_obituary_and_the_dead_of_others_do_not() -> None:
    watched = {binding.pattern for binding in WHOLE.queue("persistence.dead").bindings}
    assert watched == {q.name for q in (SUBMITTED, ACCEPTED, MISSED, *map(routed, TIERS), RECORDS)}
    assert entries(TIERS).name not in watched
    assert {binding.exchange for binding in obituaries((MISSED,)).bindings} == {DEAD}


def test_a_queue_without_a_name_belongs_to_its_consumer() -> None:
    assert TERMINAL_EVENTS.exclusive
    assert not RECORDS.exclusive


def test_who_waits_for_results_hears_of_every_terminal_event_and_of_nothing_else() -> None:
    heard = {kind for kind in KINDS if "" in takers(example(kind), TERMINAL_EVENTS)}
    assert {kind.__name__ for kind in heard} == {"ResponseCompleted", "ResponseFailed"}


@pytest.mark.parametrize("source", ["cache", "coalesced", *TIERS])
def test_inference_hears_of_the_answers_of_its_tiers_and_not_of_those_of_the_cache(source: str) -> None:
    assert ("" in takers(make.completed(source=source), run_events(TIERS))) == (source in TIERS)


@pytest.mark.parametrize("code", ["timeout", "cancelled"])
def test_inference_hears_of_every_failure(code: str) -> None:
    assert "" in takers(make.failed(code=code), run_events(TIERS))


def test_asking_for_a_queue_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        WHOLE.queue("nowhere")

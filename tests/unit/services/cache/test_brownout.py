"""Expired entries that are served while a new answer would take too long."""

from datetime import timedelta
from typing import Any

import pytest

from shared.events import CacheControl, ResponseCompleted, TopicTrending
from tests.support import make
from tests.support.brownout import ONE, aged
from tests.support.clock import START
from tests.support.replica import PROMPT, Replica, entry, invalidation

RULES: dict[str, Any] = {
    "brownout": {"cheaper_tier": {"from": "10s"}, "stale_answers": {"from": "30s", "up_to": "1h"}},
    "cache__refresh": {"enabled": False},
}


def replica(*, past: timedelta = timedelta(minutes=5), policy: dict[str, Any] | None = None, **ages: float) -> Replica:
    """One whose entry for the prompt expired some time ago."""
    it = Replica(elsewhere=RULES | (policy or {}))
    it.lookup.exact = expired(past)
    it.brownout.told(aged(ONE, **ages))
    return it


def expired(past: timedelta, **changes: Any) -> Any:
    until = START - past
    times = {"stored_at": until - timedelta(days=7), "expires_at": until, "keep_until": until + timedelta(hours=1)}
    return entry(**times | changes)


async def served(it: Replica, **request: Any) -> ResponseCompleted | None:
    event, *_ = await it.ask(make.request(PROMPT, **request))
    return event if isinstance(event, ResponseCompleted) else None


async def test_an_expired_entry_is_served_and_told_so() -> None:
    answer = await served(replica(light=31.0))
    assert answer is not None
    (note,) = answer.brownout
    assert (note.step, note.tier, note.age_s, note.detail) == ("stale_answers", "light", 31.0, "expired 300 s ago")


async def test_a_fresh_one_is_served_as_ever() -> None:
    answer = await served(replica(past=timedelta(minutes=-5), light=31.0))
    assert answer is not None
    assert answer.brownout == ()


@pytest.mark.parametrize("ages", [{}, {"light": 29.0}, {"premium": 500.0}])
async def test_without_a_queue_that_is_too_old_at_the_tier_that_answered_it_is_bought_anew(
    ages: dict[str, float],
) -> None:
    assert await served(replica(policy=None, past=timedelta(minutes=5), **ages)) is None


async def test_it_is_bought_anew_where_a_cheaper_tier_has_time_unless_the_request_names_its_own() -> None:
    it = replica(premium=500.0)
    it.lookup.exact = expired(timedelta(minutes=5), tier="premium")
    assert await served(it) is None
    assert await served(it, model="premium") is not None
    it = replica(premium=500.0, light=31.0)
    it.lookup.exact = expired(timedelta(minutes=5), tier="premium")
    answer = await served(it)
    assert answer is not None
    assert answer.brownout[0].tier == "premium"  # light is no help


async def test_it_is_served_for_no_longer_than_the_policy_says() -> None:
    assert await served(replica(past=timedelta(minutes=59), light=31.0)) is not None
    it = replica(light=31.0)
    it.lookup.exact = expired(timedelta(minutes=61), keep_until=START + timedelta(hours=1))
    assert await served(it) is None


@pytest.mark.parametrize("control", [CacheControl(max_age_s=10**7), CacheControl(no_cache=True)])
async def test_who_says_how_old_an_answer_may_be_gets_none_that_is_stale(control: CacheControl) -> None:
    assert await served(replica(light=31.0), cache_control=control) is None


async def test_nor_does_one_who_shares_the_answer_of_a_request_that_got_it() -> None:
    it = replica(light=31.0)
    stale = await served(it)
    assert stale is not None
    assert not it.handler._young(make.request(PROMPT, cache_control=CacheControl(max_age_s=10**7)), stale)


async def test_never_what_was_invalidated_nor_what_is_too_old_for_its_topic() -> None:
    it = replica(light=31.0)
    await it.hear(invalidation(START))
    assert await served(it) is None
    it = replica(light=31.0)
    await it.hear(TopicTrending(terms=("france",), since=START, until=START + timedelta(minutes=5)))
    assert await served(it) is None


async def test_a_tenant_s_own_times_count_and_never_means_never() -> None:
    for ttl, found in (("6d", False), ("7d", True), ("none", False)):
        tenants = {"freshness__tenants": {"acme": {"ttl": {"static": ttl}}}}
        it = replica(policy=tenants, light=31.0)
        assert (await served(it) is not None) == found


async def test_the_time_of_stale_while_revalidate_is_not_stretched() -> None:
    rules = {"freshness__categories__static__stale_while_revalidate": "10m", "cache__refresh": {"enabled": True}}
    answer = await served(replica(policy=rules))
    assert answer is not None  # a new one is bought, without any brownout
    assert answer.brownout == ()
    assert await served(replica(policy=rules, past=timedelta(minutes=11))) is None
    answer = await served(replica(policy=rules, past=timedelta(minutes=11), light=31.0))
    assert answer is not None
    assert [note.step for note in answer.brownout] == ["stale_answers"]


async def test_it_is_heard_of_and_forgotten() -> None:
    it = replica()
    await it.hear(aged(light=31.0))
    assert await served(it) is not None
    await it.clock.advance(60)
    assert await served(it) is None


async def test_what_was_kept_for_brownouts_is_not_served_once_the_step_is_taken_out_of_the_policy() -> None:
    it = replica(policy={"brownout": {}, "cache__refresh": {"enabled": True}})
    # Its client wanted it for a minute only (max-age): its category is no bound.
    it.lookup.exact = expired(timedelta(minutes=5), stored_at=START - timedelta(minutes=6))
    assert await served(it) is None

"""Entries whose topic is trending: which wait, for how long, and what is said about it."""

import random
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache import trending as module
from services.cache.lookup import Entry
from services.cache.topic_entries import MOST_READ, Affected, affected, pattern
from services.cache.trending import DOUBTED_S, Trending
from shared.events import LONGEST_TOPIC_S, RequestMissed, ResponseCompleted, TopicSettled, TopicTrending
from shared.policy.trends import TrendsPolicy
from shared.topics import concerns, term, words
from tests.support import make
from tests.support.clock import START, ManualClock
from tests.support.replica import PROMPT, Replica, entry, near

if TYPE_CHECKING:
    from shared.database import Pool

OLD: dict[str, Any] = {"stored_at": START - timedelta(minutes=16), "expires_at": START + timedelta(days=7)}
YOUNG: dict[str, Any] = {"stored_at": START - timedelta(minutes=15), "expires_at": START + timedelta(days=7)}
REASON = "older than 15 minutes, and its topic is trending: France"


def trends(*terms: str, **changes: Any) -> TopicTrending:
    fields = {"terms": terms or ("France",), "tenant": "acme", "since": START, "until": START + timedelta(hours=1)}
    return TopicTrending.model_validate(fields | changes)


def settles(*terms: str, tenant: str | None = "acme") -> TopicSettled:
    return TopicSettled(terms=terms or ("France",), tenant=tenant, settled_at=START)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def trending(clock: ManualClock) -> Trending:
    return Trending(TrendsPolicy(), clock)


def waits(it: Trending, stored: Entry, tenant: str = "acme") -> bool:
    return it.topic_of(stored, tenant=tenant) is not None


def test_an_older_entry_of_a_topic_waits_whenever_it_was_stored_until_the_topic_settles(trending: Trending) -> None:
    assert not waits(trending, entry(**OLD))
    trending.heard(trends())
    assert waits(trending, entry(**OLD))
    assert waits(trending, entry(**OLD | {"stored_at": START - timedelta(days=300)}))
    assert not waits(trending, entry(**YOUNG))
    assert not waits(trending, entry("What is the capital of Spain?", **OLD))
    trending.heard(settles("france"))  # whoever says so need not spell it the same
    assert not waits(trending, entry(**OLD))


def test_a_topic_is_about_its_tenant_s_answers_and_what_that_tenant_asks(trending: Trending) -> None:
    trending.heard(trends())
    assert not waits(trending, entry(**OLD | {"tenant": "beta"}), tenant="beta")
    assert waits(trending, entry(**OLD | {"tenant": "acme"}), tenant="beta")  # of a pool
    assert waits(trending, entry(**OLD | {"tenant": "beta"}), tenant="acme")
    trending.heard(trends(tenant=None))
    assert waits(trending, entry(**OLD | {"tenant": "beta"}), tenant="beta")
    trending.heard(settles())
    assert waits(trending, entry(**OLD), tenant="acme"), "everybody's goes on"


def test_a_topic_that_is_not_announced_again_ends_by_itself(trending: Trending, clock: ManualClock) -> None:
    trending.heard(trends(until=START + timedelta(seconds=30)))
    clock.skip(29)
    assert waits(trending, entry(**OLD))
    clock.skip(1)
    assert not waits(trending, entry(**OLD))
    assert trending.topics() == []
    trending.heard(trends(until=START))
    assert trending.topics() == []


def test_a_repetition_makes_it_last_longer_and_never_shorter(trending: Trending, clock: ManualClock) -> None:
    trending.heard(trends())
    trending.heard(trends(origin="repeated", until=START + timedelta(seconds=30)))
    clock.skip(3599)
    assert waits(trending, entry(**OLD))
    trending.heard(trends(until=START + timedelta(hours=2)))
    clock.skip(3600)
    assert waits(trending, entry(**OLD))


def test_what_may_have_settled_unheard_is_believed_until_it_must_have_been_announced_again(
    trending: Trending, clock: ManualClock
) -> None:
    trending.heard(trends())
    trending.doubted()
    clock.skip(DOUBTED_S - 1)
    assert waits(trending, entry(**OLD))
    trending.heard(trends())
    clock.skip(600)
    assert waits(trending, entry(**OLD))
    trending.doubted()
    clock.skip(DOUBTED_S)
    assert not waits(trending, entry(**OLD))


def test_a_topic_may_have_many_terms_of_which_one_will_do(trending: Trending) -> None:
    trending.heard(trends("earthquake tokyo", "tsunamis", "france"))
    for prompt in ("Is there a tsunami?", "Tokyo: how strong was the earthquake?", PROMPT):
        assert waits(trending, entry(prompt, **OLD))
    assert not waits(trending, entry("Is Tokyo large?", **OLD))


def test_no_more_topics_are_kept_than_may(trending: Trending, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TOPICS", 3)
    for n in range(5):
        trending.heard(trends(f"tea{n}", until=START + timedelta(hours=1 + n)))
    assert [topic.name for topic in trending.topics()] == ["tea2", "tea3", "tea4"]
    for n in range(5):
        trending.heard(settles(f"tea{n}"))
    assert trending._by_word == {}


def test_a_tenant_with_many_topics_pushes_out_its_own_only(trending: Trending, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TOPICS", 3)
    trending.heard(trends(tenant="beta", until=START + timedelta(seconds=30)))
    for n in range(5):
        trending.heard(trends(f"tea{n}", until=START + timedelta(days=7)))
    assert [(topic.announced.tenant, topic.name) for topic in trending.topics()] == [
        ("beta", "France"),
        ("acme", "tea3"),
        ("acme", "tea4"),
    ]


def test_no_topic_lasts_longer_than_a_client_may_ask_for(trending: Trending, clock: ManualClock) -> None:
    trending.heard(trends(until=START + timedelta(days=3650)))
    clock.skip(LONGEST_TOPIC_S)
    assert trending.topics() == []


@pytest.mark.parametrize(
    ("max_age", "expected"),
    [("15m", "15 minutes"), ("1h", "1 hour"), (90, "90 seconds"), (1, "1 second"), ("2d", "2 days")],
)
def test_the_reason_says_how_old_and_which_topic(max_age: object, expected: str) -> None:
    it = Trending(TrendsPolicy.model_validate({"max_age": max_age}), ManualClock())
    it.heard(trends("earthquake tokyo", "tsunami"))
    (topic,) = it.topics()
    assert it.reason(topic) == f"older than {expected}, and its topic is trending: earthquake tokyo, tsunami"


# ── A whole replica ──


async def decided(replica: Replica, prompt: str = PROMPT) -> RequestMissed | ResponseCompleted:
    event, *_ = await replica.ask(make.request(prompt))
    assert isinstance(event, RequestMissed | ResponseCompleted)
    return event


def from_table(replica: Replica) -> None:
    replica.lookup.exact = entry(**OLD)


def from_table_where_it_is_near_too(replica: Replica) -> None:
    replica.lookup.exact = entry(**OLD)
    replica.lookup.nearest = [near(PROMPT, similarity=1.0, entry_id=replica.lookup.exact.entry_id, **OLD)]


def from_table_without_an_embedding(replica: Replica) -> None:
    replica.lookup.exact = entry(**OLD)
    replica.embedder.refused.add(PROMPT)


def from_front(replica: Replica) -> None:
    replica.front.put(entry(**OLD | {"exact": replica.handler.key(make.request(PROMPT)).exact}))


def as_near(replica: Replica) -> None:
    replica.lookup.nearest = [near(**OLD)]


STORES = (from_table, from_table_where_it_is_near_too, from_table_without_an_embedding, from_front, as_near)


@pytest.mark.parametrize("store", STORES)
async def test_an_entry_is_served_from_nowhere_while_its_topic_trends_and_again_when_that_has_settled(
    store: Callable[[Replica], None],
) -> None:
    replica = Replica()
    store(replica)
    await replica.hear(trends())
    missed = await decided(replica)
    assert isinstance(missed, RequestMissed)
    assert missed.verdict is not None
    if store is not from_front:  # where only the front has it there is no table to find it in again
        assert (missed.verdict.tier, missed.verdict.reason, missed.verdict.age_s) == ("miss", REASON, 16 * 60)
    replica = Replica()
    store(replica)
    await replica.hear(trends(), settles())
    assert isinstance(await decided(replica), ResponseCompleted)


async def test_a_younger_entry_is_served_beside_one_that_waits() -> None:
    replica = Replica()
    replica.lookup.nearest = [near(**OLD), near(similarity=0.95, answer="Paris, still.", **YOUNG)]
    await replica.hear(trends())
    answer = await decided(replica)
    assert isinstance(answer, ResponseCompleted)
    assert answer.output_text == "Paris, still."


async def test_an_answer_that_waits_is_not_held_against_the_fresh_one() -> None:
    replica = Replica()
    as_near(replica)
    await replica.hear(trends())
    missed = await decided(replica)
    assert isinstance(missed, RequestMissed)
    await replica.answer(missed, output_text="Lyon.")
    assert replica.learned.learned == []


SECONDS: dict[str, Any] = {"trends": {"max_age": 3}}


async def past_the_front(replica: Replica) -> RequestMissed | ResponseCompleted:
    replica.front.forget(lambda _: True)
    return await decided(replica)


async def test_an_answer_in_flight_is_given_to_who_comes_later_only_while_it_is_young_enough_for_its_topic() -> None:
    replica = Replica(elsewhere=SECONDS)
    await replica.hear(trends())
    first = await past_the_front(replica)
    assert isinstance(first, RequestMissed)
    await replica.answer(first)
    replica.clock.skip(3)
    assert isinstance(await past_the_front(replica), ResponseCompleted)
    replica.clock.skip(1)
    second = await past_the_front(replica)
    assert isinstance(second, RequestMissed)
    await replica.answer(second)
    shared = await past_the_front(replica)
    assert isinstance(shared, ResponseCompleted)
    assert shared.leader_id == second.request.id
    await replica.hear(settles())
    replica.clock.skip(4)
    assert isinstance(await past_the_front(replica), ResponseCompleted)


async def test_a_near_answer_in_flight_is_too_old_by_the_topic_of_its_own_prompt() -> None:
    replica = Replica({"a comet": 0.0, "b comets": 0.1}, elsewhere=SECONDS)
    await replica.hear(trends("comet"))
    first = await decided(replica, "a comet")
    assert isinstance(first, RequestMissed)
    await replica.answer(first)
    replica.clock.skip(3)
    assert isinstance(await decided(replica, "b comets"), ResponseCompleted)
    replica.clock.skip(1)
    assert isinstance(await decided(replica, "b comets"), RequestMissed)


async def test_who_waits_for_one_that_found_an_old_entry_gets_none_that_is_too_old_for_a_topic_of_its_own() -> None:
    replica = Replica(pools={"both": ["acme", "beta"]})
    replica.lookup.exact = entry(PROMPT, **OLD)
    await replica.hear(trends(tenant="beta"))
    tasks = await replica.asked(make.request(PROMPT), make.request(PROMPT, tenant="beta"))
    (served,) = await tasks[0]
    assert isinstance(served, ResponseCompleted)
    (bought,) = replica.misses()
    assert bought.request.tenant == "beta"


async def test_a_lookup_explains_it_too() -> None:
    replica = Replica()
    as_near(replica)
    await replica.hear(trends())
    explained = await replica.handler.explain(make.request(PROMPT))
    assert (explained.verdict.tier, explained.verdict.reason) == ("miss", REASON)


async def test_a_replica_that_was_away_believes_what_it_knew_for_a_while() -> None:
    replica = Replica()
    as_near(replica)
    await replica.hear(trends())
    replica.news.subscribed()
    assert isinstance(await decided(replica), RequestMissed)
    replica = Replica()
    as_near(replica)
    await replica.hear(trends())
    replica.news.subscribed()
    replica.clock.skip(DOUBTED_S)
    assert isinstance(await decided(replica), ResponseCompleted)


# ── How many entries wait ──


class FakeTable:
    """Gives rows, whatever is asked."""

    def __init__(self, prompts: Sequence[str]) -> None:
        self.prompts = prompts
        self.asked: list[tuple[Any, ...]] = []

    async def fetch(self, _: str, *arguments: Any) -> list[dict[str, str]]:
        self.asked.append(arguments)
        return [{"prompt": prompt} for prompt in self.prompts]


async def count(trending: Trending, now: datetime, *prompts: str) -> tuple[Affected, tuple[Any, ...]]:
    table = FakeTable(prompts)
    (topic,) = trending.topics()
    found = await affected(cast("Pool", table), topic, trending.max_age, now)
    return found, table.asked[0]


async def test_the_entries_of_a_topic_are_counted_by_the_rule_that_requests_meet(trending: Trending) -> None:
    trending.heard(trends("earthquake tokyo"))
    found, asked = await count(trending, START, "Earthquakes in Tokyo?", "An earthquake in Lima?", "Tokyo earthquake")
    assert found == Affected(2, more=False)
    assert asked[:3] == (START - timedelta(minutes=15), START, "acme")
    found, _ = await count(trending, START, *(["Tokyo earthquake"] * (MOST_READ + 1)))
    assert found == Affected(MOST_READ, more=True)


_PIECES = (
    "city",
    "cities",
    "boxes",
    "box",
    "Müller",
    "muller",
    "glass",
    "the",
    "news",
    "tea",
    "C++",
    "東京",
    "서울",
    "が",
    "naïve's",
)


@given(st.lists(st.sampled_from(_PIECES), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_the_database_finds_every_prompt_that_may_be_meant(pieces: list[str], pick: random.Random) -> None:
    prompt = " ".join(pieces)
    meant = term(pick.choice(pieces))
    if meant and concerns([meant], frozenset(words(prompt))):
        assert re.search(pattern(meant), prompt, re.IGNORECASE)

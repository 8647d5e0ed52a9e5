"""Hot entries in memory, against a model of all that was ever put."""

from datetime import datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from services.cache.front import LONGEST_S, Front, size_of
from services.cache.lookup import Entry
from tests.support.clock import START, ManualClock

MOST = 5
MOST_BYTES = 6_000


def entry(key: int = 0, *, stored_s: int = 0, kept_s: int = 100, answer: str = "a") -> Entry:
    return Entry(
        entry_id=UUID(int=stored_s),
        scope=UUID(int=0),
        exact=UUID(int=key),
        tenant="default",
        prompt="p",
        answer=answer,
        model="m",
        tier="light",
        category="static",
        reason="",
        cost_usd=0.5,
        stored_at=at(stored_s),
        expires_at=at(kept_s),
        keep_until=at(kept_s),
        hits=0,
        good=0,
        bad=0,
        similarity=1.0,
        match="exact",
    )


def at(seconds: int) -> datetime:
    return START + timedelta(seconds=seconds)


def front(*, entries: int = MOST, size: int = MOST_BYTES, clock: ManualClock | None = None) -> Front:
    return Front(max_entries=entries, max_bytes=size, clock=clock or ManualClock())


def test_what_was_put_is_read_again_after_a_minute_however_long_it_may_be_kept() -> None:
    clock = ManualClock()
    kept = front(clock=clock)
    kept.put(entry(kept_s=1000))
    clock.skip(LONGEST_S - 1)
    assert kept.get(UUID(int=0), at(0)) is not None
    clock.skip(1)
    assert kept.get(UUID(int=0), at(0)) is None
    assert (len(kept), kept.bytes) == (0, 0)
    kept.put(entry(kept_s=1000))
    assert kept.get(UUID(int=0), at(0)) is not None


def test_all_can_be_dropped() -> None:
    kept = front()
    kept.put(entry())
    kept.clear()
    assert (len(kept), kept.bytes) == (0, 0)


def test_what_was_put_is_found_until_it_may_not_be_kept_any_longer() -> None:
    kept = front()
    kept.put(entry(kept_s=10))
    assert kept.get(UUID(int=0), at(9)) == entry(kept_s=10)
    assert kept.get(UUID(int=0), at(10)) is None
    assert (len(kept), kept.bytes) == (0, 0)


def test_the_newest_answer_counts_in_whatever_order_they_come() -> None:
    old, new = entry(stored_s=1, answer="old"), entry(stored_s=2, answer="new")
    for order in ((old, new), (new, old)):
        kept = front()
        for one in order:
            kept.put(one)
        assert kept.get(UUID(int=0), START) == new


def test_a_newer_answer_without_room_takes_the_older_one_with_it() -> None:
    kept = front()
    kept.put(entry(stored_s=1))
    kept.put(entry(stored_s=2, answer="x" * MOST_BYTES))
    assert kept.get(UUID(int=0), START) is None


def test_who_was_not_asked_for_the_longest_goes_first() -> None:
    kept = front(entries=2)
    kept.put(entry(1))
    kept.put(entry(2))
    kept.get(UUID(int=1), START)
    kept.put(entry(3))
    assert [kept.get(UUID(int=key), START) is not None for key in (1, 2, 3)] == [True, False, True]


def test_forgotten_is_what_the_predicate_says() -> None:
    kept = front()
    kept.put(entry(1, answer="wrong"))
    kept.put(entry(2, answer="right"))
    kept.forget(lambda one: one.answer == "wrong")
    assert kept.get(UUID(int=1), START) is None
    assert kept.get(UUID(int=2), START) is not None
    assert kept.bytes == size_of(entry(2, answer="right"))


def test_characters_outside_of_ascii_take_more_room() -> None:
    assert size_of(entry(answer="日本語")) > size_of(entry(answer="abc"))


seconds = st.integers(0, 20)
puts = st.builds(
    lambda key, stored_s, kept_s, length: ("put", entry(key, stored_s=stored_s, kept_s=kept_s, answer="x" * length)),
    st.integers(0, 7),
    seconds,
    seconds,
    st.integers(0, 7_000),
)
gets = st.tuples(st.just("get"), st.integers(0, 7), seconds)
forgets = st.tuples(st.just("forget"), st.integers(0, 7))


@given(st.lists(puts | gets | forgets, max_size=60))
def test_it_never_exceeds_its_bounds_nor_gives_what_is_expired_forgotten_or_replaced(steps: list[tuple]) -> None:  # type: ignore[type-arg]
    kept, put = front(), dict[UUID, list[Entry]]()
    for step in steps:
        match step:
            case ("put", Entry() as one):
                kept.put(one)
                put.setdefault(one.exact, []).append(one)
            case ("get", int(key), int(now)):
                found = kept.get(UUID(int=key), at(now))
                if found is not None:
                    assert found.keep_until > at(now)
                    assert found in put[found.exact]
            case ("forget", int(key)):
                kept.forget(lambda one, key=key: one.exact == UUID(int=key))  # type: ignore[misc]
                put.pop(UUID(int=key), None)
                assert kept.get(UUID(int=key), START) is None
        assert len(kept) <= MOST
        assert kept.bytes <= MOST_BYTES
        assert kept.bytes == sum(size_of(one) for one, _ in kept._entries.values())


@given(st.lists(st.tuples(seconds, st.booleans()), min_size=1, max_size=30))
def test_an_older_answer_never_takes_the_place_of_a_newer_one(stored: list[tuple[int, bool]]) -> None:
    kept, newest = front(), START
    for stored_s, large in stored:
        kept.put(entry(stored_s=stored_s, kept_s=1_000, answer="x" * (MOST_BYTES if large else 1)))
        found = kept.get(UUID(int=0), START)
        assert found is None or found.stored_at >= newest
        newest = START if found is None else found.stored_at  # of what is dropped nothing is known

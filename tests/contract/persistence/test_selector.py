"""Which entries an invalidation means: the database's answer against the same rules in Python."""

import json
import re
import unicodedata
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.cache.scope import normalised
from shared.events import LONGEST_TTL_S, CacheInvalidate, Selector
from tests.contract.persistence.conftest import Database, Persistence
from tests.support import make
from tests.support.clock import START

IDS = [UUID(int=number) for number in (1, 2)]
# Letters of several kinds, and what means something to LIKE, to regular expressions, to SQL, to JSON and to eyes.
ODD = "aAéÉe\u0301ßжЖ東3_%\\'\"`$^.*+?()[]{}|&!<>:;,-–“”’¿/ \t\n\u00a0\u2003\u3000"
texts = st.text(ODD, max_size=8) | st.sampled_from(["Tokyo", "tokyo earthquake", "École d'été", "100% a_b", "x'; --"])
said = texts.filter(lambda text: bool(text.strip()))


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


entries = st.fixed_dictionaries(
    {
        "entry_id": st.sampled_from(IDS),
        "scope": st.sampled_from(IDS),
        "tenant": st.sampled_from(["acme", "other"]),
        "prompt": texts.map(normalised),
        "model": st.sampled_from(["light", "gpt", "g'pt%"]),
        "tier": st.sampled_from(["light", "premium"]),
        "category": st.sampled_from(["static", "dynamic"]),
        "stored_at": st.integers(-5, 5).map(lambda seconds: START + timedelta(seconds=seconds)),
    }
)
selectors = (
    st.fixed_dictionaries(
        {},
        optional={
            "entry_id": maybe(st.sampled_from(IDS)),
            "prompt": maybe(said),
            "topic": maybe(said),
            "scope": maybe(st.sampled_from(IDS)),
            "tenant": maybe(st.sampled_from(["acme", "other"])),
            "model": maybe(st.sampled_from(["light", "premium", "gpt", "g'pt%", ""])),
            "category": maybe(st.sampled_from(["static", "dynamic", "%"])),
            "older_than_s": maybe(st.integers(0, 6) | st.just(LONGEST_TTL_S)),
            "everything": maybe(st.just(True)),
        },
    )
    .filter(lambda fields: any(value is not None for value in fields.values()))
    .map(Selector.model_validate)
)


def words(text: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[^\W_]+", unicodedata.normalize("NFC", text))}


def selected(entry: dict[str, Any], selector: Selector, at: datetime) -> bool:
    """The rules of Selector."""
    conditions: dict[str, Callable[[Any], bool]] = {
        "prompt": lambda value: entry["prompt"] == normalised(value),
        "topic": lambda value: bool(words(value)) and words(value) <= words(entry["prompt"]),
        "model": lambda value: value in (entry["model"], entry["tier"]),
        "older_than_s": lambda value: (at - entry["stored_at"]).total_seconds() >= value,
        "everything": lambda _: True,
    }
    return entry["stored_at"] <= at and all(
        conditions[name](value) if name in conditions else entry[name] == value
        for name, value in selector
        if value is not None
    )


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entry=entries, selector=selectors)
async def test_the_database_selects_as_the_rules_say(db: Database, entry: dict[str, Any], selector: Selector) -> None:
    found = await db.one(
        "SELECT forebay_selected(jsonb_populate_record(NULL::cache_entries, $1), $2, $3)",
        json.dumps(entry, default=str),
        selector.model_dump_json(),
        START,
    )
    assert found is selected(entry, selector, START)


@pytest.mark.parametrize(
    ("topic", "prompt", "found"),
    [
        ("tokyo earthquake", "Earthquake in TOKYO?", True),
        ("tokyo", "Tokyoites?", False),
        ("tokyo", "“Tokyo”_2026", True),
        ("ÉCOLE", "l’école", True),
        ("e\u0301cole", "École", True),
        ("100%", "100 percent", True),
        ("a.c", "abc", False),
        ("a.*", "abc", False),
        ("%", "anything", False),
        ("a'; DROP TABLE cache_entries; --", "drop a table: cache entries", True),
        ("x" * 1000, "X" * 5000 + "!", True),
    ],
)
async def test_a_topic_is_words_and_never_a_pattern(
    topic: str, prompt: str, found: bool, writer: Persistence, db: Database
) -> None:
    await writer.entries(make.completed(key=make.key(normalised(prompt))))
    assert await dry_run(db, Selector(topic=topic)) == found


@pytest.mark.parametrize("selector", ["{}", '{"tenant": null}', '{"tenant": "acme", "shape": "round"}'])
async def test_a_selector_that_says_nothing_or_something_unknown_means_none(
    selector: str, writer: Persistence, db: Database
) -> None:
    await writer.entries(make.completed())
    statement = "SELECT count(*) FROM cache_entries AS entry WHERE forebay_selected(entry, $1, $2)"
    assert await db.one(statement, selector, START) == 0


async def test_an_age_beyond_all_time_means_none(writer: Persistence, db: Database) -> None:
    await writer.entries(make.completed())
    statement = "SELECT count(*) FROM cache_entries AS entry WHERE forebay_selected(entry, $1, $2)"
    assert await db.one(statement, json.dumps({"older_than_s": 10**40}), START) == 0


@given(st.text(ODD + "\x1c\x85\u1680\u2028\ufeff\u200b", max_size=12))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_prompt_is_normalised_as_the_cache_does(db: Database, prompt: str) -> None:
    assert await db.one("SELECT forebay_normalised($1)", prompt) == normalised(prompt)


async def dry_run(db: Database, selector: Selector) -> int:
    """How many entries would go."""
    statement = "SELECT count(*) FROM cache_entries AS entry WHERE forebay_selected(entry, $1, $2)"
    return int(await db.one(statement, selector.model_dump_json(exclude_none=True), START))


@pytest.mark.parametrize(
    "fields",
    [{"tenant": "acme"}, {"topic": "number 3"}, {"model": "light", "older_than_s": 5}, {"everything": True}],
    ids=str,
)
async def test_a_dry_run_counts_what_goes(fields: dict[str, Any], writer: Persistence, db: Database) -> None:
    await writer.entries(
        *(
            make.completed(
                tenant="acme" if number % 3 else "other",
                key=make.key(f"Number {number}?", exact=make.new_id()),
                completed_at=START - timedelta(seconds=number),
            )
            for number in range(10)
        )
    )
    expected = await dry_run(db, Selector(**fields))
    assert expected > 0
    said = CacheInvalidate(invalidation_id=make.new_id(), selector=Selector(**fields), reason="", invalidated_at=START)
    await writer.records(said)
    assert await db.count("cache_entries") == 10 - expected


INDEXED = [{"entry_id": IDS[0]}, {"prompt": "a"}, {"topic": "a"}, {"scope": IDS[0]}, {"tenant": "a"}]


@pytest.mark.parametrize("fields", INDEXED, ids=str)
async def test_the_function_gives_way_to_an_index(fields: dict[str, Any], db: Database) -> None:
    selector = Selector(**fields).model_dump_json(exclude_none=True)
    async with db.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL enable_seqscan = off")
        plan = await connection.fetch(
            f"EXPLAIN SELECT FROM cache_entries AS entry WHERE forebay_selected(entry, '{selector}', now())"
        )
    assert "Seq Scan" not in (text := "\n".join(row[0] for row in plan))
    assert "forebay_selected" not in text

"""What a caller says about the cache."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.directives import MOST_S, cache_control
from shared.errors import InvalidRequest
from shared.events import CacheControl

NOTHING = CacheControl()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", NOTHING),
        ("no-cache", CacheControl(no_cache=True)),
        ("No-Cache", CacheControl(no_cache=True)),
        ("no-store", CacheControl(no_store=True)),
        ("no-cache, no-store", CacheControl(no_cache=True, no_store=True)),
        (" ,no-cache ,, no-store,", CacheControl(no_cache=True, no_store=True)),
        ("max-age=60", CacheControl(max_age_s=60)),
        ("MAX-AGE=60", CacheControl(max_age_s=60)),
        ('max-age="60"', CacheControl(max_age_s=60)),
        ("max-age=007", CacheControl(max_age_s=7)),
        ("no-store,max-age=60", CacheControl(no_store=True, max_age_s=60)),
        ("max-age=0", CacheControl(no_cache=True, max_age_s=0)),
        ("no-cache=whatever", CacheControl(no_cache=True)),
    ],
)
def test_the_directives_that_are_known(text: str, said: CacheControl) -> None:
    assert cache_control(text, pointer="p") == said


@pytest.mark.parametrize(
    "text",
    ["only-if-cached", "max-stale=5", "no-transform", "no-cachefoo", "x-no-store", "=no-cache", '"no-cache"', "@@"],
)
def test_what_is_unknown_is_ignored(text: str) -> None:
    assert cache_control(text, pointer="p") == NOTHING
    assert cache_control(f"{text}, max-age=5", pointer="p") == CacheControl(max_age_s=5)


@pytest.mark.parametrize("text", ['x="a, no-store, b"', r'x="a\", no-store, b"'])
def test_what_stands_in_a_quoted_string_is_no_directive(text: str) -> None:
    assert cache_control(text, pointer="p") == NOTHING
    assert cache_control(f"{text}, no-cache", pointer="p") == CacheControl(no_cache=True)


def test_of_several_ages_the_least_counts() -> None:
    assert cache_control("max-age=60, max-age=30, max-age=90", pointer="p").max_age_s == 30


def test_an_age_beyond_all_measure_is_cut() -> None:
    assert cache_control("max-age=" + "9" * 100, pointer="p").max_age_s == MOST_S


@pytest.mark.parametrize(
    "value", ["", "=", "=abc", "=-1", "=1.5", "=1e3", "=6 0", '="6', '="abc"', "=٣", "=60s", "= =60", "='60'"]
)
def test_an_age_that_is_no_number_of_seconds_is_refused(value: str) -> None:
    with pytest.raises(InvalidRequest, match="max-age wants a number of seconds") as raised:
        cache_control(f"no-cache, max-age{value}", pointer="Cache-Control")
    assert raised.value.pointer == "Cache-Control"


def test_a_header_too_long_to_be_one_is_refused_unread() -> None:
    with pytest.raises(InvalidRequest, match="at most 1000 characters"):
        cache_control(r'"\"' * 100_000, pointer="p")


@given(st.text(max_size=200) | st.text(alphabet='maxge-=019,"\\ no', max_size=200))
def test_any_text_is_understood_or_clearly_refused(text: str) -> None:
    try:
        said = cache_control(text, pointer="p")
    except InvalidRequest:
        assert "max-age" in text.lower()
    else:
        assert said.max_age_s is None or 0 <= said.max_age_s <= MOST_S
        assert not said.no_store or "no-store" in text.lower()

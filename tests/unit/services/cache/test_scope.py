"""Which earlier answers may be considered at all."""

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache.scope import HARMLESS, cache_key, exact_of, normalised, scope_of
from shared.events import CacheKey, Request
from tests.support import make

EMBEDDER = "model/1"
prompts = st.text(min_size=1).filter(lambda text: text.strip() and "\x00" not in text)


def key(prompt: str = "Hello?", **changes: Any) -> CacheKey:
    return cache_key(make.request(prompt, **changes), embedder=EMBEDDER)


@pytest.mark.parametrize(
    "circumstance",
    [
        {"tenant": "other"},
        {"model": "premium"},
        {"instructions": "You are a pirate."},
        {"instructions": ""},
        {"max_output_tokens": 5},
        {"temperature": 0.0},
        {"temperature": 2.0},
        {"input": ({"role": "assistant", "content": "Hi."}, {"role": "user", "content": "Hello?"})},
        {"input": ({"role": "user", "content": "Hi."}, {"role": "user", "content": "Hello?"})},
        {"input": ({"role": "user", "content": "Hi!"}, {"role": "user", "content": "Hello?"})},
    ],
    ids=repr,
)
def test_every_circumstance_that_changes_the_answer_changes_scope_and_key(circumstance: dict[str, Any]) -> None:
    assert key(**circumstance).scope != key().scope
    assert key(**circumstance).exact != key().exact


def test_another_embedding_model_is_another_scope() -> None:
    assert cache_key(make.request("Hello?"), embedder="model/2").scope != key().scope


def test_all_circumstances_are_told_apart() -> None:
    scopes = [
        key().scope,
        key(instructions="a").scope,
        key(input=({"role": "system", "content": "a"}, {"role": "user", "content": "Hello?"})).scope,
        key(input=({"role": "developer", "content": "a"}, {"role": "user", "content": "Hello?"})).scope,
        key(tenant="a").scope,
        key(model="light").scope,
    ]
    assert len(set(scopes)) == len(scopes)


@pytest.mark.parametrize(
    "circumstance",
    [
        {"id": make.new_id()},
        {"priority": "bulk"},
        {"metadata": {"k": "v"}},
        {"deadline": "2030-01-01T00:00:00Z"},
        {"webhook_url": "https://example.com/"},
        {"accepted_at": "2030-01-01T00:00:00Z"},
        {"digest": "d2"},
        {"replay": 1},
        {"reply": {"queue": "q"}},
        {"input": ({"role": "user", "content": "Hello?"},)},
    ],
    ids=repr,
)
def test_what_does_not_change_the_answer_changes_nothing(circumstance: dict[str, Any]) -> None:
    assert key(**circumstance) == key()


@given(prompts, prompts)
def test_the_prompt_changes_the_key_and_never_the_scope(one: str, other: str) -> None:
    assert key(one).scope == key(other).scope
    assert (key(one).exact == key(other).exact) == (normalised(one) == normalised(other))


@given(prompts)
def test_the_form_of_unicode_and_white_space_at_the_ends_mean_nothing(prompt: str) -> None:
    assert key(unicodedata.normalize("NFD", prompt)).exact == key(unicodedata.normalize("NFC", prompt)).exact
    assert key(f"  {prompt}\n").exact == key(prompt).exact


@pytest.mark.parametrize("other", ["hello?", "Hello ?", "Hel lo?", "Hello"])
def test_case_and_inner_white_space_mean_something(other: str) -> None:
    assert key(other).exact != key("Hello?").exact


def test_the_same_prompt_in_two_scopes_has_two_keys() -> None:
    assert key(tenant="a").exact != key(tenant="b").exact


@given(prompts)
def test_keys_are_uuids_of_version_8_and_always_the_same(prompt: str) -> None:
    made = key(prompt)
    assert made == key(prompt)
    assert {made.scope.version, made.exact.version} == {8}
    assert made.prompt == normalised(prompt)
    assert made.embedding is None


# Another value than the default for each field that is part of the scope: a field somebody adds needs one too.
CHANGES: dict[str, Any] = {
    "instructions": "You are a pirate.",
    "model": "premium",
    "max_output_tokens": 5,
    "temperature": 0.5,
    "top_p": 0.5,
    "text": {"format": {"type": "json_object"}},
}


def test_every_field_of_a_request_is_part_of_its_scope_or_named_harmless() -> None:
    assert set(Request.model_fields) == set(CHANGES) | HARMLESS


@pytest.mark.parametrize("field", sorted(set(Request.model_fields) - HARMLESS))
def test_each_field_that_is_not_named_harmless_changes_the_scope(field: str) -> None:
    assert key(**{field: CHANGES[field]}).scope != key().scope


def test_a_field_that_somebody_adds_divides_the_cache() -> None:
    class Newer(Request):
        seed: int | None = None

    def newer(**changes: Any) -> CacheKey:
        return cache_key(Newer.model_validate(make.request("Hello?").model_dump() | changes), embedder=EMBEDDER)

    assert newer(seed=1).scope != newer(seed=2).scope
    assert newer(seed=0).scope != newer().scope
    assert newer() == key()  # one that is not used changes no key


@given(st.sets(st.sampled_from(sorted(CHANGES))))
def test_fields_that_say_nothing_do_not_matter(said: set[str]) -> None:
    changes = {field: CHANGES[field] for field in said}
    silent: dict[str, Any] = {field: None for field in CHANGES if field not in said and field != "model"}
    assert key(**changes) == key(**changes, **silent)


@given(st.sets(st.sampled_from(sorted(CHANGES))), st.sets(st.sampled_from(sorted(CHANGES))))
def test_two_requests_are_of_one_scope_where_they_say_the_same(one: set[str], other: set[str]) -> None:
    scopes = [key(**{field: CHANGES[field] for field in said}).scope for said in (one, other)]
    assert (scopes[0] == scopes[1]) == (one == other)


@pytest.mark.parametrize("schema", [{}, {"const": None}, {"const": 0}, {"const": False}], ids=repr)
def test_a_schema_that_names_null_is_another_than_one_that_does_not(schema: dict[str, Any]) -> None:
    def of(this: dict[str, Any]) -> CacheKey:
        return key(text={"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"} | this}})

    others: list[dict[str, Any]] = [{}, {"const": None}, {"const": 0}, {"const": False}]
    assert [of(other).scope == of(schema).scope for other in others] == [
        repr(other) == repr(schema) for other in others
    ]


def pooled(tenant: str, pool: str | None) -> CacheKey:
    return cache_key(make.request("Hello?", tenant=tenant), embedder=EMBEDDER, pool=pool)


def test_the_tenants_of_a_pool_share_and_no_others() -> None:
    assert pooled("a", "both") == pooled("b", "both")
    assert pooled("a", "both").scope != pooled("a", None).scope
    assert pooled("a", "both").scope != pooled("a", "others").scope
    assert pooled("both", None).scope != pooled("a", "both").scope  # a tenant by the name of a pool


def test_two_embedders_differ_in_the_scope_only_so_that_entries_can_move() -> None:
    one, other = (cache_key(make.request("Hello?"), embedder=name) for name in ("model/1", "model/2"))
    assert (one.base, one.prompt) == (other.base, other.prompt)
    assert one.scope != other.scope
    for found in (one, other):
        assert found.base is not None
        assert found.scope == scope_of(found.base, found.embedder)
        assert found.exact == exact_of(found.scope, found.prompt)

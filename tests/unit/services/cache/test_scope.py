"""Which earlier answers may be considered at all."""

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache.scope import cache_key, normalised
from shared.events import CacheKey
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

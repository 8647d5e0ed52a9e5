"""How long an answer may be reused, by the policy that ships and by those of tests."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.freshness.judgement import FreshnessJudge
from services.router.vectors import Embedding
from shared.embedding.builtin import Embedder
from shared.events import CacheControl
from shared.policy import load_policy
from shared.settings import packaged_policy
from tests.support import make
from tests.support.clock import ManualClock

EVERYDAY = [
    tuple(line.split("\t"))
    for line in Path(__file__).with_name("everyday.tsv").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
SHIPPED = FreshnessJudge(load_policy(packaged_policy()).freshness, ManualClock())
# "How is the weather predicted?" is taken for a question about the weather, for one.
MOST_WRONG = 0.02
TENANT = {"acme": {"default": "dynamic", "ttl": {"static": "1h", "dynamic": "none"}}}


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder()


def test_everyday_prompts_are_judged_as_people_would(embedder: Embedder) -> None:
    vectors = embedder.embed_now([prompt for _, prompt in EVERYDAY])
    wrong = [
        (category, prompt, judged.category, judged.reason)
        for (category, prompt), vector in zip(EVERYDAY, vectors, strict=True)
        if (judged := SHIPPED.judge(make.request(prompt), Embedding(vector, embedder.version))).category != category
    ]
    assert len(EVERYDAY) > 100
    assert len(wrong) / len(EVERYDAY) <= MOST_WRONG, wrong


@pytest.mark.parametrize(
    "prompt",
    [
        "Act as a financial adviser: what is the price of gold today?",
        "Give me this morning's headlines",
        "Write this week's weather report for London",
        "Draft an email with today's exchange rate for USD to EUR",
        "What is the weather in Paris today?",
        "Who is the CEO of Apple?",
    ],
)
def test_what_has_to_be_known_of_today_is_no_task(prompt: str) -> None:
    assert SHIPPED.judge(make.request(prompt)).ttl_s == 900


@pytest.mark.parametrize(
    "prompt", ["Translate: what's the weather today?", "Rewrite this text: the latest news are good"]
)
def test_what_is_handed_over_is_a_task(prompt: str) -> None:
    judged = SHIPPED.judge(make.request(prompt))
    assert judged.category == "static"
    assert judged.reason.startswith("task: ")


def test_another_embedders_vector_is_not_used() -> None:
    request = make.request("Name the longest river of Africa.")
    other = Embedding(np.eye(1, 384, dtype=np.float32)[0], "openai/other/384")
    assert SHIPPED.judge(request, other) == SHIPPED.judge(request)
    assert "without the embedding" in SHIPPED.judge(request).reason


def test_a_tenant_has_times_of_its_own() -> None:
    judge = FreshnessJudge(make.policy(freshness__tenants=TENANT).freshness, ManualClock())
    ours, theirs = (judge.judge(make.request("What is on today?", tenant=tenant)) for tenant in ("acme", "globex"))
    assert (ours.category, ours.ttl_s, theirs.ttl_s) == ("dynamic", 0, 900)


@given(st.integers(0, 10**7) | st.none())
def test_the_caller_may_shorten_and_never_lengthen(max_age_s: int | None) -> None:
    request = make.request("What is the capital of France?", cache_control=CacheControl(max_age_s=max_age_s))
    ttl_s = SHIPPED.judge(request).ttl_s
    assert ttl_s == min(604_800, max_age_s or 604_800)


@given(st.text(max_size=400))
def test_any_prompt_has_a_category_and_a_reason(text: str) -> None:
    judged = SHIPPED.judge(make.request("x" + text.replace("\x00", "")))
    assert judged.reason
    assert judged.category in ("static", "dynamic", "daily")

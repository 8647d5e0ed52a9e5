"""How long an answer may be reused, by the policy that ships and by those of tests."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.freshness.classifier import Classifier, Network
from services.router.freshness.features import names
from services.router.freshness.judgement import FreshnessJudge
from services.router.freshness.reading import Reader
from services.router.vectors import Embedding
from shared.embedding.builtin import Embedder
from shared.errors import StartupError
from shared.events import CacheControl
from shared.policy import load_policy
from shared.policy.freshness import HORIZONS
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


def certain(chance: float) -> Classifier:
    """A classifier that takes any prompt to change with this probability within any time."""
    features, horizons = names(Reader().classes), len(HORIZONS)

    def network(inputs: int) -> Network:
        shapes = ((inputs, horizons), (inputs, 1), (1,), (1, horizons))
        direct, hidden, lift, output = (np.zeros(shape, np.float32) for shape in shapes)
        return Network(direct, hidden, lift, output, np.full(horizons, np.log(chance / (1 - chance)), np.float32))

    return Classifier("v1", "test/1", features, network(len(features) + 2), network(len(features)))


def test_words_come_before_rules_whichever_category_is_first() -> None:
    categories = {"static": {"ttl": "7d", "rules": ["task"]}, "dynamic": {"ttl": "15m", "words": ["quarterly figures"]}}
    judge = FreshnessJudge(make.policy(freshness__categories=categories).freshness, ManualClock())
    judged = judge.judge(make.request("Summarize this: the quarterly figures"))
    assert (judged.category, judged.reason) == ("dynamic", "the prompt says 'quarterly figures'")
    assert judge.judge(make.request("Summarize this: the figures")).category == "static"


@given(st.permutations(["month", "surely", "week", "ever"]), st.sampled_from([0.5, 0.7, 0.9]))
def test_the_shortest_horizon_wins_and_of_one_horizon_the_highest_probability(order: list[str], chance: float) -> None:
    cuts = {"week": ("7d", 0.4), "surely": ("7d", 0.8), "month": ("30d", 0.3), "ever": ("ever", 0.3)}
    categories = {name: {"ttl": "1h", "changes_within": cuts[name][0], "probability": cuts[name][1]} for name in order}
    policy = make.policy(freshness__categories=categories, freshness__default="ever").freshness
    judged = FreshnessJudge(policy, ManualClock(), certain(chance)).judge(make.request())
    assert judged.category == ("surely" if chance > 0.8 else "week")


def test_weights_for_another_lexicon_are_refused() -> None:
    other = replace(certain(0.5), features=("a", "b"))
    with pytest.raises(StartupError, match=r"run python -m infra\.training\.freshness"):
        FreshnessJudge(load_policy(packaged_policy()).freshness, ManualClock(), other)


@pytest.mark.parametrize(
    ("prompt", "tenant", "category", "reason"),
    [
        ("Name a river.", "globex", "static", "nothing in the prompt says that the answer changes: the default"),
        (
            "Name a river.",
            "acme",
            "dynamic",
            "nothing in the prompt says that the answer changes: the tenant's default",
        ),
        ("Qui est le président ?", "globex", "slow", "not English: the default for other languages"),
        ("Qui est le président ?", "acme", "dynamic", "not English: the tenant's default"),
        ("Qui est le président ?", "initech", "static", "not English: the tenant's default for other languages"),
    ],
)
def test_the_reason_says_whose_default_was_taken(prompt: str, tenant: str, category: str, reason: str) -> None:
    policy = make.policy(
        freshness__categories__slow={"ttl": "1h"},
        freshness__classifier={"enabled": False},
        freshness__not_english="slow",
        freshness__tenants=TENANT | {"initech": {"default": "slow", "not_english": "static"}},
    )
    judged = FreshnessJudge(policy.freshness, ManualClock()).judge(make.request(prompt, tenant=tenant))
    assert (judged.category, judged.reason) == (category, reason)


def test_the_classifiers_reason_says_whose_default_was_taken_too() -> None:
    policy = make.policy(
        freshness__categories__dynamic={"ttl": "15m", "changes_within": "7d", "probability": 0.4},
        freshness__categories__slow={"ttl": "1h"},
        freshness__tenants={"acme": {"default": "slow"}},
    )
    judged = FreshnessJudge(policy.freshness, ManualClock(), certain(0.1)).judge(make.request(tenant="acme"))
    assert judged.reason == (
        "classifier without the embedding: the answer changes with probability 0.10 within 7d: the tenant's default"
    )


def test_what_the_operators_words_know_is_known_in_any_language() -> None:
    dynamic = {"ttl": "15m", "words": ["météo"]}
    judge = FreshnessJudge(make.policy(freshness__categories__dynamic=dynamic).freshness, ManualClock())
    assert judge.judge(make.request("Quelle est la météo de la semaine ?")).category == "dynamic"


def test_a_tenant_has_times_of_its_own() -> None:
    judge = FreshnessJudge(make.policy(freshness__tenants=TENANT).freshness, ManualClock())
    ours, theirs = (judge.judge(make.request("What is on today?", tenant=tenant)) for tenant in ("acme", "globex"))
    assert (ours.category, ours.ttl_s, theirs.ttl_s) == ("dynamic", 0, 900)


@given(st.integers(0, 10**7) | st.none())
def test_the_caller_may_shorten_and_never_lengthen(max_age_s: int | None) -> None:
    request = make.request("What is the capital of France?", cache_control=CacheControl(max_age_s=max_age_s))
    judged = SHIPPED.judge(request)
    assert judged.ttl_s == min(604_800, max_age_s or 604_800)
    assert judged.max_age_s == (judged.ttl_s if judged.ttl_s < 604_800 else None)
    assert "max-age" not in judged.reason  # which is kept with the entry, and with what takes its place


@given(st.text(max_size=400))
def test_any_prompt_has_a_category_and_a_reason(text: str) -> None:
    judged = SHIPPED.judge(make.request("x" + text.replace("\x00", "")))
    assert judged.reason
    assert judged.category in ("static", "dynamic", "daily")

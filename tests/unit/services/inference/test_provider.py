"""What providers do, as one of our errors; against a SIMULATED provider on loopback (tests/support)."""

import math
import socket
from collections.abc import AsyncIterator
from typing import Any

import litellm
import pytest
import pytest_asyncio

from infra.simulator.openai import vector
from infra.simulator.reply import Reply
from infra.simulator.scenario import Answer, Scenario
from services.inference.completion import Completion, Embedded
from services.inference.errors import (
    ContentFiltered,
    ContextWindowExceeded,
    ProviderAuth,
    ProviderError,
    ProviderFault,
    ProviderMissing,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnreachable,
    RateLimited,
)
from services.inference.provider import Provider, retry_after_s, translated
from shared.events import Usage
from shared.policy import Policy
from tests.support import make
from tests.support.simulated_provider import (
    EMPTY_CHOICES,
    GARBAGE,
    STALL,
    TEXT,
    SimulatedProvider,
    answer,
    embeddings,
    error,
    raw,
)

pytestmark = [
    # litellm keeps its HTTP clients by event loop.
    pytest.mark.asyncio(loop_scope="module"),
    # pydantic, about the types of litellm's answers.
    pytest.mark.filterwarnings("ignore:Item .* is using the `ReadOnly` qualifier:UserWarning"),
]

POLICY = make.policy()
DIMENSIONS = 4
SCENARIO = Scenario(answer=Answer(dimensions=DIMENSIONS))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[SimulatedProvider]:
    async with SimulatedProvider(SCENARIO).serving() as simulated:
        yield simulated
        await litellm.close_litellm_async_clients()  # type: ignore[attr-defined,no-untyped-call]  # lazily theirs


@pytest.fixture
def simulated(server: SimulatedProvider) -> SimulatedProvider:
    server.expect()
    return server


async def call(
    simulated: SimulatedProvider,
    *script: Reply,
    policy: Policy = POLICY,
    tier: str = "light",
    timeout_s: float = 5,
    **request: Any,
) -> Completion:
    simulated.expect(*script)
    provider = Provider(policy, local_model_url=simulated.url)
    terms = policy.tiers[tier]
    return await provider.complete(make.request(**request), terms, terms.lanes[0], timeout_s=timeout_s)


async def test_an_answer_comes_with_its_usage(simulated: SimulatedProvider) -> None:
    completion = await call(simulated, answer(input_tokens=11, output_tokens=4))
    assert (completion.text, completion.finish_reason) == (TEXT, "stop")
    assert (completion.usage.input_tokens, completion.usage.output_tokens) == (11, 4)


async def test_the_provider_is_told_what_was_asked(simulated: SimulatedProvider) -> None:
    turns = (
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Who are you?"},
    )
    await call(simulated, input=turns, instructions="You are a clerk.", temperature=0.0, max_output_tokens=9)
    (sent,) = simulated.calls
    assert sent["model"] == "tiny"
    assert sent["messages"] == [{"role": "system", "content": "You are a clerk."}, *turns]
    assert (sent["max_tokens"], sent["temperature"]) == (9, 0.0)


async def test_what_was_not_said_is_left_to_the_provider_and_tokens_to_the_tier(simulated: SimulatedProvider) -> None:
    await call(simulated)
    (sent,) = simulated.calls
    assert sent["max_tokens"] == 100
    assert sent.get("temperature") is None
    assert [message["role"] for message in sent["messages"]] == ["user"]


async def test_sampling_and_output_format_arrive(simulated: SimulatedProvider) -> None:
    schema = {"type": "object", "properties": {"city": {"type": ["string", "null"]}}, "required": ["city"]}
    said = {"type": "json_schema", "name": "capital", "schema": schema, "strict": True}
    await call(simulated, top_p=0.25, text={"format": said})
    (sent,) = simulated.calls
    assert sent["top_p"] == 0.25
    assert sent["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "capital", "schema": schema, "strict": True},
    }


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        (None, None),
        ({"format": {"type": "text"}}, None),
        ({"format": {"type": "json_object"}}, {"type": "json_object"}),
        (
            {"format": {"type": "json_schema", "name": "n", "schema": {}}},
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
        ),
    ],
)
async def test_a_format_is_told_in_the_words_of_chat_completions(
    simulated: SimulatedProvider, text: object, sent: object
) -> None:
    await call(simulated, text=text)
    assert simulated.calls[0].get("response_format") == sent
    assert simulated.calls[0].get("top_p") is None


async def test_a_request_never_gets_more_tokens_than_its_tier_may_give(simulated: SimulatedProvider) -> None:
    await call(simulated, max_output_tokens=150)
    assert simulated.calls[0]["max_tokens"] == 100


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        pytest.param(error(429), RateLimited, id="429"),
        pytest.param(error(429, code="insufficient_quota"), ProviderAuth, id="429 quota"),
        pytest.param(error(500), ProviderFault, id="500"),
        pytest.param(error(502), ProviderFault, id="502"),
        pytest.param(error(503), ProviderFault, id="503"),
        pytest.param(error(504), ProviderTimeout, id="504"),
        pytest.param(error(529), ProviderFault, id="529"),
        pytest.param(error(400), ProviderRefused, id="400"),
        pytest.param(error(401), ProviderAuth, id="401"),
        pytest.param(error(402), ProviderAuth, id="402"),
        pytest.param(error(403), ProviderAuth, id="403"),
        pytest.param(error(404), ProviderMissing, id="404"),
        pytest.param(error(408), ProviderTimeout, id="408"),
        pytest.param(error(413), ProviderRefused, id="413"),
        pytest.param(error(422), ProviderRefused, id="422"),
        pytest.param(error(418), ProviderRefused, id="418"),
        pytest.param(raw("<html>Bad</html>", 500), ProviderFault, id="500 no JSON"),
        pytest.param(raw("", 502), ProviderFault, id="502 empty"),
        pytest.param(
            error(400, "This model's maximum context length is 8 tokens.", code="context_length_exceeded"),
            ContextWindowExceeded,
            id="context window",
        ),
        pytest.param(
            error(400, "The response was filtered: invalid_request_error, content_policy_violation"),
            ContentFiltered,
            id="flagged prompt",
        ),
        pytest.param(
            error(400, "The prompt was flagged.", code="content_policy_violation"),
            ContentFiltered,
            id="flagged prompt, by code",
        ),
        pytest.param(answer(finish_reason="content_filter"), ContentFiltered, id="filtered answer"),
        pytest.param(answer(None, finish_reason="content_filter"), ContentFiltered, id="filtered whole answer"),
        pytest.param(GARBAGE, ProviderFault, id="garbage"),
        pytest.param(raw({}), ProviderFault, id="empty object"),
        pytest.param(raw([]), ProviderFault, id="a list"),
        pytest.param(EMPTY_CHOICES, ProviderFault, id="no choices"),
        pytest.param(answer(None), ProviderFault, id="null text"),
        pytest.param(answer(""), ProviderFault, id="no text"),
        pytest.param(answer(" \n"), ProviderFault, id="blank text"),
        pytest.param(answer("", finish_reason="length"), ProviderRefused, id="tokens used up"),
    ],
)
async def test_every_way_to_fail_is_one_of_our_errors(
    simulated: SimulatedProvider, outcome: Reply, kind: type[ProviderError]
) -> None:
    with pytest.raises(ProviderError) as raised:
        await call(simulated, outcome)
    assert type(raised.value) is kind
    assert str(raised.value)
    assert len(str(raised.value)) < 600


async def test_one_failure_is_one_call_retries_are_ours(simulated: SimulatedProvider) -> None:
    with pytest.raises(ProviderFault):
        await call(simulated, error(500), error(500), error(500))
    with pytest.raises(RateLimited):
        await call(simulated, error(429), error(429), error(429))
    assert len(simulated.calls) == 1


async def test_a_provider_that_does_not_answer_in_time_is_a_timeout(simulated: SimulatedProvider) -> None:
    with pytest.raises(ProviderTimeout):
        await call(simulated, STALL, timeout_s=0.2)


async def test_a_provider_that_is_not_there_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    provider = Provider(POLICY, local_model_url=f"http://127.0.0.1:{port}/v1")
    terms = POLICY.tiers["light"]
    with pytest.raises(ProviderError) as raised:
        await provider.complete(make.request(), terms, terms.lanes[0], timeout_s=5)
    assert raised.value.retryable
    assert type(raised.value) is ProviderUnreachable


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "0.5"}, 0.5),
        ({"retry_after_ms": "250"}, 0.25),
        ({"retry_after_ms": "250", "retry_after": "7"}, 0.25),
        ({"retry_after_ms": "soon", "retry_after": "7"}, 7.0),
        ({"retry_after": "-3"}, 0.0),
        ({"retry_after": "soon"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_when_to_come_back_is_read(
    simulated: SimulatedProvider, status: int, headers: dict[str, str], seconds: float | None
) -> None:
    with pytest.raises(ProviderError) as raised:
        await call(simulated, error(status, **headers))
    assert raised.value.retry_after_s == seconds


async def test_when_to_come_back_may_be_a_date(simulated: SimulatedProvider) -> None:
    with pytest.raises(ProviderError) as raised:
        await call(simulated, error(429, retry_after="Fri, 31 Dec 2100 23:59:59 GMT"))
    assert raised.value.retry_after_s is not None
    assert raised.value.retry_after_s > 0


async def test_an_answer_cut_by_its_limit_is_an_answer(simulated: SimulatedProvider) -> None:
    assert (await call(simulated, answer("Par", finish_reason="length"))).finish_reason == "length"


@pytest.mark.parametrize(("text", "stored"), [("a\x00b", "a\ufffdb"), ("🦫 ok", "🦫 ok"), ("a\ud800b", "a\ufffdb")])
async def test_what_cannot_be_stored_is_replaced(simulated: SimulatedProvider, text: str, stored: str) -> None:
    assert (await call(simulated, answer(text))).text == stored


async def test_the_policys_price_counts_before_any_list(simulated: SimulatedProvider) -> None:
    completion = await call(simulated, answer(input_tokens=1000, output_tokens=500))
    assert completion.cost_usd == pytest.approx((1000 * 1.0 + 500 * 2.0) / 1e6)


async def test_a_tier_costs_what_the_model_it_stands_for_costs(simulated: SimulatedProvider) -> None:
    policy = make.policy(tiers__light__price_as="gpt-4o-mini")
    completion = await call(simulated, answer(input_tokens=1_000_000, output_tokens=0), policy=policy)
    assert completion.cost_usd == pytest.approx(litellm.model_cost["gpt-4o-mini"]["input_cost_per_token"] * 1e6)
    assert completion.cost_usd > 0


async def test_a_model_nobody_knows_the_price_of_costs_nothing_and_is_warned_of_once(
    simulated: SimulatedProvider, logged: list[Any]
) -> None:
    policy = make.policy(prices={})
    completion = await call(simulated, policy=policy)
    assert completion.cost_usd == 0.0
    assert sorted(line["model"] for line in logged if "no list price" in line["event"]) == ["local/large", "local/tiny"]


class Foreign(Exception):
    """An error of a kind nobody has seen."""

    def __init__(self, status_code: object = None, headers: object = None) -> None:
        super().__init__("foreign\x00")
        self.status_code = status_code
        self.headers = headers


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (None, ProviderFault),
        ("429", ProviderFault),
        (418, ProviderRefused),
        (402, ProviderAuth),
        (429, RateLimited),
        (599, ProviderFault),
    ],
)
async def test_an_unknown_error_is_judged_by_its_status(status: object, kind: type[ProviderError]) -> None:
    found = translated(Foreign(status))
    assert type(found) is kind
    assert str(found) == "foreign\ufffd"


@pytest.mark.parametrize("headers", [None, {}, {"retry-after": None}, [], {"retry-after": "1"}])
async def test_headers_of_any_kind_are_no_error(headers: object) -> None:
    assert retry_after_s(Foreign(headers=headers)) == (1.0 if headers == {"retry-after": "1"} else None)


async def test_a_time_that_is_no_number_is_no_time() -> None:
    found = retry_after_s(Foreign(headers={"retry-after": "nan"}))
    assert found is None or not math.isfinite(found)


async def embed(
    simulated: SimulatedProvider,
    *script: Reply,
    texts: tuple[str, ...] = ("one", "two"),
    model: str = "local/vectors",
    dimensions: int | None = None,
    policy: Policy = POLICY,
) -> Embedded:
    simulated.expect(*script)
    provider = Provider(policy, local_model_url=simulated.url)
    return await provider.embed(list(texts), model, dimensions=dimensions, timeout_s=5)


async def test_vectors_come_in_the_order_of_their_texts(simulated: SimulatedProvider) -> None:
    embedded = await embed(simulated)
    assert embedded.vectors == [vector("one", DIMENSIONS), vector("two", DIMENSIONS)]
    (sent,) = simulated.calls
    assert (sent["model"], sent["input"], sent["encoding_format"]) == ("vectors", ["one", "two"], "float")


async def test_a_model_that_can_shorten_its_vectors_is_asked_to(
    simulated: SimulatedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    await embed(simulated, model="local/vectors", dimensions=8)
    assert "dimensions" not in simulated.calls[0]
    monkeypatch.setenv("OPENAI_API_KEY", "simulated")
    monkeypatch.setenv("OPENAI_BASE_URL", simulated.url)
    embedded = await embed(simulated, model="openai/text-embedding-3-small", dimensions=8)
    assert simulated.calls[0]["dimensions"] == 8
    assert [len(vector) for vector in embedded.vectors] == [8, 8]


async def test_vectors_cost_what_the_list_or_the_policy_says(simulated: SimulatedProvider) -> None:
    vectors = embeddings([[1.0], [1.0]], input_tokens=1_000_000)
    policy = make.policy(prices={"local/vectors": {"input": 0.5, "output": 0}})
    assert (await embed(simulated, vectors, policy=policy)).cost_usd == pytest.approx(0.5)
    assert (await embed(simulated, vectors)).cost_usd == 0
    assert (await embed(simulated, vectors)).input_tokens == 1_000_000
    listed = Provider(POLICY, local_model_url=simulated.url).price(
        "openai/text-embedding-3-small", Usage(input_tokens=1_000_000, output_tokens=0)
    )
    assert listed == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        pytest.param(error(429, retry_after="7"), RateLimited, id="429"),
        pytest.param(error(500), ProviderFault, id="500"),
        pytest.param(error(400), ProviderRefused, id="400"),
        pytest.param(error(401), ProviderAuth, id="401"),
        pytest.param(GARBAGE, ProviderFault, id="garbage"),
        pytest.param(raw({}), ProviderFault, id="empty object"),
        pytest.param(embeddings([[1.0]]), ProviderFault, id="too few"),
        pytest.param(embeddings([[1.0], []]), ProviderFault, id="an empty one"),
        pytest.param(embeddings([[1.0], ["x"]]), ProviderFault, id="words"),  # type: ignore[list-item]  # as it may come
    ],
)
async def test_embeddings_fail_as_one_of_our_errors(
    simulated: SimulatedProvider, outcome: Reply, kind: type[ProviderError]
) -> None:
    with pytest.raises(ProviderError) as raised:
        await embed(simulated, outcome)
    assert type(raised.value) is kind
    assert raised.value.retry_after_s == (7.0 if kind is RateLimited else None)
    assert len(simulated.calls) == 1
